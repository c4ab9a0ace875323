"""Stage: the detections of a night and the objects, of a patch of the sky, that they are."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.dia_object import ASSOCIATION, DIA_OBJECT, DIA_OBJECT_SOURCE
from schemas.stage import Context, Stage


def link_dia_objects(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the detections of a night with their objects, by diaSourceId.

    Parameters
    ----------
    inputs
        ``association``: detections up to the night, which is the last of those in it; and ``dia_object`` of the patch.
    context
        Nothing of it is used.

    Returns
    -------
    pyarrow.Table
        Of `DIA_OBJECT_SOURCE`, the detections of these objects, wherever they lie.
    """
    found = inputs[ASSOCIATION.name]
    here = pc.is_in(found["diaObjectId"], value_set=inputs[DIA_OBJECT.name]["diaObjectId"].combine_chunks())
    own = found.filter(pc.and_(here, pc.equal(found["night"], pc.max(found["night"])))).sort_by("diaSourceId")
    return own.select(DIA_OBJECT_SOURCE.schema.names).cast(DIA_OBJECT_SOURCE.schema)


STAGE = Stage(
    name="link_dia_objects",
    version="1",
    per="patch",
    needs=(ASSOCIATION, DIA_OBJECT),
    gives=DIA_OBJECT_SOURCE,
    run=link_dia_objects,
    columns={DIA_OBJECT.name: ("diaObjectId",)},
)
