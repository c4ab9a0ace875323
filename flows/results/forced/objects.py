"""Forced photometry of objects at rest on one exposure, added to what was measured there before."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.results.forced.exposure import measure_forced
from flows.results.forced.run import FORCED_VERSION, opened_tiles
from flows.results.forced.targets import Floats, ForcedTargets, targets_in
from flows.storage.catalog_store import CatalogStore, read_metadata
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from kernels.sky.patches import pixels_at
from schemas.dia_source import exposure_of
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.forced import FORCED_SOURCE
from schemas.ledger import DatasetRecord, ExposureRecord
from schemas.patch import COVER_ORDER

SIGMA = 3.0
"""Standard errors of the upper limits, and least S/N of a detection: as of the command, unless that is told another."""

SAME_ARCSEC = 5.0
"""What was measured by the name of an object, and farther away than this, was something else."""


class ObjectsAsked(NamedTuple):
    """Objects to be measured on an exposure.

    Attributes
    ----------
    paths
        Catalogues ``dia_object`` around it, by night, relative to the output folder. All objects of them are fitted.
    began
        Those that begin in this night are asked for; None: all.
    """

    paths: tuple[str, ...]
    began: str | None = None


class ObjectsMeasured(NamedTuple):
    """What became of it.

    Attributes
    ----------
    of
        Digest of the exposure that was measured.
    dataset
        What its record should hold now; None: what it holds.
    rows
        Number of rows that were added.
    no_tiles
        Whether its pixels were removed, so that nothing could be measured.
    """

    of: str
    dataset: DatasetRecord | None = None
    rows: int = 0
    no_tiles: bool = False


def measure_objects(out: Path, key: ExposureKey, asked: ObjectsAsked) -> ObjectsMeasured:
    """Measure the objects on an exposure that have no row there, and publish their rows with those that are there.

    The record of the exposure is left to the caller.

    Parameters
    ----------
    out
        Output folder; the caller holds its lease.
    key, asked
        The exposure, and its objects.

    Raises
    ------
    BadInput
        Pixels or catalogues cannot be read; or the name of an object is that of another target (``name_taken``).
    Retryable, Misconfigured
        The catalogue cannot be written: see `flows.storage.atomic.write_file`.
    """
    record = Ledger(out).get(key)
    if record is None or record.status != "done":  # withdrawn since
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


def _began(out: Path, known: ForcedTargets, night: str) -> NDArray[np.bool_]:
    """Return which objects begin in a night: their ids are of detections on its exposures."""
    ledger = Ledger(out)
    of_exposure = [exposure_of(int(name)) for name in known.name]
    own = {
        (visit, detector)
        for visit, detector in set(of_exposure)
        if ledger.get(ExposureKey(night=night, visit=visit, detector=detector)) is not None
    }
    return np.array([one in own for one in of_exposure], bool)


def _former(out: Path, record: ExposureRecord) -> tuple[DatasetRecord | None, pa.Table, str]:
    """Return what was measured before on an exposure, and its digest.

    Where a run ended after it had published this, and before it was recorded, first the record that it should have.
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
    """Refuse rows by the name of an object that were measured elsewhere: a list of targets has taken the name."""
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
