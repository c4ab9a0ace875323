"""Detections that sit on objects of the science images: whether all light of the object is new."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.objects import BANDS, SourceFlag

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALL_NEW = 0.85
"""Fraction of an object's light above which all of it counts as new: a star 6.7 times as bright as before.

No error is allowed for: both fluxes come from the same pixels and share most of their noise. For the separation of new
sources and variable stars see docs/use/association.md.
"""

OBJECT_COLUMNS = ("objectId", "flags", *(f"{band}_{end}" for band in BANDS for end in ("nExposures", "psfFlux")))
"""Columns of `object` that are read."""


def all_is_new(
    objects: pa.Table, source: Integers, on: Integers, band: Sequence[str], flux: Floats
) -> NDArray[np.bool_]:
    """Return of which detections the object that they sit on is the new source itself.

    Those of one source on one object are judged together. In each of their bands all fluxes must be positive, and have
    a mean of `ALL_NEW` of the object's flux or more; and they must be of half of the exposures or more that this is the
    mean of, since in that mean light of few exposures is little. Where a flux is unknown, or the object saturated, it
    is not.

    Parameters
    ----------
    objects
        `OBJECT_COLUMNS` of objects.
    source, on : (k,)
        Number of each one's source, and the objectId that it sits on.
    band, flux : (k,)
        Its band, and its flux in the unit of the objects'; NaN: unknown.
    """
    if not len(source):
        return np.zeros(0, bool)
    whole, exposures = _of_objects(objects, on, band)
    pair = np.unique(np.stack([source, on]), axis=1, return_inverse=True)[1].reshape(-1)
    names, number = np.unique(np.asarray(band, np.str_), return_inverse=True)
    group = pair * len(names) + number
    count, new, light = (np.bincount(group, part)[group] for part in (np.ones(len(flux)), flux, whole))
    with np.errstate(invalid="ignore"):
        good = (flux > 0) & (whole > 0) & (new >= ALL_NEW * light) & (2 * count >= exposures)
    return np.asarray(np.bincount(pair, ~good)[pair] == 0)


def _of_objects(objects: pa.Table, on: Integers, band: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the flux of each detection's object in its band, NaN: unknown, and how many exposures have part in it."""
    objects = objects.filter(pc.is_in(objects["objectId"], pa.array(on)))
    names, usable = np.asarray(band, np.str_), (objects["flags"].to_numpy() & SourceFlag.SATURATED) == 0
    row_of = dict(zip(objects["objectId"].to_numpy()[usable].tolist(), np.flatnonzero(usable).tolist(), strict=True))
    rows = np.array([row_of.get(one, -1) for one in on.tolist()], np.int64)
    known = rows >= 0
    whole, exposures = np.full(len(on), np.nan), np.zeros(len(on))
    for one in set(names[known].tolist()).intersection(BANDS):
        own = known & (names == one)
        whole[own] = objects[f"{one}_psfFlux"].to_numpy()[rows[own]]
        exposures[own] = objects[f"{one}_nExposures"].to_numpy()[rows[own]]
    return whole, exposures
