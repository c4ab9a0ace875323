"""Cost of handing out and recording a detector, whatever is on it:

    python -m benchmarks.scale.rubin_overhead --visits 20 --detectors 189

sends tiny images under the headers of a camera like Rubin's through `nightstride run` on a Dask cluster whose scheduler
is a process of its own, and reads the processor time and the memory of every process from the system once a second.
Processor time hardly depends on what else the machine does. Exit code 1: an exposure is missing, a detector takes more
of the scheduler than `SCHEDULER_MS`, or memory grows.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from scipy.stats import theilslopes

from benchmarks.scale.capacity_constants import record
from benchmarks.scale.soak import Growth
from benchmarks.support.command_line import command_line
from benchmarks.support.dask_cluster import DaskCluster, dask_cluster
from benchmarks.support.page import machine
from benchmarks.support.rubin_visits import write_visits
from flows.storage.ledger import Ledger

SCHEDULER_MS = 5.0
"""Processor time of the scheduler that a detector may take, ms."""

FLAT_KIB = {"flow": 16.0, "orchestrator": 4.0, "scheduler": 4.0, "workers": 16.0}
"""Maximum growth per detector, KiB; for the flow 3 GiB a night of 189,000 detectors."""

SETTLED = 0.4
"""Fraction of the detectors after which libraries are loaded, compiled and have filled their caches."""

TASKS = ("work", "store", "search", "finish")


@dataclass(frozen=True)
class Sample:
    """Detectors done; processor time, s, and memory of its own, KiB, of each kind of process."""

    done: int
    seconds: dict[str, float]
    kib: dict[str, float]


@dataclass(frozen=True)
class Overhead:
    """Cost of a run.

    Attributes
    ----------
    exposures, tasks
        Detectors done, and how often tasks of each kind were.
    ms
        Processor time per detector, ms, by kind of process, without the start of the run.
    kib
        Growth of memory for each detector, KiB, by kind of process.
    peak_mib
        Most memory of each kind of process, MiB.
    wall_s
        Time of the whole run, s.
    summary
        Summary of `nightstride run`.
    """

    exposures: int
    tasks: dict[str, int]
    ms: dict[str, float]
    kib: dict[str, Growth]
    peak_mib: dict[str, float]
    wall_s: float
    summary: dict[str, object]


def run(
    files: list[Path], folder: Path, workers: int, environment: dict[str, str] | None = None, period_s: float = 1.0
) -> Overhead:
    """Search files on a cluster of their own; return the cost.

    Parameters
    ----------
    files, folder, workers
        What is searched, where to, and by how many.
    environment
        Beside that of this process.
    period_s
        From one look at the processes to the next, s.

    Raises
    ------
    RuntimeError
        Not all of them were done.
    """
    out = folder / "out"
    start = time.monotonic()
    with dask_cluster(folder, workers) as cluster, (folder / "run.log").open("w") as log:
        code = "from flows.cli.app import app; app()"
        command = ["run", str(files[0].parent), "--out", str(out), "--scheduler", cluster.address, "--json"]
        flow = subprocess.Popen(
            [sys.executable, "-c", code, *command],
            stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        samples = _watch(flow, cluster, out, period_s)
        stdout = flow.communicate()[0]
        tasks = cluster.counts()
    summary = json.loads(stdout.splitlines()[-1]) if stdout else {}
    if summary.get("exposures", {}).get("done") != len(files):
        raise RuntimeError(f"{summary}: {(folder / 'run.log').read_text()[-2000:]}")
    return _overhead(samples, tasks, summary, time.monotonic() - start)


def _watch(flow: "subprocess.Popen[str]", cluster: DaskCluster, out: Path, period_s: float) -> list[Sample]:
    samples: list[Sample] = []
    while flow.poll() is None:
        done = Ledger(out).count()
        if sample := _sample(done, flow.pid, cluster):
            samples.append(sample)
        time.sleep(period_s)
    return samples


def _sample(done: int, flow: int, cluster: DaskCluster) -> Sample | None:
    try:
        command = psutil.Process(flow)
        kinds = {
            "flow": [command],
            "orchestrator": command.children(recursive=True),
            "scheduler": [psutil.Process(cluster.scheduler)],
            "workers": [psutil.Process(cluster.workers), *psutil.Process(cluster.workers).children(recursive=True)],
        }
        times = {kind: [one.cpu_times() for one in some] for kind, some in kinds.items()}
        seconds = {kind: sum(one.user + one.system for one in some) for kind, some in times.items()}
        # Shared pages count once: what is unique to a process is what it can lose.
        kib = {kind: sum(one.memory_full_info().uss for one in some) / 1024 for kind, some in kinds.items()}
        return Sample(done, seconds, kib)
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        return None


def _overhead(samples: list[Sample], tasks: dict[str, int], summary: dict[str, object], wall_s: float) -> Overhead:
    exposures = max(one.done for one in samples)
    working = [one for one in samples if 0 < one.done < exposures]
    first, last = working[0], working[-1]
    ms = {
        kind: round(1000 * (last.seconds[kind] - first.seconds[kind]) / (last.done - first.done), 3)
        for kind in first.seconds
    }
    late = [one for one in working if one.done >= SETTLED * exposures]
    peak = {kind: round(max(one.kib[kind] for one in samples) / 1024, 1) for kind in first.kib}
    kib = {kind: _growth([one.done for one in late], [one.kib[kind] for one in late]) for kind in first.kib}
    counted = {kind: tasks.get(kind, 0) for kind in TASKS}
    return Overhead(exposures, counted, ms, kib, peak, round(wall_s, 1), summary)


def _growth(done: list[int], kib: list[float]) -> Growth:
    latest = dict(zip(done, kib, strict=True))  # samples of the same count have no slope between them
    slope, _, low, high = theilslopes(list(latest.values()), list(latest))
    return Growth(*(round(float(one), 2) for one in (slope, low, high)))


def too_much(found: Overhead) -> list[str]:
    """Return what a run takes beyond its limits."""
    said = []
    if found.ms["scheduler"] > SCHEDULER_MS:
        said.append(f"the scheduler takes {found.ms['scheduler']} ms a detector, more than {SCHEDULER_MS}")
    for kind, most in FLAT_KIB.items():
        if found.kib[kind].high > most:
            said.append(f"memory of the {kind} grows by {found.kib[kind]} KiB a detector, more than {most}")
    return said


def main() -> int:
    """Run the visits and report the result."""
    chosen = command_line(
        __doc__, visits=20, detectors=189, workers=2, record=(False, "write what was found to capacity.json")
    )
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as name:
        folder = Path(name)
        found = run(write_visits(folder, chosen.visits, chosen.detectors), folder, chosen.workers)
    print(json.dumps(asdict(found), indent=1))
    if chosen.record:
        command = f"python -m benchmarks.scale.rubin_overhead --visits {chosen.visits} --detectors {chosen.detectors}"
        found_of = {name: value for name, value in asdict(found).items() if name != "summary"}
        record("overhead", {"command": command, "machine": machine(1), **found_of})
    said = too_much(found)
    print(*said, sep="\n", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
