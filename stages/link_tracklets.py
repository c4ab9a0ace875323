"""Stage: stationary detections of a night, and detections explained by one moving object."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.linking.detections import detections_of, find_stationary
from kernels.linking.motion import track_offsets
from kernels.linking.tracklets import find_tracklets
from schemas.dia_source import DIA_SOURCE
from schemas.settings import LinkTrackletsSettings
from schemas.stage import Context, Stage
from schemas.tracklets import LINKED_BY, TRACKLET_SOURCE


def link_tracklets(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the tracklet, if any, of each detection of a night.

    Parameters
    ----------
    inputs
        ``dia_source`` of all exposures of a night.
    context
        The section `LinkTrackletsSettings`.

    Returns
    -------
    pyarrow.Table
        Rows of `TRACKLET_SOURCE`, one for each detection with a sky position, by diaSourceId. Detections classified as
        satellites are neither stationary nor in a tracklet.
    """
    table = inputs[DIA_SOURCE.name]
    table = table.filter(pc.and_(pc.is_finite(table["ra"]), pc.is_finite(table["dec"]))).sort_by("diaSourceId")
    ids, count = table["diaSourceId"].to_numpy(), len(table)
    usable = np.flatnonzero(pc.equal(table["trailClass"], "").to_numpy())
    columns = {name: table[name].to_numpy() for name in LINKED_BY}
    detections = detections_of(columns, table["band"].to_pylist()).take(usable)
    still = find_stationary(detections)
    stationary = np.zeros(count, np.bool_)
    stationary[usable] = still
    tracklet, chance = np.full(count, -1), np.full(count, np.nan)
    along, across = np.full(count, np.nan), np.full(count, np.nan)
    for one in find_tracklets(detections, ~still, context.settings):
        members = np.array(one.members)
        rows = usable[members]
        tracklet[rows], chance[rows] = ids[rows[0]], one.chance
        along[rows], across[rows] = track_offsets(one.motion, detections.vectors[members], detections.mjd[members])
    return pa.table(
        {
            "diaSourceId": ids,
            "stationary": stationary,
            "trackletId": pa.array(tracklet, pa.int64(), mask=tracklet < 0),
            "chance": pa.array(chance, pa.float32(), from_pandas=True),
            "alongOffset": pa.array(along, pa.float32(), from_pandas=True),
            "acrossOffset": pa.array(across, pa.float32(), from_pandas=True),
        },
        schema=TRACKLET_SOURCE.schema,
    )


STAGE = Stage(
    name="link_tracklets",
    version="10",
    per="night",
    needs=(DIA_SOURCE,),
    gives=TRACKLET_SOURCE,
    run=link_tracklets,
    settings=LinkTrackletsSettings,
    columns={DIA_SOURCE.name: ("diaSourceId", "trailClass", "band", *LINKED_BY)},
)
