"""Files of every form, each with one fault: it must be used, or refused with a reason, in little time and memory.

    python -m benchmarks.guard.mutated_files --count 20000 --seed 1

simulates a good exposure of each form, and reads each mutated file in a process of its own, as a run reads it. Exit
code 1 if one ends otherwise than used or refused (an escape), takes longer than `SLOW_S`, or more than `MORE` times the
memory that the good file takes. What is found is printed with its seed; ``--only FORM:SEED`` does one again, and shows
its traceback.
"""

import json
import os
import select
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.command_line import command_line

SLOW_S, MORE = 5.0, 4.0
"""Maximum processor time for a file, s; its maximum memory as a multiple of the good file's."""

PATIENCE_S, ROUNDS = 30.0, 20
"""Elapsed time, s, after which a file whose reader waits for something counts as an escape; and a factor on it for a
reader that works or waits for a processor."""

SIDE = (400, 410)
"""Sides of the images, px: their pixels take more memory than the reader itself."""


@dataclass(frozen=True)
class Form:
    """Good exposure, and the one of its files that is changed."""

    name: str
    files: tuple[Path, ...]
    changed: Path


@dataclass(frozen=True)
class Found:
    """What came of a file: "used", the code of a refusal or an escape; processor time, s; its own memory, bytes."""

    verdict: str
    seconds: float
    memory: int
    escaped: bool = False


def good_forms(folder: Path) -> list[Form]:
    """Simulate an exposure of each form."""
    from astropy.io import fits

    from flows.simulation.night import SimulatedNight, simulate_night
    from flows.simulation.presets import find_preset

    made = {}
    for name, preset, form in (("ztf", "ztf", "fits"), ("rubin", "rubin", "fits"), ("llnl", "llnl", "npz")):
        night = SimulatedNight(find_preset(preset, 3, SIDE), 11, 1, 1, folder / name, form=form)
        made[name] = {path.name: path for path in simulate_night(night).files}
    with fits.open(_named(made["ztf"], "scimrefdiffimg")) as hdus:
        plain = folder / "plain" / _named(made["ztf"], "scimrefdiffimg").with_suffix("").name
        plain.parent.mkdir()
        pixels = hdus[1].data.copy()
        pixels[:8, :8] = 0  # without sky: what marks it is loaded with the good file, not with the first that needs it
        fits.PrimaryHDU(pixels, hdus[1].header).writeto(plain)
    whole = tuple(made["ztf"].values())
    parts = {"compressed": "scimrefdiffimg", "science": "sciimg", "psf": "diffimgpsf"}
    return [
        Form("plain", (plain,), plain),
        *(Form(name, whole, _named(made["ztf"], part)) for name, part in parts.items()),
        Form("rubin", tuple(made["rubin"].values()), _named(made["rubin"], "differenceExp")),
        Form("npz", tuple(made["llnl"].values()), _named(made["llnl"], "difference_images")),
    ]


def _named(files: Mapping[str, Path], part: str) -> Path:
    return next(path for name, path in files.items() if part in name)


def read(form: Form, seed: int | None) -> str:
    """Read a form with its file changed; None: as it is."""
    from benchmarks.guard.file_mutations import SETTINGS, mutated, used_or_refused
    from flows.inputs.sources import list_sources
    from schemas.errors import BadInput

    with tempfile.TemporaryDirectory() as folder:
        for path in form.files:
            (Path(folder) / path.name).symlink_to(path)
        spoilt = Path(folder) / form.changed.name
        if seed is not None:
            content = mutated(form.changed.read_bytes(), form.changed.name, f"{form.name} {seed}")
            spoilt.unlink()
            spoilt.write_bytes(content)
        try:
            sources = list_sources([folder], SETTINGS)
        except BadInput as error:
            return error.code
        return used_or_refused(sources[0])


def apart(form: Form, seed: int | None, show: bool = False) -> Found:
    """Read it in a process of its own, forked from this one."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _answer(form, seed, send, show)
    os.close(send)
    ready = _awaited(receive, child)
    if not ready:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read()
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    if not said:
        ended = "gives no answer" if not ready else f"ends with {os.waitstatus_to_exitcode(status)}"
        return Found(ended, seconds, 0, True)
    answer = json.loads(said)
    return Found(answer["verdict"], seconds, answer["memory"], answer["escaped"])


def _awaited(receive: int, child: int) -> bool:
    """Return whether a child answers before it is given up."""
    for _ in range(ROUNDS):
        if select.select([receive], [], [], PATIENCE_S)[0]:
            return True
        if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] not in "RD":
            return False
    return False


def _peak() -> int:
    """Return the largest resident memory since the peak was reset, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _answer(form: Form, seed: int | None, send: int, show: bool) -> None:
    escaped = False
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins now, not at that of the parent
    before = _peak()
    try:
        verdict = read(form, seed)
    except BaseException as error:
        escaped, verdict = True, f"{type(error).__name__}: {error}"[:300]
        if show:
            traceback.print_exc()
    os.write(send, json.dumps({"verdict": verdict, "memory": _peak() - before, "escaped": escaped}).encode())
    os._exit(0)


def judged(found: Found, good: Found) -> list[str]:
    """Return what is wrong with how a file was read."""
    return [
        *(["escape"] if found.escaped else []),
        *(["slow"] if found.seconds > SLOW_S else []),
        *(["memory"] if found.memory > MORE * good.memory else []),
    ]


def searched(forms: list[Form], count: int, seed: int) -> Iterator[tuple[Form, int, Found, list[str]]]:
    """Read mutated files, form by form in turn; yield each with what is wrong."""
    good = {form.name: apart(form, None) for form in forms}
    for form in forms:
        if good[form.name].verdict != "used":
            raise SystemExit(f"the good {form.name} is not used: {good[form.name]}")
    for number in range(count):
        form, one = forms[number % len(forms)], seed * 10**6 + number
        found = apart(form, one)
        yield form, one, found, judged(found, good[form.name])


def main() -> int:
    given = command_line(__doc__, count=20000, seed=1, only=str)
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # after OpenMP's has begun, no process can be forked
    wrong: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        forms = good_forms(Path(folder))
        for form in forms:
            read(form, None)  # imports: those that are forked have them
        if given.only:
            name, _, one = given.only.partition(":")
            print(apart(next(form for form in forms if form.name == name), int(one), show=True))
            return 0
        for form, one, found, problems in searched(forms, given.count, given.seed):
            verdicts[found.verdict if not found.escaped else "escape"] += 1
            wrong.update(problems)
            if problems:
                print(f"{form.name}:{one}: {', '.join(problems)}: {found}", file=sys.stderr, flush=True)
    print(
        json.dumps({"count": given.count, "seed": given.seed, "wrong": wrong, "verdicts": dict(verdicts.most_common())})
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
