"""Time of a run on one image from the shell prompt to the catalogue, and of a rerun with nothing to do:

    python -m benchmarks.speed.startup --runs 3

simulates one ZTF quadrant, runs `nightstride run` on its difference image alone as a user does, then twice as often
again with nothing to do, then on the same image beside its science image, which has sources and stages of the whole
night, and measures what they begin with on its own: interpreter, imports of the command, of the flow, of the workers
and of the server, and the server until it answers. Prints JSON: of each the best seen wall time, and processor time of
all processes, s. The first run, which compiles, is not counted. Exit code 1: a limit is exceeded; they hold for two
quiet cores.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from typing import Any

from benchmarks.support.command_line import command_line

RUN_S, RERUN_S = 7.0, 1.5
"""Maximum time from the prompt to the catalogue, and of a rerun with nothing to do, s."""

PARTS = {
    "interpreter": "pass",
    "import of the command": "import flows.cli.app",
    "import of the plan": "import flows.nights.run, flows.nights.observation, flows.inputs.sources",
    "import of the flow": "import flows.nights.nightly, flows.nights.cluster.cluster",
    "import of the workers": "import flows.nights.cluster.worker_imports",
    "import of the night's end": "from flows.nights.run import load; load()",
    "Prefect server": "from flows.nights.cluster.prefect_server import PrefectServer as S; S().wait()",
}
"""What is measured separately -> code for it in a new interpreter."""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


@dataclass(frozen=True)
class Took:
    """Time of a command, s: on the clock, and of processors in all its processes."""

    wall_s: float
    cpu_s: float


def timed(command: Sequence[str]) -> tuple[Took, str]:
    """Run a command to its end; return what it took, and its standard output.

    Processes that outlive their parent are waited for, so that their processor time counts, but not on the clock. That
    is done in a process of its own, which has no other children.

    Raises
    ------
    subprocess.CalledProcessError
        It fails.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_timed, command).result()


def _timed(command: Sequence[str]) -> tuple[Took, str]:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    wall = time.perf_counter() - start
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # in us; os.times() counts ticks of 10 ms
    return Took(round(wall, 3), round(used.ru_utime + used.ru_stime, 3)), run.stdout


def best(times: Sequence[Took]) -> Took:
    """Return the shortest time on the clock, and the least of the processors."""
    return Took(min(one.wall_s for one in times), min(one.cpu_s for one in times))


def measure(
    folder: Path,
    runs: int,
    shape: tuple[int, int] | None = None,
    uncounted: int = 1,
    parts: Mapping[str, str] = PARTS,
) -> dict[str, Any]:
    """Measure runs on one image, reruns, and their parts; keys are those of the JSON."""
    from benchmarks.support.night_runs import quadrants

    (image,) = quadrants(folder / "raw", 1, shape)
    alone = folder / "alone" / image.name
    alone.parent.mkdir()
    alone.write_bytes(image.read_bytes())
    searches, reruns, seconds = _searched(alone, folder / "out", uncounted + runs)
    with_science, _, science_seconds = _searched(image, folder / "out", runs, again=0)
    counted = searches[uncounted:]
    quickest = uncounted + counted.index(min(counted, key=lambda one: one.wall_s))
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "run": asdict(best(counted)),
        "run_parts_s": seconds[quickest],
        "run_with_science": asdict(best(with_science)),
        "run_with_science_parts_s": science_seconds[0],
        "rerun": asdict(best(reruns[2 * uncounted :])),
        "parts": {name: asdict(best([part(code) for _ in range(runs)])) for name, code in parts.items()},
    }


def _searched(
    image: Path, out: Path, runs: int, again: int = 2
) -> tuple[list[Took], list[Took], list[dict[str, float]]]:
    """Return what runs and ``again`` reruns of each with nothing to do take, and what each run tells of its parts."""
    nightstride = "from flows.cli.app import main; main()"
    command = [sys.executable, "-c", nightstride, "run", str(image), "--out", str(out), "--json"]
    searches, reruns, seconds = [], [], []
    for _ in range(runs):
        rmtree(out, ignore_errors=True)
        took, said = timed(command)
        searches.append(took)
        seconds.append(json.loads(said.splitlines()[-1])["seconds"])
        reruns += [timed(command)[0] for _ in range(again)]
    return searches, reruns, seconds


def part(code: str) -> Took:
    """Return what some code takes in a new interpreter."""
    return timed([sys.executable, "-c", code])[0]


def main() -> int:
    given = command_line(__doc__, runs=(3, "Runs that count; the best of them is told."))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.runs)
    print(json.dumps(found, indent=2))
    return int(found["run"]["wall_s"] > RUN_S or found["rerun"]["wall_s"] > RERUN_S)


if __name__ == "__main__":
    sys.exit(main())
