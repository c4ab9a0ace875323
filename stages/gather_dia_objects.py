"""Stage: objects of the difference images seen in a night in a patch of the sky, as known up to that night."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.linking.association import Reach, flux_statistics
from kernels.linking.detections import SLOWEST
from kernels.linking.proper_motion import LEAST_DAYS, LEAST_NIGHTS, fit_motions, motion_sums
from kernels.objects.new_light import OBJECT_COLUMNS, all_is_new
from kernels.sky.positions import sky_position
from schemas.class_table import STAR_GALAXY
from schemas.dia_object import ASSOCIATION, DIA_OBJECT, DiaObjectFlag, flux_statistics_arrays, motion_arrays
from schemas.objects import BANDS, DIA_LINK, OBJECT
from schemas.stage import Context, Stage

_GONE_D = Reach().most / 3600 / SLOWEST
"""After so long, d, what moves at all has left the place."""

_ON = Reach(sigmas=3.0, least=0.5)
"""Distance within which a detection is taken to be on a star or galaxy."""

_LINK = ("diaSourceId", "objectId", "separation")
"""Columns of `DIA_LINK` that are read."""


def gather_dia_objects(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the objects seen in a night, sorted by id.

    Parameters
    ----------
    inputs
        ``association``, the detections up to the night of objects that may lie in the patch. If the night has them,
        also ``dia_link``, ``star_galaxy`` and ``object``, for the objects on which detections lie, including objects
        in neighbouring patches.
    context
        The patch.

    Returns
    -------
    pyarrow.Table
        Rows of `DIA_OBJECT` in the patch and its margin. An object depends only on its own detections, so it is the
        same in every patch.
    """
    found = inputs[ASSOCIATION.name]
    ids, group = np.unique(found["diaObjectId"].to_numpy(), return_inverse=True)
    count = np.bincount(group, minlength=len(ids))
    mjd = found["midpointMjdTai"].to_numpy()
    vectors = np.stack([found[axis].to_numpy() for axis in "xyz"], axis=1)
    sums = motion_sums(vectors, found["weight"].to_numpy(), mjd)
    motions = fit_motions(np.stack([np.bincount(group, part, len(ids)) for part in sums.T], axis=1), count)
    ra, dec = sky_position(motions.place)
    error = pa.array(motions.place_sigma / 3600, pa.float32())
    first, last = np.full(len(ids), np.inf), np.full(len(ids), -np.inf)
    np.minimum.at(first, group, mjd)
    np.maximum.at(last, group, mjd)
    flags = np.where(last - first >= _GONE_D, DiaObjectFlag.STATIONARY, 0) | _sits_on(inputs, group, len(ids))
    columns = {
        "diaObjectId": ids,
        "ra": ra,
        "dec": dec,
        "raErr": error,
        "decErr": error,
        "nDiaSources": pa.array(count, pa.int32()),
        "firstDiaSourceMjdTai": first,
        "lastDiaSourceMjdTai": last,
        **{name: column for band in BANDS for name, column in _of_band(found, group, len(ids), band).items()},
        "flags": pa.array(flags, pa.int32()),
        "radecMjdTai": motions.epoch,
        **motion_arrays(
            *motions.on_sky(), (_nights(found, group, len(ids)) >= LEAST_NIGHTS) & (last - first >= LEAST_DAYS)
        ),
    }
    made = pa.table(columns, schema=DIA_OBJECT.schema)
    if context.patch is None:
        return made
    return made.filter(pa.array(context.patch.holds(ra, dec, context.patch.margin)))


def _nights(found: pa.Table, group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """Return the number of nights on which each object was seen."""
    night = found["night"].combine_chunks().dictionary_encode()
    seen = np.unique(group * len(night.dictionary) + night.indices.to_numpy())
    return np.bincount(seen // max(len(night.dictionary), 1), minlength=groups)


def _of_band(found: pa.Table, group: NDArray[np.int64], groups: int, band: str) -> dict[str, pa.Array]:
    own = pc.equal(found["band"], band).to_numpy()
    flux, error = (found[name].to_numpy()[own] for name in ("psfFlux", "psfFluxErr"))
    return flux_statistics_arrays(band, flux_statistics(group[own], flux, error, groups))


def _sits_on(inputs: Mapping[str, Any], group: NDArray[np.int64], objects: int) -> NDArray[np.int64]:
    """Return the flags for detections of the night that lie on stars and galaxies."""
    flags = np.zeros(objects, np.int64)
    if DIA_LINK.name not in inputs or STAR_GALAXY.name not in inputs:
        return flags
    found, links, classes = inputs[ASSOCIATION.name], inputs[DIA_LINK.name], inputs[STAR_GALAXY.name]
    labels = dict(zip(classes["objectId"].to_pylist(), classes["classLabel"].to_pylist(), strict=True))
    on = {
        source: (labels.get(one), one, apart)
        for source, one, apart in zip(*(links[name].to_pylist() for name in _LINK), strict=True)
        if one is not None
    }
    reach = _ON.of(1 / np.sqrt(found["weight"].to_numpy()))
    rows, stars = list[int](), list[int]()
    for row, source in enumerate(found["diaSourceId"].to_pylist()):
        label, one, apart = on.get(source, (None, -1, np.inf))
        if apart > reach[row]:
            continue
        if label == "galaxy":
            flags[group[row]] |= DiaObjectFlag.NUCLEAR
        elif label == "star":
            rows.append(row)
            stars.append(one)
    where = np.array(rows, np.int64)
    varies = ~_itself(inputs.get(OBJECT.name), found.take(pa.array(where)), group[where], np.array(stars, np.int64))
    flags[group[where[varies]]] |= DiaObjectFlag.VARIABLE_STAR
    return flags


def _itself(
    objects: pa.Table | None, found: pa.Table, group: NDArray[np.int64], stars: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which detections on stars are the stars themselves."""
    if objects is None:
        return np.zeros(len(found), bool)
    return all_is_new(objects, group, stars, found["band"].to_pylist(), found["psfFlux"].to_numpy())


STAGE = Stage(
    name="gather_dia_objects",
    version="3",
    per="patch",
    needs=(ASSOCIATION,),
    optional=(DIA_LINK, STAR_GALAXY, OBJECT),
    gives=DIA_OBJECT,
    run=gather_dia_objects,
    margin=True,
    columns={
        DIA_LINK.name: _LINK,
        STAR_GALAXY.name: ("objectId", "classLabel"),
        OBJECT.name: OBJECT_COLUMNS,
    },
)
