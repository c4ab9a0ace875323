"""Objects of nights at places that are known, as patches publish them."""

import numpy as np
import pyarrow as pa

from flows.storage.static_links import PatchObjects
from flows.storage.static_objects import StaticObjects
from kernels.sky.positions import object_ids
from schemas.objects import OBJECT
from schemas.settings import AssociationSettings

SETTINGS = AssociationSettings()


def objects(ra, dec, error=0.1, **columns):
    """`object` of places in deg, with errors in arcsec."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    given = {"objectId": object_ids(ra, dec) if len(ra) else [], "ra": ra, "dec": dec}
    given |= {"posErr": error, **columns}
    arrays = []
    for field in OBJECT.schema:
        if field.name in given:
            values = np.broadcast_to(given[field.name], len(ra))
            arrays.append(pa.array(values, from_pandas=True).cast(field.type))
        elif field.nullable:
            arrays.append(pa.nulls(len(ra), field.type))
        else:
            arrays.append(pa.array(([""] if pa.types.is_string(field.type) else [0]) * len(ra)).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=OBJECT.schema).sort_by("objectId")


def see(store, night, ra, dec, made_from="d", **columns):
    """Associate a night of one patch; return (known, new)."""
    patch = PatchObjects(objects(ra, dec, **columns), OBJECT.empty())
    return StaticObjects(store).associate(night, made_from, [patch], SETTINGS)
