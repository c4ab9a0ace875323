"""Stage: motion of tracklets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.linking.detections import arc, detections_of, name_of_half
from kernels.linking.motion import PositionErrors, fit_motion, motion_errors
from schemas.dia_source import DIA_SOURCE
from schemas.known_object import SS_SOURCE
from schemas.stage import Context, Stage
from schemas.tracklets import TRACKLET, TRACKLET_SOURCE

_OF_MEMBERS = ("visit", "midpointMjdTai", "ra", "dec", "raErr", "decErr", "ra_dec_Cov", "magAB", "reliability")


def fit_tracklets(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the motion of each tracklet, and the summary of its detections.

    Parameters
    ----------
    inputs
        ``dia_source`` of all exposures of a night, its ``tracklet_source``, and ``ss_source`` if orbits are known.
    context
        Not used.

    Returns
    -------
    pyarrow.Table
        Rows of `TRACKLET`, by trackletId.
    """
    links = inputs[TRACKLET_SOURCE.name]
    links = links.filter(links["trackletId"].is_valid())
    columns = _joined(inputs[DIA_SOURCE.name], links["diaSourceId"].to_numpy())
    tracklet, chance = links["trackletId"].to_numpy(), links["chance"].to_numpy()
    names = _names(inputs.get(SS_SOURCE.name, SS_SOURCE.empty()), links["diaSourceId"])
    order = np.lexsort((columns["midpointMjdTai"], tracklet))
    groups = np.split(order, np.flatnonzero(np.diff(tracklet[order])) + 1)
    rows = [
        {"trackletId": tracklet[members[0]], "chance": chance[members[0]], "designation": name_of_half(names[members])}
        | _row({name: values[members] for name, values in columns.items()})
        for members in groups
        if len(members) > 1
    ]
    return pa.Table.from_pylist(rows, schema=TRACKLET.schema)


def _joined(sources: pa.Table, ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the columns of detections that describe a tracklet, in the order of given ids."""
    known = sources["diaSourceId"].to_numpy()
    order = np.argsort(known)
    place = pa.array(order[np.searchsorted(known, ids, sorter=order)])
    return {name: sources[name].take(place).to_numpy() for name in _OF_MEMBERS}


def _names(known: pa.Table, ids: pa.ChunkedArray) -> NDArray[np.object_]:
    """Return the designations of detections; empty for those of no known object."""
    place = pc.index_in(ids, value_set=known["diaSourceId"])
    return np.asarray(pc.fill_null(known["designation"].take(place), "").to_numpy(), object)


def _row(columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the values of a row of `TRACKLET` from the columns of its detections, sorted by time."""
    detections = detections_of(columns)
    motion = fit_motion(detections.vectors, detections.mjd, detections.sigma)
    ra, dec, covariance = (columns[name].astype(np.float64) for name in ("raErr", "decErr", "ra_dec_Cov"))
    errors = PositionErrors(3600 * ra, 3600 * dec, 3600**2 * covariance)
    rate_error, angle_error = motion_errors(motion, detections.mjd, detections.sigma, errors)
    known = columns["magAB"][np.isfinite(columns["magAB"])].astype(np.float64)
    reliability = columns["reliability"].astype(np.float64)
    return {
        "nSources": len(detections.mjd),
        "nVisits": len(np.unique(columns["visit"])),
        "firstMjdTai": detections.mjd[0],
        "lastMjdTai": detections.mjd[-1],
        "midpointMjdTai": motion.mjd,
        "ra": motion.ra,
        "dec": motion.dec,
        "rate": motion.rate,
        "rateErr": rate_error,
        "positionAngle": motion.angle,
        "positionAngleErr": angle_error,
        "arc": float(arc(float(np.linalg.norm(detections.vectors[-1] - detections.vectors[0])))),
        "rms": motion.rms,
        "chi2": motion.chi2,
        "magAB": known.mean() if len(known) else None,
        "magABStd": known.std(ddof=1) if len(known) > 1 else None,
        "reliabilityMax": reliability.max(),
        "reliabilityMean": reliability.mean(),
    }


STAGE = Stage(
    name="fit_tracklets",
    version="3",
    per="night",
    needs=(DIA_SOURCE, TRACKLET_SOURCE),
    optional=(SS_SOURCE,),
    gives=TRACKLET,
    run=fit_tracklets,
    columns={DIA_SOURCE.name: ("diaSourceId", *_OF_MEMBERS), SS_SOURCE.name: ("diaSourceId", "designation")},
)
