"""Share of a night's time that is neither kernels nor reading and writing:

    python -m benchmarks.speed.orchestration --exposures 12

simulates whole ZTF quadrants, starts a Dask cluster and a Prefect server, then searches them by `nightstride run`, as
an operator does whose cluster and server are up. Workers' time from the first exposure handed out to the last one
published is what stages, reading and writing report of it, and the rest: digests, messages, books, workers without a
task. Exit code 1: the rest is more than `LIMIT`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.support.command_line import command_line
from benchmarks.support.dask_cluster import dask_cluster
from benchmarks.support.night_runs import quadrants
from flows.nights.cluster.prefect_server import PrefectServer

LIMIT = 0.15
"""Maximum fraction of the workers' time that is neither kernels nor reading and writing."""

APART = frozenset({"startup", "search", "report", "objects", "associate", "wall"})
"""Keys of a summary's times that are not worker time."""

REST = frozenset({"other", "waiting"})
"""Keys of worker times not caused by a stage, or by reading and writing."""


@dataclass(frozen=True)
class Share:
    """Shares of the time of a night.

    Attributes
    ----------
    exposures, workers
        Their numbers.
    services_s
        Start of Dask's cluster and Prefect's server, s.
    startup_s, search_s, after_s, wall_s
        Times to the first exposure, of the search, of whole-night catalogues and page, and in total, s.
    worker_s
        Part -> workers' time, s.
    rest
        Share of the workers' time in the search that is neither kernels nor reading and writing.
    """

    exposures: int
    workers: int
    services_s: float
    startup_s: float
    search_s: float
    after_s: float
    wall_s: float
    worker_s: Mapping[str, float]
    rest: float


def shares(seconds: Mapping[str, float], exposures: int, workers: int, services_s: float) -> Share:
    """Return the shares of the time of a night, from the `seconds` of a summary."""
    worker_s = {name: value for name, value in seconds.items() if name not in APART}
    rest = sum(value for name, value in worker_s.items() if name in REST)
    return Share(
        exposures,
        workers,
        round(services_s, 2),
        seconds["startup"],
        seconds["search"],
        round(seconds.get("objects", 0.0) + seconds["report"], 3),
        seconds["wall"],
        worker_s,
        round(rest / sum(worker_s.values()), 4),
    )


def measure(folder: Path, exposures: int, workers: int, shape: tuple[int, int] | None = None) -> Share:
    """Search ``exposures`` quadrants on running services."""
    files = quadrants(folder / "raw", exposures, shape)
    start = time.perf_counter()
    with dask_cluster(folder, workers) as cluster, _prefect() as environment:
        services_s = time.perf_counter() - start
        code = "from flows.cli.app import app; app()"
        command = ["run", *files, "--out", folder / "out", "--scheduler", cluster.address, "--json"]
        run = subprocess.run(
            [sys.executable, "-c", code, *(str(part) for part in command)],
            stdout=subprocess.PIPE, text=True, check=True, env=environment,
        )  # fmt: skip
    return shares(json.loads(run.stdout.splitlines()[-1])["seconds"], exposures, workers, services_s)


@contextmanager
def _prefect() -> Iterator[dict[str, str]]:
    """Run a server; yield the environment of its clients."""
    ours = dict(os.environ)
    server = PrefectServer()  # it tells what is imported later by our environment
    theirs = dict(os.environ)
    os.environ.clear()
    os.environ.update(ours)
    server.wait()
    try:
        yield theirs
    finally:
        server.stop()


def main() -> int:
    """Measure, print, judge."""
    chosen = command_line(__doc__, exposures=12, workers=2)
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as name:
        found = measure(Path(name), chosen.exposures, chosen.workers)
    Console().print_json(json.dumps(asdict(found)))
    if found.rest > LIMIT:
        print(
            f"{found.rest:.1%} of the workers' time is neither kernels nor I/O, more than {LIMIT:.0%}", file=sys.stderr
        )
    return int(found.rest > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
