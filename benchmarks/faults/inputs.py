"""Input files that are half written, or corrupt."""

import shutil
from math import ceil
from pathlib import Path

from benchmarks.faults.corruption import KINDS, corrupt
from benchmarks.faults.fault import Fault
from benchmarks.faults.lab import CLI
from benchmarks.faults.scene import Scene

WATCHING = ("--still", "0.5", "--poll", "0.1", "--quiet", "600", "--idle-exit", "4")


def half_written_run(scene: Scene) -> None:
    """Run while one file is half there; run again when it is whole, and have the objects in the order of time."""
    raw = shutil.copytree(scene.lab.raw, scene.folder / "raw")
    victim = raw / scene.rng.choice(scene.lab.images).name
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    command = scene.start(raw)
    again = list(command.args)
    scene.ended(command)
    codes = [one["code"] for one in scene.summary(0).get("quarantined", ())]
    scene.require(codes == ["truncated"], f"quarantined as {', '.join(codes)}")
    scene.strike(lambda: victim.write_bytes(content))
    scene.finish(scene.again(again))
    # An object has the id of what was published first of it, which was not what was taken first.
    scene.finish(scene.again([*CLI, "associate", str(scene.out), "--rebuild", "--json"]))


def half_written_watch(scene: Scene) -> None:
    """Write one file so slowly that the stream takes it for whole when it is half there."""
    arriving = scene.folder / "arriving"
    arriving.mkdir()
    command = scene.start(arriving, verb="watch", options=WATCHING)
    slow = scene.rng.choice(scene.lab.images)
    content = slow.read_bytes()
    deliver(scene.lab.raw, arriving, {slow.name})
    scene.until(lambda: scene.done() >= 1, command)
    scene.strike(lambda: (arriving / slow.name).write_bytes(content[: len(content) // 2]))
    pattern = f"quarantine/{slow.name}-*.json"
    scene.until(lambda: list(scene.out.glob(pattern)), command)
    scene.require("truncated" in next(scene.out.glob(pattern)).read_text(), "quarantined as truncated")
    with (arriving / slow.name).open("ab") as file:
        file.write(content[len(content) // 2 :])
    scene.finish(command)
    done = scene.summary(0)["exposures"]["done"]
    scene.require(done == scene.lab.size.exposures, f"the first watch did all {done}")


def corrupt_exposures(scene: Scene) -> None:
    """Run with a tenth or more of the exposures corrupt."""
    bad, images = scene.folder / "bad", scene.lab.images
    bad.mkdir()
    count = max(len(KINDS), ceil(len(images) / 9))
    for number in range(1, count + 1):
        corrupt(KINDS[number % len(KINDS)], scene.rng.choice(images), bad, number, scene.rng)
    scene.finish(scene.start(scene.lab.raw, bad), 3)
    codes = sorted(one["code"] for one in scene.summary(0)["quarantined"])
    share = count / (count + len(images))
    scene.require(len(codes) == count, f"{count} ({share:.0%}) are quarantined: {', '.join(sorted(set(codes)))}")


def deliver(raw: Path, folder: Path, but: set[str] = frozenset(), visit: str = "ztf_") -> None:
    """Move the files of a night in, under another name first, and what goes with an image before the image.

    Parameters
    ----------
    raw, folder
        From where, and where to.
    but
        Names of files that are left out.
    visit
        How the names begin.
    """
    for path in sorted(raw.glob(f"{visit}*"), key=lambda path: "scimrefdiffimg" in path.name):
        if path.name not in but:
            shutil.copyfile(path, folder / f".{path.name}")
            (folder / f".{path.name}").rename(folder / path.name)


FAULTS = (
    Fault(
        "file half written, run",
        "a file is cut at half its length; completed, the same again, and `associate --rebuild`",
        half_written_run,
        (3, 0, 0),
    ),
    Fault(
        "file half written, watch",
        "a file stays half written for longer than `--still`, is completed after it was quarantined",
        half_written_watch,
    ),
    Fault(
        "corrupt exposures",
        "a tenth and more of the exposures, in eight ways; compared with the night without them",
        corrupt_exposures,
        codes=(3,),
    ),
)
