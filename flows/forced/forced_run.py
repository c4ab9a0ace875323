"""Forced photometry on what an output folder holds, published beside the other catalogues."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.adapters.zarr_tiles import TileStore
from flows.digest import digest
from flows.forced.exposure import measure_exposure
from flows.forced.targets import Targets
from schemas.errors import BadInput, Misconfigured, NoWork
from schemas.forced_source import FORCED_SOURCE, ForcedFlag
from schemas.forced_summary import ForcedSummary, Note
from schemas.ledger import ExposureRecord

FORCED_VERSION = "1"
"""Of the measurement; raised when its results change."""


@dataclass(frozen=True)
class Measured:
    """What one exposure gave: its rows and the file they are in, or why it gave none."""

    table: pa.Table
    path: str | None = None
    not_run: Note | None = None
    quarantined: Note | None = None


def searched(out: Path, night: str | None) -> tuple[ExposureRecord, ...]:
    """Give the exposures of an output folder, of one night or of all.

    Raises
    ------
    Misconfigured
        There is none.
    """
    records = tuple(record for record in Ledger(out).records(night) if record.status == "done")
    if not records:
        raise Misconfigured(
            "no_exposures",
            str(out),
            f"has no exposure that was searched{f' in night {night}' if night else ''}.",
            "give the --out folder of a `nightstride run` that has finished, and a night that is in it.",
        )
    return records


def measure_night(out: Path, targets: Targets, records: tuple[ExposureRecord, ...], sigma: float) -> Iterator[Measured]:
    """Measure targets on exposures, one after the other, and publish what each gives.

    An exposure that covers no target has no file; one from an earlier list of targets is withdrawn.

    Parameters
    ----------
    out
        Output folder; the caller holds its lease.
    targets, records, sigma
        What to measure, on which exposures; standard errors of the upper limits.

    Raises
    ------
    Retryable, Misconfigured
        A catalogue cannot be written: see `flows.adapters.atomic.write_file`.
    """
    asked = digest("forced", FORCED_VERSION, targets.digest, {"sigma": float(sigma)})
    for record in records:
        try:
            store = _opened(out, record)
            table = measure_exposure(store, targets, sigma)
        except NoWork as error:
            yield Measured(FORCED_SOURCE.empty(), not_run=Note.of(error))
        except BadInput as error:
            yield Measured(FORCED_SOURCE.empty(), quarantined=Note.of(error))
        else:
            yield Measured(table, _publish(out, record, table, digest(asked, store.digest)))


def _opened(out: Path, record: ExposureRecord) -> TileStore:
    path = out / "tiles" / record.night / f"{record.name}.zarr"
    if not path.exists():
        raise BadInput(
            "no_tiles",
            str(path),
            "is not there: the pixels of this exposure were removed.",
            f"remove its catalogue dia_source/night={record.night}/{record.name}.parquet and run the night again: "
            "both are made anew.",
        )
    return TileStore.open(path)


def _publish(out: Path, record: ExposureRecord, table: pa.Table, made_from: str) -> str | None:
    """Publish the rows of an exposure and put the file into its record, so that it goes where its pixels go."""
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


def summarise(
    targets: Targets, left_out: tuple[BadInput, ...], measured: Iterable[Measured], seen: Callable[[pa.Table], None]
) -> ForcedSummary:
    """Count what is measured as it comes.

    Parameters
    ----------
    targets, left_out
        The list, and what is wrong with its other rows.
    measured
        From `measure_night`.
    seen
        Told of the rows of each exposure.
    """
    counts, found, files = np.zeros(3, int), set(), []
    not_run, quarantined, exposures = [], [], 0
    for one in measured:
        exposures += 1
        seen(one.table)
        counts += _counts(one.table)
        found.update(one.table["targetName"].to_pylist())
        files += [one.path] if one.path else []
        not_run += [one.not_run] if one.not_run else []
        quarantined += [one.quarantined] if one.quarantined else []
    detections, limits, not_measured = counts.tolist()
    return ForcedSummary(
        targets=len(targets),
        exposures=exposures,
        rows=detections + limits + not_measured,
        detections=detections,
        limits=limits,
        not_measured=not_measured,
        not_covered=tuple(name for name in targets.name.tolist() if name not in found),
        files=tuple(files),
        left_out=tuple(Note.of(error) for error in left_out),
        not_run=tuple(not_run),
        quarantined=tuple(quarantined),
    )


def _counts(table: pa.Table) -> NDArray[np.int64]:
    """Count detections, upper limits and rows that are not measured."""
    lost = (table["flags"].to_numpy() & int(ForcedFlag.NOT_MEASURED)) > 0
    snr = table["snr"].to_numpy(zero_copy_only=False).astype(float)
    detected = ~lost & (snr >= table["limitSigma"].to_numpy())
    return np.array([detected.sum(), (~lost & ~detected).sum(), lost.sum()])
