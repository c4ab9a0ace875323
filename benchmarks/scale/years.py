"""Cost of what is kept: an output folder of many nights, asked and added to:

    python -m benchmarks.scale.years --exposures 44800 --nights 30

fakes a night of ZTF's that is done, with its science, mask and PSF files (empty) in one folder: the storage code writes
ledger and catalogues as a run would that found no source on the science images, so that nothing of the whole night is
to be made; `associate` notes its exposures. Copies of it under other labels are the nights before. Then come `status`,
the start of a run on new exposures, a run with nothing to do, and `verify` of a night, each as a process of its own.
Exit code 1: one is slower or larger than its limit, or grows with the nights.

    python -m benchmarks.scale.years --s3 --exposures 2000 --nights 5

does so in a bucket, and counts requests (`benchmarks.scale.years_s3`).
"""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import perf_counter, sleep
from unittest.mock import patch

from benchmarks.scale.years_s3 import report
from benchmarks.support.command_line import command_line
from benchmarks.support.rubin_visits import write_visits
from flows.inputs.source import name_of
from flows.inputs.source_state import stat_of
from flows.inputs.sources import list_sources
from flows.pipeline.graph import OF_EXPOSURE, PLANES, resolve
from flows.pipeline.lineage import memo_of, trace
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item
from flows.pipeline.provenance import provenance_of
from flows.results.verify import OURS
from flows.storage.association_tables import FILE
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.storage.ledger_local import Database
from flows.storage.night_sums import keep_sums, settle
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.objects import SOURCE
from schemas.settings import Settings
from stages import PIPELINE

DETECTORS = 64
"""Number of quadrants of a ZTF visit."""

NEW = 100
"""Number of new exposures in a run that finds all others done."""

VISITS_APART = 1_000_000
"""Difference between the visit numbers of two nights: the store of objects requires unique ones."""

FIRST = 20260101
PRODUCTS = ("scimrefdiffimg.fits.fz", "sciimg.fits", "mskimg.fits", "diffimgpsf.fits")


@dataclass(frozen=True)
class Limit:
    """Most that a command may take: time, s, and memory of its process, MB."""

    seconds: float
    megabytes: float


LIMITS = {
    "status": Limit(1.0, 300),
    "status NIGHT": Limit(1.0, 300),
    "start": Limit(3.0, 500),
    "run, nothing to do": Limit(30.0, 500),
    "verify NIGHT": Limit(30.0, 500),
}
GROWTH_MB = 0.5
"""Maximum growth of the process that starts a run, per night kept, MB."""


@dataclass(frozen=True)
class Taken:
    """What a command took: time, s, and memory of its process, MB."""

    what: str
    nights: int
    seconds: float
    megabytes: float

    @property
    def passes(self) -> bool:
        """Return whether both are within the limit."""
        limit = LIMITS[self.what]
        return self.seconds <= limit.seconds and self.megabytes <= limit.megabytes


def make_night(folder: Path, exposures: int) -> None:
    """Fill ``folder/raw`` with the files of a night, and ``folder/out`` with what a run would leave of it."""
    with _unflushed():
        fill_night(folder / "raw", folder / "out", FIRST, exposures)


def fill_night(raw: Path, out: Path, night: int, exposures: int, *, published: bool = True) -> None:
    """Fill a folder with the files of a night, and an output folder with its ledger, and with what is ``published``."""
    settings = Settings()
    raw.mkdir(parents=True)
    for number in range(exposures):
        visit, quadrant = divmod(number, DETECTORS)
        stem = f"ztf_{night}{visit:06d}_000500_zr_c{quadrant // 4 + 1:02d}_o_q{quadrant % 4 + 1}"
        for product in PRODUCTS:
            (raw / f"{stem}_{product}").touch()
    models = model_digests(PIPELINE, settings)
    results = resolve(PIPELINE, PLANES, OF_EXPOSURE).results("exposure") if published else ()
    ledger, store = Ledger(out), CatalogStore(out)
    made = ledger.put_provenance(provenance_of(PIPELINE, settings))
    for number, source in enumerate(list_sources([str(raw)], settings)):
        visit, quadrant = divmod(number, DETECTORS)
        key = ExposureKey(night=str(night), visit=visit, detector=quadrant)
        item = Item(source, key, stat_of(source))
        sha256 = f"{number:064x}"
        lineage = trace(source, sha256, PIPELINE, models, settings)
        datasets = {}
        for stage in results:
            if stage.gives.name == SOURCE.name:
                continue
            table = stage.gives.empty()
            path = store.publish(stage.gives, key, table, lineage.datasets[stage.gives.name])
            datasets[stage.gives.name] = store.record(path)
        ledger.remember(memo_of(item, sha256, settings))
        ledger.put(_record(item, sha256, lineage.final, made).model_copy(update={"datasets": datasets}))
    settle(ledger, [str(night)])


def _record(item: Item, sha256: str, digest: str, provenance: str) -> ExposureRecord:
    times = {"shutter_closed_at": "2026-01-02T03:00:00.000+00:00", "finished_at": "2026-01-02T03:00:41+00:00"}
    return ExposureRecord(
        **item.key.model_dump(), source_uri=name_of(item.source), source_sha256=sha256, source_stat=item.stat,
        digest=digest, windows=190_532, windows_unscored=7, detections=3, provenance=provenance, software=OURS,
        seconds={stage.name: 1.2345 for stage in PIPELINE}, **times,
    )  # fmt: skip


def add_night(out: Path, number: int) -> None:
    """Copy the night that was made, under another label and from other files."""
    first, label = str(FIRST), str(FIRST - 10000 + number)
    shutil.copyfile(out / "ledger" / f"{first}.sqlite", out / "ledger" / f"{label}.sqlite")
    named = {"first": first, "label": label, "was": f'"night":"{first}"', "becomes": f'"night":"{label}"'}
    elsewhere = "replace({}, '/raw/', '/' || :label || '/')"
    with closing(sqlite3.connect(out / "ledger" / f"{label}.sqlite")) as night, night:
        content = elsewhere.format("replace(cast(content AS text), :was, :becomes)")
        night.execute(
            f"UPDATE exposure SET content = cast({content} AS blob), source_uri = {elsewhere.format('source_uri')}",
            named,
        )
    with closing(sqlite3.connect(out / "ledger" / "index.sqlite")) as index, index:
        for table, name, others in (("held", "uri", "visit, detector"), ("memo", "name", "content")):
            values = f"{elsewhere.format(name)}, :label, {others}"
            index.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE night = :first", named)
    keep_sums(Ledger(out), label)
    if (out / FILE).exists():
        _settle_association(out, number, label)


def _settle_association(out: Path, number: int, label: str) -> None:
    """Note a copy as associated, as the night that was made is, with exposures of other visits."""
    named = {"first": str(FIRST), "label": label, "later": number * VISITS_APART, "stamp": Ledger(out).stamp(label)}
    with closing(sqlite3.connect(out / FILE)) as store, store:
        exposure = "visit + :later, detector, :label, digest, associatedAt"
        store.execute(f"INSERT INTO visit SELECT {exposure} FROM visit WHERE night = :first", named)
        store.execute("INSERT INTO night SELECT :label, :stamp, digest FROM night WHERE night = :first", named)


@contextmanager
def _unflushed() -> Iterator[None]:
    """Write without waiting for the disk, which takes most of the time of a fake."""
    connect = Database._connect

    def quick(self: Database) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    with patch.object(Database, "_connect", quick), patch("os.fsync", lambda descriptor: None):
        yield


def run(what: str, nights: int, *arguments: object, until: str | None = None) -> Taken:
    """Run a command, to its end or to what it says; the exit code may be any."""
    start, peaks, said = perf_counter(), [0.0], list[str]()
    command = [str(Path(sys.executable).with_name("nightstride")), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watched = Thread(target=_watch, args=(process.pid, peaks))
        watched.start()
        for line in process.stdout or ():
            said.append(line)
            if until is not None and until in line:
                break
        seconds = perf_counter() - start
        if until is not None:
            process.kill()
        code = process.wait()
        watched.join()
    did = code <= 1 if until is None else until in said[-1]
    if not did:
        raise RuntimeError(f"{what}: {''.join(said)[-2000:]}")
    return Taken(what, nights, seconds, max(peaks) / 1e3)


def _watch(pid: int, peaks: list[float]) -> None:
    """Note the most memory of a process, KiB, until it ends; what wait4(2) says includes who started it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        while lines := [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line]:
            peaks.append(float(lines[0].split()[1]))
            sleep(0.02)


def measure(folder: Path, exposures: int, nights: int) -> list[Taken]:
    """Make the output folder, night by night, and run the commands; the folder must be empty."""
    raw, out = folder / "raw", folder / "out"
    make_night(folder, exposures)
    run("associate", 1, "associate", out)
    new = write_visits(folder, 1, NEW)[0].parent
    found, kept = [], 1
    for wanted in sorted({1, max(1, nights // 3), nights}):
        for number in range(kept, wanted):
            add_night(out, number)
        kept = max(kept, wanted)
        found.append(run("status", wanted, "status", out))
        found.append(run("status NIGHT", wanted, "status", out, "--night", FIRST))
        found.append(run("start", wanted, "run", new, "--out", out, until="exposures to be searched"))
    found.append(run("verify NIGHT", nights, "verify", out, "--night", FIRST))
    run("run, nothing to do", nights, "run", raw, "--out", out)  # makes the page of the night, which no other has
    found.append(run("run, nothing to do", nights, "run", raw, "--out", out))
    return found


def growth_mb(found: list[Taken]) -> float:
    """Return how much the process that starts a run grows with each night kept, from the fewest to the most, MB."""
    starts = [one for one in found if one.what == "start"]
    first, last = starts[0], starts[-1]
    return 0.0 if first.nights == last.nights else (last.megabytes - first.megabytes) / (last.nights - first.nights)


def main() -> int:
    """Measure, print a table, and return the exit code."""
    chosen = command_line(
        __doc__,
        s3=(False, "count the requests to a bucket, with half the nights and all"),
        exposures=(44_800, "of a night"),
        nights=30,
        folder=(Path, "empty; by default a temporary one"),
    )
    if chosen.s3:
        return report(chosen.exposures, chosen.nights, NEW)
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(chosen.folder or Path(temporary), chosen.exposures, chosen.nights)
    print(f"{chosen.exposures} exposures a night\n\n| command | nights kept | s | limit | MB | limit |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for one in found:
        limit = LIMITS[one.what]
        most = f"{limit.seconds:g} | {one.megabytes:.0f} | {limit.megabytes:g}"
        print(f"| {one.what} | {one.nights} | {one.seconds:.2f} | {most} |")
    grown = growth_mb(found)
    print(f"\nThe process that starts a run grows by {grown:+.3f} MB for each night kept; limit {GROWTH_MB}.")
    return int(not all(one.passes for one in found) or grown > GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
