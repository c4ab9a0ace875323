"""Stage: links from detections of a night to the objects of a patch of the sky."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.linking.association import separations_from_earlier
from schemas.dia_object import ASSOCIATION, DIA_OBJECT, DIA_OBJECT_SOURCE
from schemas.stage import Context, Stage

_READ = ("diaSourceId", "diaObjectId", "night", "x", "y", "z", "weight", "midpointMjdTai")


def link_dia_objects(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the detections of a night with their objects, by diaSourceId.

    Parameters
    ----------
    inputs
        ``association``, the detections by object and diaSourceId up to the night, which is its last; and
        ``dia_object`` of the patch.
    context
        Not used.

    Returns
    -------
    pyarrow.Table
        Rows of `DIA_OBJECT_SOURCE`: the detections of these objects, also those outside the patch. Separations depend
        on the final objects, not on the order in which exposures were associated.
    """
    found = inputs[ASSOCIATION.name]
    here = pc.is_in(found["diaObjectId"], value_set=inputs[DIA_OBJECT.name]["diaObjectId"].combine_chunks())
    own = found.select(_READ).filter(here)
    last = pc.equal(own["night"], pc.max(found["night"])).to_numpy().astype(np.bool_)
    _, group = np.unique(own["diaObjectId"].to_numpy(), return_inverse=True)
    vectors = np.stack([own[axis].to_numpy() for axis in "xyz"], axis=1)
    weight, mjd = own["weight"].to_numpy(), own["midpointMjdTai"].to_numpy()
    night = own["night"].combine_chunks().dictionary_encode().indices.to_numpy()
    apart = separations_from_earlier(group, vectors, weight, mjd, night, last)
    links = own.select(["diaSourceId", "diaObjectId"]).filter(last).append_column("separation", pa.array(apart))
    return links.sort_by("diaSourceId").cast(DIA_OBJECT_SOURCE.schema)


STAGE = Stage(
    name="link_dia_objects",
    version="2",
    per="patch",
    needs=(ASSOCIATION, DIA_OBJECT),
    gives=DIA_OBJECT_SOURCE,
    run=link_dia_objects,
    columns={DIA_OBJECT.name: ("diaObjectId",)},
)
