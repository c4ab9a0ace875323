"""Stage: the detections of a night and the objects that they are."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.dia_object import ASSOCIATION, DIA_OBJECT_SOURCE
from schemas.stage import Context, Stage


def link_dia_objects(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the detections of a night with their objects, by diaSourceId.

    Parameters
    ----------
    inputs
        ``association``: the detections up to the night, which is the last of those in it.
    context
        Nothing of it is used.

    Returns
    -------
    pyarrow.Table
        Of `DIA_OBJECT_SOURCE`.
    """
    found = inputs[ASSOCIATION.name]
    own = found.filter(pc.equal(found["night"], pc.max(found["night"]))).sort_by("diaSourceId")
    return own.select(DIA_OBJECT_SOURCE.schema.names).cast(DIA_OBJECT_SOURCE.schema)


STAGE = Stage(
    name="link_dia_objects",
    version="1",
    per="night",
    needs=(ASSOCIATION,),
    gives=DIA_OBJECT_SOURCE,
    run=link_dia_objects,
)
