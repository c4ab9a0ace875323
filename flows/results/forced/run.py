"""Forced photometry on the exposures in an output folder, published beside the other catalogues."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.results.catalogue_rows import CatalogueRows
from flows.results.forced.exposure import FORCED_VERSION, measure_forced, opened_tiles
from flows.results.forced.targets import ForcedTargets
from flows.runtime.words import counted
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import digest
from flows.storage.layout import is_release
from flows.storage.ledger import Ledger
from kernels.trails.geometry import Segment
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NoWork
from schemas.forced import FORCED_SOURCE, ForcedFlag, ForcedSummary, Note
from schemas.ledger import ExposureRecord
from schemas.night_range import EVERY_NIGHT, NightRange


@dataclass(frozen=True)
class Measured:
    """Result of one exposure: its rows and their file, or why it has none."""

    table: pa.Table
    path: str | None = None
    not_run: Note | None = None
    quarantined: Note | None = None


def require_no_release(out: Path) -> None:
    """Raise `Misconfigured` (``frozen``) if a folder is a data release, which has no pixels."""
    if is_release(out):
        remedy = "measure in the output folder that it was made of: nightstride forced OUT."
        raise Misconfigured("frozen", str(out), "is a data release, and has no pixels to measure on.", remedy)


def forced_exposures(out: Path, nights: NightRange = EVERY_NIGHT) -> tuple[ExposureRecord, ...]:
    """Return the exposures in an output folder, for some nights or all.

    Raises
    ------
    Misconfigured
        There are none.
    """
    ledger = Ledger(out)
    labels = [one for one in ledger.nights() if one in nights]
    records = tuple(record for one in labels for record in ledger.records(one) if record.status == "done")
    if not records:
        raise Misconfigured(
            "no_exposures",
            str(out),
            f"has no exposure that was searched{f' in {nights}' if nights else ''}.",
            "give the --out folder of a `nightstride run` that has finished, and a night that is in it.",
        )
    return records


def measure_night(
    out: Path, targets: ForcedTargets, records: tuple[ExposureRecord, ...], sigma: float, *, publish: bool = True
) -> Iterator[Measured]:
    """Measure targets on exposures, one after another, and publish the results of each.

    An exposure that covers no target has no file; a file from an earlier list of targets is withdrawn.

    Parameters
    ----------
    out
        Output folder; the caller holds its lease, if results are published.
    targets, records, sigma
        Targets, exposures, and standard errors of the upper limits.
    publish
        Whether results are published, replacing those of an earlier list.

    Raises
    ------
    Retryable, Misconfigured
        A catalogue cannot be written: see `flows.storage.atomic.write_file`.
    """
    asked = digest("forced", FORCED_VERSION, targets.digest, {"sigma": float(sigma)})
    for record in records:
        try:
            store = opened_tiles(out, record)
            table = measure_forced(store, targets, sigma)
        except NoWork as error:
            yield Measured(FORCED_SOURCE.empty(), not_run=Note.of(error))
        except BadInput as error:
            yield Measured(FORCED_SOURCE.empty(), quarantined=Note.of(error))
        else:
            yield Measured(table, _publish(out, record, table, digest(asked, store.digest)) if publish else None)


def _publish(out: Path, record: ExposureRecord, table: pa.Table, made_from: str) -> str | None:
    """Publish the rows of an exposure and add the file to its record, so that it shares the fate of its pixels."""
    catalogues, name = CatalogStore(out), FORCED_SOURCE.name
    datasets = {key: one for key, one in record.datasets.items() if key != name}
    path = None
    if len(table):
        datasets[name] = catalogues.record(catalogues.publish(FORCED_SOURCE, record.key, table, made_from))
        path = datasets[name].path
    if datasets != record.datasets:
        Ledger(out).put(record.model_copy(update={"datasets": datasets}))
    if path is None:
        catalogues.path(FORCED_SOURCE, record.key).unlink(missing_ok=True)
    return path


def summarise_targets(
    targets: ForcedTargets,
    left_out: tuple[BadInput, ...],
    measured: Iterable[Measured],
    seen: Callable[[pa.Table], None],
) -> ForcedSummary:
    """Count results as they arrive.

    Parameters
    ----------
    targets, left_out
        Targets in the list, and the errors in its other rows.
    measured
        Results of `measure_night`.
    seen
        Receives the rows of each exposure.
    """
    counts, found, files = np.zeros(5, int), set(), []
    not_run, quarantined, exposures = [], [], 0
    for one in measured:
        exposures += 1
        seen(one.table)
        counts += _counts(one.table)
        found.update(one.table["targetName"].to_pylist())
        files += [one.path] if one.path else []
        not_run += [one.not_run] if one.not_run else []
        quarantined += [one.quarantined] if one.quarantined else []
    detections, limits, not_measured, negative, no_limit = counts.tolist()
    return ForcedSummary(
        targets=len(targets),
        exposures=exposures,
        rows=detections + limits + not_measured + no_limit,
        detections=detections,
        limits=limits,
        no_limit=no_limit,
        not_measured=not_measured,
        negative=negative,
        not_covered=tuple(name for name in targets.name.tolist() if name not in found),
        files=tuple(files),
        left_out=tuple(Note.of(error) for error in left_out),
        not_run=tuple(not_run),
        quarantined=tuple(quarantined),
    )


def _counts(table: pa.Table) -> NDArray[np.int64]:
    """Count detections, upper limits, rows not measured, limits of significantly negative flux, and rows without limit.

    Without a zero point, rows without a detection have no limit.
    """
    lost = (table["flags"].to_numpy() & int(ForcedFlag.NOT_MEASURED)) > 0
    snr = table["snr"].to_numpy(zero_copy_only=False).astype(float)
    least = table["limitSigma"].to_numpy()
    detected = ~lost & (snr >= least)
    known = table["magABLimit"].is_valid().to_numpy(zero_copy_only=False)
    limits, negative = ~lost & ~detected & known, ~lost & (snr <= -least) & known
    return np.array([one.sum() for one in (detected, limits, lost, negative, ~lost & ~detected & ~known)])


MOST = 50
"""Maximum number of rows, names and notes listed; the others are only counted."""


class FirstRows:
    """First ``most`` rows of many tables, so that memory does not grow with the night; None: all."""

    def __init__(self, most: int | None = MOST) -> None:
        self.table, self._most = FORCED_SOURCE.empty(), most

    def __call__(self, table: pa.Table) -> None:
        """Add rows while there is room."""
        room = None if self._most is None else self._most - len(self.table)
        self.table = pa.concat_tables([self.table, table.slice(0, room)])


def show_forced(summary: ForcedSummary, rows: pa.Table, console: Console) -> None:
    """Print the rows and their summary."""
    console.width = max(console.width, 100)  # so that no number is cut off
    table = Table(title="Forced photometry", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("target", no_wrap=True)
    for heading in ("visit-detector", "band", "flux, nJy", "AB mag", "S/N"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("flags", min_width=12)
    for row in rows.to_pylist():
        table.add_row(*_cells(row))
    if len(rows):
        console.print(table)
    if summary.rows > len(rows):
        console.print(f"{counted(summary.rows - len(rows), 'row')} more, see the catalogues.", highlight=False)
    negative = f" ({summary.negative:,} of them of significantly negative flux)" if summary.negative else ""
    blank = f"{summary.no_limit:,} not seen and without zero point, " if summary.no_limit else ""
    console.print(
        f"{counted(summary.targets, 'target')}, {counted(summary.exposures, 'exposure')}: "
        f"{counted(summary.detections, 'detection')}, {counted(summary.limits, 'upper limit')}{negative}, "
        f"{blank}{summary.not_measured:,} not measured; {counted(len(summary.not_covered), 'target')} on none of them.",
        highlight=False,
        soft_wrap=True,
    )


TRAIL_SNR, TRAIL_NEAR, TRAIL_REACH = 3.0, 3.0, 1.0
"""Minimum S/N of the length of a detection reported as a trail; maximum distance of the trail from a position, arcsec,
and of its centre, deg: few detectors are wider than twice that.
"""


def trails_at(out: Path, nights: NightRange, ra: float, dec: float) -> list[str]:
    """Return a line for each published trail that crosses a position, deg: its flux there is not that of a point."""
    turn, near = float(np.cos(np.radians(dec))), TRAIL_REACH
    box = (pc.field("dec") > dec - near) & (pc.field("dec") < dec + near)
    if abs(dec) + 2 * near < 90:
        away, wide = pc.field("ra") - ra, near / float(np.cos(np.radians(abs(dec) + near)))
        box &= ((away > -wide) & (away < wide)) | (away > 360 - wide) | (away < wide - 360)
    columns = ["diaSourceId", "visit", "detector", "ra", "dec", "trailLength", "trailLengthErr", "trailAngle"]
    whole = CatalogueRows(out, DIA_SOURCE)
    rows = whole.of([one for one in whole.nights if one in nights]).read(columns, box)
    told = []
    for row in rows.to_pylist():
        length, error = row["trailLength"], row["trailLengthErr"]
        if length is None or not length > TRAIL_SNR * (error or 0.0):
            continue
        # Position angle increases from north to east, angle in an image from x to y.
        north, east = (dec - row["dec"]) * 3600, ((ra - row["ra"] + 180) % 360 - 180) * turn * 3600
        if Segment(0.0, 0.0, length, row["trailAngle"] or 0.0).distance(north, east) <= TRAIL_NEAR:
            name = f"{row['visit']}-{row['detector']}"
            told.append(f"{row['diaSourceId']}, a trail of {length:.1f} arcsec on exposure {name}, crosses the place")
    return told


def tell_forced(summary: ForcedSummary, console: Console) -> None:
    """Print what was left out, and why."""
    for title, notes in (
        ("left out", summary.left_out),
        ("not run", summary.not_run),
        ("not measured", summary.quarantined),
    ):
        _list(title, notes, console)


def _list(title: str, notes: tuple[Note, ...], console: Console) -> None:
    for note in notes[:MOST]:
        console.print(f"{title}: {note}", highlight=False, markup=False, soft_wrap=True)
    if len(notes) > MOST:
        console.print(f"{title}: {len(notes) - MOST} more, see --json.", highlight=False)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    flags = ForcedFlag(row["flags"])
    return (
        escape(str(row["targetName"])),
        f"{row['visit']}-{row['detector']}",
        escape(str(row["band"])),
        "" if row["trailFlux"] is None else f"{row['trailFlux']:,.0f} ± {row['trailFluxErr']:,.0f}",
        _magnitude(row),
        "" if row["snr"] is None else f"{row['snr']:.1f}",
        " ".join(flag.name or "" for flag in flags),
    )


def _magnitude(row: dict[str, Any]) -> str:
    """Return the magnitude of a detection, or else the limit; significantly negative flux is indicated."""
    if row["snr"] is not None and row["snr"] <= -row["limitSigma"]:
        return "negative"
    if row["magAB"] is not None:
        return f"{row['magAB']:.2f} ± {row['magABErr']:.2f}"
    return "" if row["magABLimit"] is None else f"> {row['magABLimit']:.2f}"
