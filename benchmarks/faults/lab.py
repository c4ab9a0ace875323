"""Setting of all faults: a simulated night, and the result of an undisturbed run."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from benchmarks.faults.published import Published, published
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.storage.ledger import Ledger

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
    """Size of a night, and how long its store is disturbed.

    Attributes
    ----------
    visits, detectors, shape, streaks
        As in `flows.simulation.night.SimulatedNight` and `find_preset`.
    down_s
        Time for which the object store is down, s.
    refused
        Requests that it refuses, among other faults, until it is well again.
    patience_s
        After so long without what is waited for, something hangs, s.
    """

    visits: int
    detectors: int
    shape: tuple[int, int]
    streaks: int
    down_s: float
    refused: float
    patience_s: float

    @property
    def exposures(self) -> int:
        """Return the number of exposures of the night."""
        return self.visits * self.detectors


SMALL = Size(4, 2, (200, 210), 8, 5.0, 110, 300.0)
LARGE = Size(16, 4, (300, 310), 12, 30.0, math.inf, 1800.0)

VARIABLES = (4000.0, 5000.0)
"""Variable stars of a whole image of ZTF: about twenty on one of these, seen on each visit of their field."""


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
    parts
        Number of units of which the night's work consists: see `count`.
    postgres
        Whether the association of every fault is kept in PostgreSQL, and not in SQLite.
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
    parts: Mapping[str, int] = field(default_factory=dict)
    postgres: bool = False
    api: Mapping[str, str] = field(default_factory=dict)
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def images(self) -> list[Path]:
        """Return the difference images."""
        return sorted(self.raw.glob("*_scimrefdiffimg.fits.fz"))


PARTS = ("exposures", "patches", "objects")
"""Parts of a night's work, in their order: exposures, patches of the sky, and the night's catalogue of objects."""


def count(out: Path, part: str) -> int:
    """Return how much of a part of the work is finished, published and recorded."""
    ledger = Ledger(out)
    if part == "exposures":
        return sum(record.status == "done" for record in ledger.records())
    if part == "patches":
        return sum(1 for night in ledger.nights() for _ in ledger.patches(night))
    return len(list((out / "catalogs" / "dia_object").glob("night=*/dataset/Norder=*/Dir=*/Npix=*.parquet")))


@contextmanager
def lab(
    folder: Path, size: Size, seed: int, api: Mapping[str, str] | None = None, *, postgres: bool = False
) -> Iterator[Lab]:
    """Simulate a night under ``folder``, and run it undisturbed.

    Parameters
    ----------
    folder
        Empty, and in a place that all users can reach.
    size, seed, api, postgres
        Of the night; and as in `Lab`.

    Raises
    ------
    RuntimeError
        The run did not end well.
    """
    folder.chmod(0o755)  # PostgreSQL runs as another user
    raw, out = folder / "raw", folder / "undisturbed"
    preset = replace(find_preset("ztf", size.streaks, size.shape), variables=VARIABLES)
    simulate_night(SimulatedNight(preset, seed, size.visits, size.detectors, raw))
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
        parts = {part: count(out, part) for part in PARTS}
        yield Lab(folder, size, raw, published(out), monotonic() - start, parts, postgres, api, closing)


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
        "NIGHTSTRIDE_PATCHES__ORDER": "9",
    }
