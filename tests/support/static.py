"""Objects of nights at places that are known, as patches publish them."""

import numpy as np

from flows.storage.static_links import PatchObjects
from flows.storage.static_objects import StaticObjects
from kernels.sky.positions import object_ids
from schemas.objects import OBJECT
from schemas.settings import AssociationSettings
from tests.support.filled import filled

SETTINGS = AssociationSettings()


def objects(ra, dec, error=0.1, **columns):
    """`object` of places in deg, with errors in arcsec."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    given = {"objectId": object_ids(ra, dec) if len(ra) else [], "ra": ra, "dec": dec}
    given |= {"posErr": error, **columns}
    return filled(OBJECT.schema, len(ra), **given).sort_by("objectId")


def see(store, night, ra, dec, made_from="d", **columns):
    """Associate a night of one patch; return (known, new)."""
    patch = PatchObjects(objects(ra, dec, **columns), OBJECT.empty())
    return StaticObjects(store).associate(night, made_from, [patch], SETTINGS)
