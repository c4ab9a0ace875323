"""Setting of all faults: a simulated night, and the result of an undisturbed run."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from benchmarks.faults.published import Published, published
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-c", "from flows.cli.app import app; app()")
BOTH_WAYS = (
    sys.executable,
    "-c",
    # The server first, as in a run: Prefect, once imported without one, starts its own, which outlives a kill.
    "from flows.nights.cluster.prefect_server import prefect_server; prefect_server(); "
    "import flows.nights.nightly; flows.nights.nightly.MANY = 1; from flows.cli.app import app; app()",
)
"""The command as in a night of many exposures, of which most are one task each and the last are shared out."""


@dataclass(frozen=True)
class Size:
    """Size of a night, and time for which a store is down.

    Attributes
    ----------
    visits, detectors, shape, streaks
        As in `flows.simulation.night.SimulatedNight` and `find_preset`.
    down_s
        Time for which the object store is down, s.
    """

    visits: int
    detectors: int
    shape: tuple[int, int]
    streaks: int
    down_s: float

    @property
    def exposures(self) -> int:
        """Return the number of exposures of the night."""
        return self.visits * self.detectors


SMALL = Size(4, 2, (200, 210), 8, 5.0)
LARGE = Size(16, 4, (300, 310), 12, 30.0)


@dataclass(frozen=True)
class Lab:
    """Night with the result of an undisturbed run.

    Attributes
    ----------
    folder
        For everything; other users may look into it.
    size, raw
        The night, and the folder of its files.
    expected, elapsed_s
        What the run published, and how long it took, s.
    api
        Variables that name a Prefect server which all runs use; empty: each starts its own.
    closing
        Ends what several faults use, when the lab is closed.
    """

    folder: Path
    size: Size
    raw: Path
    expected: Published
    elapsed_s: float
    api: Mapping[str, str] = field(default_factory=dict)
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def images(self) -> list[Path]:
        """Return the difference images."""
        return sorted(self.raw.glob("*_scimrefdiffimg.fits.fz"))


@contextmanager
def lab(folder: Path, size: Size, seed: int, api: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """Simulate a night under ``folder``, and run it undisturbed.

    Parameters
    ----------
    folder
        Empty, and in a place that all users can reach.
    size, seed, api
        Of the night; and as in `Lab`.

    Raises
    ------
    RuntimeError
        The run did not end well.
    """
    folder.chmod(0o755)  # PostgreSQL runs as another user
    raw, out = folder / "raw", folder / "undisturbed"
    simulate_night(SimulatedNight(find_preset("ztf", size.streaks, size.shape), seed, size.visits, size.detectors, raw))
    for name in ("truth.parquet", "truth_objects.parquet"):
        (raw / name).unlink(missing_ok=True)
    api = api or {}
    surroundings = environment(folder, folder / "tmp", api)
    if not api:  # the first start of a server makes its database, which is not part of a night
        first = "from flows.nights.cluster.prefect_server import PrefectServer as P; s = P(); s.wait(); s.stop()"
        subprocess.run([sys.executable, "-c", first], env=surroundings, cwd=ROOT, check=True, timeout=900)
    start = monotonic()
    run = subprocess.run(
        [*CLI, "run", str(raw), "--out", str(out)], env=surroundings, cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(f"the undisturbed run ends with {run.returncode}: {run.stderr[-3000:]}")
    with ExitStack() as closing:
        yield Lab(folder, size, raw, published(out), monotonic() - start, api, closing)


def environment(folder: Path, tmp: Path, api: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: temporary files where they can be counted, and nothing of the caller's."""
    tmp.mkdir(parents=True, exist_ok=True)
    foreign = ("NIGHTSTRIDE_", "PREFECT_", "AWS_", "DASK_", "FAKETIME")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        **plain,
        **api,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(tmp),
        "PREFECT_HOME": str(folder / "prefect"),
        "NIGHTSTRIDE_TILES__TILE": "112",
        "NIGHTSTRIDE_TILES__CHUNK": "28",
        "NIGHTSTRIDE_INJECT__SHARE": "1",
        "NIGHTSTRIDE_EXECUTION__WORKERS": "2",
    }
