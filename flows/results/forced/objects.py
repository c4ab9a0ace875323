"""Stationary objects as targets, and their forced photometry on an exposure, added to earlier measurements there."""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.results.forced.exposure import FORCED_VERSION, measure_forced, opened_tiles
from flows.results.forced.targets import Floats, ForcedTargets, sorted_targets
from flows.runtime.words import counted
from flows.storage.catalog_store import CatalogStore, read_metadata, read_table
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from kernels.sky.patches import pixels_at
from schemas.dia_object import DIA_OBJECT
from schemas.dia_source import exposure_of
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.forced import FORCED_SOURCE
from schemas.ledger import DatasetRecord, ExposureRecord
from schemas.patch import COVER_ORDER
from schemas.summary import Trouble

SIGMA = 3.0
"""Standard errors of the upper limits, and minimum S/N of a detection: the command's default."""

SAME_ARCSEC = 5.0
"""Distance beyond which a measurement under an object's name was of another object, arcsec."""


_OF_OBJECT = ["diaObjectId", "ra", "dec", "radecMjdTai", "pmRa", "pmDec", "pmRaErr", "pmDecErr"]
_MOTION_SIGMA = 5.0  # minimum significance of a proper motion that is applied: others would lead astray
_MAS_A = 1000 * 365.25 * 24  # mas / a in 1 arcsec / h


class ObjectsAsked(NamedTuple):
    """Objects to measure on an exposure.

    Attributes
    ----------
    paths
        Catalogues ``dia_object`` around it, by night, relative to the output folder. All objects in them are fitted.
    began
        Night in which the objects to measure begin; None: all.
    """

    paths: tuple[str, ...]
    began: str | None = None


class ObjectsMeasured(NamedTuple):
    """Result of measuring the objects on an exposure.

    Attributes
    ----------
    of
        Digest of the exposure.
    dataset
        New contents of its record; None: unchanged.
    rows
        Number of rows added.
    no_tiles
        Whether its pixels were removed, which prevents measurements.
    """

    of: str
    dataset: DatasetRecord | None = None
    rows: int = 0
    no_tiles: bool = False


def object_targets(out: Path) -> ForcedTargets:
    """Return the stationary objects of an output folder, by diaObjectId, as known in their latest night.

    Objects whose proper motion is significant at five sigma move accordingly.

    Raises
    ------
    Misconfigured
        There is no catalogue of objects (``no_objects``).
    BadInput
        A catalogue cannot be read.
    """
    targets = targets_in(CatalogStore(out).list(DIA_OBJECT))
    if not len(targets):
        raise Misconfigured(
            "no_objects", str(out), "has no catalogue dia_object.", "associate it first: nightstride associate OUT."
        )
    return targets


def targets_in(
    paths: Iterable[Path], lies: Callable[[Floats, Floats], NDArray[np.bool_]] | None = None
) -> ForcedTargets:
    """Return the objects in catalogues ``dia_object``, by diaObjectId, each from the last that includes it.

    Parameters
    ----------
    paths
        Paths of the catalogues.
    lies
        Function that returns which positions (ra, dec in deg) are wanted; None: all.

    Raises
    ------
    BadInput
        A catalogue cannot be read.
    """
    values = dict[str, tuple[Any, ...]]()
    for path in paths:
        rows = read_table(path, DIA_OBJECT).select(_OF_OBJECT)
        if lies is not None:
            rows = rows.filter(pa.array(lies(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
        values |= {str(one[0]): _of_object(*one) for one in zip(*rows.to_pydict().values(), strict=True)}
    return sorted_targets(values)


def _of_object(
    name: int, ra: float, dec: float, epoch: float, *motion: float | None
) -> tuple[str, float, float, float, float, float]:
    """Return the row of an object at its position at a time, moving if its proper motion, mas / a, is significant."""
    east, north, east_err, north_err = (np.nan if one is None else one for one in motion)
    if not np.hypot(east / east_err, north / north_err) >= _MOTION_SIGMA:
        return str(name), ra, dec, 0.0, 0.0, 0.0
    return str(name), ra, dec, epoch, np.hypot(east, north) / _MAS_A, np.degrees(np.arctan2(east, north)) % 360


def measure_objects(out: Path, key: ExposureKey, asked: ObjectsAsked) -> ObjectsMeasured:
    """Measure the objects on an exposure without rows there, and publish their rows with the existing ones.

    The caller updates the record of the exposure.

    Parameters
    ----------
    out
        Output folder; the caller holds its lease.
    key, asked
        Exposure, and its objects.

    Raises
    ------
    BadInput
        Pixels or catalogues cannot be read; or an object has the same name as another target (``name_taken``).
    Retryable, Misconfigured
        The catalogue cannot be written: see `flows.storage.atomic.write_file`.
    """
    record = Ledger(out).get(key)
    if record is None or record.status != "done":  # withdrawn in the meantime
        return ObjectsMeasured("")

    def lies(ra: Floats, dec: Floats) -> NDArray[np.bool_]:
        return np.isin(pixels_at(ra, dec, COVER_ORDER), record.sky)

    known = targets_in((out / path for path in asked.paths), lies)
    wanted = np.ones(len(known), bool) if asked.began is None else _began(out, known, asked.began)
    if not wanted.any():
        return ObjectsMeasured(record.digest)
    former, there, before = _former(out, record)
    _require_same(record, known, there)
    wanted &= ~np.isin(known.name, there["targetName"].to_pylist())
    if not wanted.any():
        return ObjectsMeasured(record.digest, former)
    try:
        store = opened_tiles(out, record)
    except BadInput as error:
        if error.code != "no_tiles":
            raise
        return ObjectsMeasured(record.digest, former, no_tiles=True)
    added = measure_forced(store, known, SIGMA, wanted)
    if not len(added):
        return ObjectsMeasured(record.digest, former)
    made_from = digest("forced objects", FORCED_VERSION, before, known.digest, added["targetName"].to_pylist(),
                       {"sigma": SIGMA}, store.digest)  # fmt: skip
    rows = pa.concat_tables([there, added]).sort_by("targetName")
    catalogues = CatalogStore(out)
    dataset = catalogues.record(catalogues.publish(FORCED_SOURCE, key, rows, made_from))
    return ObjectsMeasured(record.digest, dataset, len(added))


def published_objects(out: Path) -> frozenset[int]:
    """Return the ids of all published stationary objects; unreadable catalogues are skipped."""
    found: set[int] = set()
    for path in CatalogStore(out).list(DIA_OBJECT):
        with suppress(BadInput):
            found.update(read_table(path, DIA_OBJECT)["diaObjectId"].to_pylist())
    return frozenset(found)


def forget_objects(out: Path, gone: Collection[int], tell: Callable[[str], object]) -> list[Trouble]:
    """Remove objects whose ids are no longer used from measurements; the caller holds the lease of ``out``.

    Parameters
    ----------
    out, gone
        Output folder, and ids of objects.
    tell
        Receives a message if there were rows of them.

    Returns
    -------
    list of Trouble
        Exposures whose rows cannot be read or written now.
    """
    ledger, lost, failed = Ledger(out), 0, list[Trouble]()
    names = pa.array(sorted(map(str, gone)), pa.string())
    for record in (one for night in (ledger.nights() if gone else ()) for one in ledger.records(night)):
        if FORCED_SOURCE.name in record.datasets:
            try:
                lost += _forget(out, ledger, record, names)
            except (BadInput, Retryable) as error:
                failed.append(Trouble.of(f"exposure {record.name} of night {record.night}", error))
    if lost:
        tell(
            f"Forced photometry: {counted(lost, 'row')} of objects that are no more left out. To measure those that "
            "took their place, run their nights again with forced.history_days, or nightstride forced --dia-objects."
        )
    return failed


def _forget(out: Path, ledger: Ledger, record: ExposureRecord, names: pa.Array) -> int:
    """Publish the measurements on an exposure without some names; return the number of rows removed."""
    former, there, before = _former(out, record)
    kept = there.filter(pc.invert(pc.is_in(there["targetName"], value_set=names)))
    if len(kept) == len(there):
        return 0
    catalogues, made_from = CatalogStore(out), digest("without objects", before, kept["targetName"].to_pylist())
    former = catalogues.record(catalogues.publish(FORCED_SOURCE, record.key, kept, made_from))
    ledger.put(record.model_copy(update={"datasets": {**record.datasets, FORCED_SOURCE.name: former}}))
    return len(there) - len(kept)


def _began(out: Path, known: ForcedTargets, night: str) -> NDArray[np.bool_]:
    """Return which objects begin in a night: their ids are those of detections on its exposures."""
    ledger = Ledger(out)
    of_exposure = [exposure_of(int(name)) for name in known.name]
    own = {
        (visit, detector)
        for visit, detector in set(of_exposure)
        if ledger.get(ExposureKey(night=night, visit=visit, detector=detector)) is not None
    }
    return np.array([one in own for one in of_exposure], bool)


def _former(out: Path, record: ExposureRecord) -> tuple[DatasetRecord | None, pa.Table, str]:
    """Return the earlier measurements on an exposure, and their digest.

    If a run ended after publishing them and before updating the record, the updated record is returned first.
    """
    name, catalogues = FORCED_SOURCE.name, CatalogStore(out)
    if name not in record.datasets:
        return None, FORCED_SOURCE.empty(), ""
    there = catalogues.read(FORCED_SOURCE, record.key)
    made_from = read_metadata(catalogues.path(FORCED_SOURCE, record.key)).digest
    if made_from == record.datasets[name].digest:
        return None, there, made_from
    return catalogues.record(catalogues.publish(FORCED_SOURCE, record.key, there, made_from)), there, made_from


def _require_same(record: ExposureRecord, known: ForcedTargets, there: pa.Table) -> None:
    """Refuse rows named like an object but measured elsewhere: a list of targets has used the name."""
    there = there.filter(pc.is_in(there["targetName"], value_set=pa.array(known.name.tolist(), pa.string())))
    index = np.searchsorted(known.name, np.array(there["targetName"].to_pylist(), str))
    ra, dec = (there[name].to_numpy() for name in ("ra", "dec"))
    sky = known.at(float(there["midpointMjdTai"][0].as_py())) if len(there) else known
    east = ((ra - sky.ra[index] + 180) % 360 - 180) * np.cos(np.radians(dec))
    far = np.flatnonzero(np.hypot(east, dec - sky.dec[index]) * 3600 > SAME_ARCSEC)
    if len(far):
        raise BadInput(
            "name_taken",
            f"forced_source of exposure {record.name} of night {record.night}",
            f"has a target {there['targetName'][far[0]].as_py()!r} more than {SAME_ARCSEC:g} arcsec from the object of "
            "that diaObjectId.",
            "measure the list again with other names: nightstride forced OUT TARGETS.",
        )
