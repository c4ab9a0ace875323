"""Stage: permanent ids and histories of the objects of the science images in a patch of the sky."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.linking.association import flux_statistics, separations_from_earlier
from kernels.linking.proper_motion import LEAST_DAYS, LEAST_NIGHTS, fit_motions, motion_sums
from kernels.sky.positions import sky_position
from schemas.dia_object import flux_statistics_arrays, motion_arrays
from schemas.errors import BadInput
from schemas.objects import BANDS, OBJECT
from schemas.stage import Context, Stage
from schemas.static_object import STATIC_ASSOCIATION, STATIC_OBJECT


def gather_static_objects(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the history of each object of a night up to that night, in the order of `object`.

    Parameters
    ----------
    inputs
        ``object`` of the patch, and ``static_association`` of at least these objects, over all nights up to and
        including this one.
    context
        Not used.

    Returns
    -------
    pyarrow.Table
        Rows of `STATIC_OBJECT`. Fluxes without a known error do not count.

    Raises
    ------
    BadInput
        An object is not associated (``not_associated``): the inputs belong to different catalogues.
    """
    found = inputs[STATIC_ASSOCIATION.name]
    ids, group = np.unique(found["staticObjectId"].to_numpy(), return_inverse=True)
    night = found["night"].to_numpy(zero_copy_only=False).astype("U8")
    mjd, weight = found["mjd"].to_numpy(), found["weight"].to_numpy()
    last = mjd == mjd.max(initial=0)
    own = _rows_of(inputs[OBJECT.name]["objectId"].to_numpy(), found["objectId"].to_numpy(), last)
    vectors = np.stack([found[axis].to_numpy() for axis in "xyz"], axis=1)
    sums, count = motion_sums(vectors, weight, mjd), np.bincount(group, minlength=len(ids))
    motions = fit_motions(np.stack([np.bincount(group, part, len(ids)) for part in sums.T], axis=1), count)
    ra, dec = sky_position(motions.place)
    first = np.full(len(ids), np.inf)
    np.minimum.at(first, group, mjd)
    days = mjd.max(initial=0) - first
    begun = np.zeros(len(ids), "U8")
    earliest = mjd == first[group]
    begun[group[earliest]] = night[earliest]
    which, apart = group[own], np.zeros(len(found))
    of_night = np.unique(mjd, return_inverse=True)[1]
    apart[last] = separations_from_earlier(group, vectors, weight, mjd, of_night, last)
    columns = {
        "objectId": found["objectId"].to_numpy()[own],
        "staticObjectId": ids[which],
        "separation": pa.array(apart[own], pa.float32()),
        "nNights": pa.array(count[which], pa.int32()),
        "firstNight": begun[which],
        "lastNight": night[own],
        "meanRa": ra[which],
        "meanDec": dec[which],
        "meanPosErr": pa.array(motions.place_sigma[which], pa.float32()),
        "meanMjd": motions.epoch[which],
    }
    east, north, error = (one[which] for one in motions.on_sky())
    columns |= motion_arrays(east, north, error, ((count >= LEAST_NIGHTS) & (days >= LEAST_DAYS))[which])
    for band in BANDS:
        flux, flux_error = (found[f"{band}_psfFlux{end}"].to_numpy().astype(np.float64) for end in ("", "Err"))
        statistics = flux_statistics(group, flux, flux_error, len(ids))
        columns |= flux_statistics_arrays(band, [one[which] for one in statistics])
    return pa.table(columns, schema=STATIC_OBJECT.schema)


def _rows_of(wanted: NDArray[np.int64], objects: NDArray[np.int64], last: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows of the association for the objects of its last night."""
    there = np.flatnonzero(last)
    there = there[np.argsort(objects[there])]
    place = np.searchsorted(objects[there], wanted)
    lost = np.flatnonzero(np.append(objects[there], -1)[place] != wanted)
    if len(lost):
        raise BadInput(
            "not_associated", f"object {wanted[lost[0]]}", "is not in the store of the association.",
            "associate the night again: `nightstride associate OUT`.",
        )  # fmt: skip
    return np.asarray(there[place], np.int64)


STAGE = Stage(
    name="gather_static_objects",
    version="1",
    per="patch",
    needs=(STATIC_ASSOCIATION, OBJECT),
    gives=STATIC_OBJECT,
    run=gather_static_objects,
    columns={OBJECT.name: ("objectId",)},
)
