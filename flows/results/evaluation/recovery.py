"""Recovery of the synthetic streaks of a night, from the catalogues `injection`."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.storage.catalog_store import CatalogStore, joined
from flows.storage.ledger import Ledger
from kernels.statistics.completeness import LENGTH_EDGES, SNR_EDGES, binned, half_point
from kernels.statistics.matching import LEAST_VISIBLE
from schemas.errors import BadInput
from schemas.exposure import NJY_ZERO_POINT
from schemas.injection import INJECTION
from schemas.recovery import Limit, MagnitudeLimit, RecoveredShare, Recovery

LENGTHS = (0.0, 3.0, 15.0, np.inf)
"""Length bins for limiting magnitudes, px: not visibly trailed, shorter than a window, longer."""

_OPEN_SNR = (0.0, *SNR_EDGES[1:-1], np.inf)
_OPEN_LENGTH = (0.0, *LENGTH_EDGES[1:-1], np.inf)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def read_recoveries(out: Path, night: str) -> tuple[Recovery, ...]:
    """Summarise the published catalogues of a night; see `recoveries`. Files that cannot be read are left out."""
    found = joined(_injections(out, night))
    return () if found is None else recoveries(night, found)


def _injections(out: Path, night: str) -> Iterator[pa.Table]:
    store = CatalogStore(out)
    for record in Ledger(out).records(night):
        if INJECTION.name in record.datasets:
            with suppress(BadInput):
                yield store.read(INJECTION, record.key)


def recoveries(night: str, table: pa.Table) -> tuple[Recovery, ...]:
    """Summarise the synthetic streaks of a night.

    Parameters
    ----------
    night
        Label of the night.
    table
        Rows of `INJECTION` from all its exposures.

    Returns
    -------
    tuple
        Whole night first, then each band, followed by its detectors; empty if there were no streaks.
    """
    return tuple(_groups(night, table)) if len(table) else ()


def _groups(night: str, table: pa.Table) -> Iterator[Recovery]:
    yield _recovery(night, None, None, table)
    for band in sorted(pc.unique(table["band"]).to_pylist()):
        of_band = table.filter(pc.equal(table["band"], band))
        yield _recovery(night, band, None, of_band)
        for detector in sorted(pc.unique(of_band["detector"]).to_pylist()):
            yield _recovery(night, band, detector, of_band.filter(pc.equal(of_band["detector"], detector)))


def _recovery(night: str, band: str | None, detector: int | None, table: pa.Table) -> Recovery:
    exposures = table.group_by(["visit", "detector"]).aggregate([]).num_rows
    counted = table.filter(pc.greater_equal(table["visible"], LEAST_VISIBLE))
    snr, length = (counted[name].to_numpy().astype(np.float64) for name in ("snr", "length"))
    found = counted["recovered"].to_numpy()
    return Recovery(
        night=night,
        band=band,
        detector=detector,
        exposures=exposures,
        hidden=len(table) - len(counted),
        n=len(counted),
        recovered=int(found.sum()),
        by_snr=_shares(snr, found, _OPEN_SNR),
        by_length=_shares(length, found, _OPEN_LENGTH),
        snr=_snr_limit(snr, found),
        magnitude=() if band is None else _magnitudes(counted, length, found, whole=detector is not None),
    )


def _shares(value: Floats, found: Bools, edges: tuple[float, ...]) -> tuple[RecoveredShare, ...]:
    return tuple(
        RecoveredShare(
            lo=each.lo, hi=_end(each.hi), n=each.share.n, recovered=each.share.found, interval=each.share.interval
        )
        for each in binned(value, found, edges)
    )


def _snr_limit(snr: Floats, found: Bools) -> Limit:
    point = half_point(snr, found)
    if point.value is None or point.low is None or point.high is None:
        return Limit(n=len(snr), reason=point.reason)
    return Limit(n=len(snr), value=point.value, interval=(point.low, point.high))


def _magnitudes(counted: pa.Table, length: Floats, found: Bools, *, whole: bool) -> tuple[MagnitudeLimit, ...]:
    """Return the limits for all lengths together and, unless ``whole``, for each length bin."""
    flux = counted["flux"].to_numpy(zero_copy_only=False).astype(np.float64)
    classes = [(LENGTHS[0], LENGTHS[-1])]
    if not whole:
        classes += list(pairwise(LENGTHS))
    return tuple(
        MagnitudeLimit(lo=lo, hi=_end(hi), limit=_magnitude_limit(flux[inside], found[inside]))
        for lo, hi in classes
        for inside in ((length >= lo) & (length < hi),)
    )


def _magnitude_limit(flux: Floats, found: Bools) -> Limit:
    known = np.isfinite(flux)
    if not known.all():
        return Limit(n=int(known.sum()), reason=f"{len(flux) - int(known.sum())} of the streaks have no zero point")
    point = half_point(flux, found)
    if point.value is None or point.low is None or point.high is None:
        return Limit(n=len(flux), reason=point.reason)
    faint, value, bright = (NJY_ZERO_POINT - 2.5 * float(np.log10(f)) for f in (point.low, point.value, point.high))
    return Limit(n=len(flux), value=value, interval=(bright, faint))


def _end(edge: float) -> float | None:
    return None if np.isinf(edge) else edge
