"""Published detections around a corner of large pixels of the sky, of objects that are seen over years.

Some of the objects are stars that move across borders of patches; each detection of the night has a star or a galaxy
beside it.
"""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from flows.storage.association_store import opened_association
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from kernels.sky.patches import cover
from kernels.sky.positions import along_great_circle
from schemas.class_table import STAR_GALAXY
from schemas.dia_source import DIA_SOURCE
from schemas.objects import DIA_LINK
from schemas.settings import AssociationSettings
from schemas.stage import Stage
from tests.support.association import detections, key
from tests.support.exposure import exposure_record
from tests.support.filled import filled
from tests.support.patch_night import INFOS, NIGHT, SHAPE, places
from tests.support.patch_night import PIPELINE as ALL

BEFORE = [*range(-1000, -900, 8), -800, -650, -500, -350, -200, -100]
AFTER = [*range(30, 300, 30)]
"""When other nights are, d from the night."""

MJD, STARS = 61000.0, 25
_NORTH = 1.0 / 3600


def sky(seed=7):
    """Places in the night, and motions (arcsec / yr, position angle): the first are stars, the others rest."""
    rng, where = np.random.default_rng(seed), places()
    fast = np.concatenate([rng.uniform(4, 7, STARS), np.zeros(len(where) - STARS)])
    return where, fast, rng.uniform(0, 360, len(where))


def seen(days, seed):
    """Return where the objects are found some days later."""
    (where, fast, angle), rng = sky(), np.random.default_rng(seed)
    ra, dec, _ = along_great_circle(*where.T, angle, fast * days / 365.25 / 3600)
    return ra + rng.normal(0, 0.05, len(ra)) / 3600, dec + rng.normal(0, 0.05, len(dec)) / 3600


def associate(store, visit, night, days, found=None):
    found = detections(visit, *seen(days, visit), mjd=MJD + days) if found is None else found
    store.associate(key(visit, night), "d", found, AssociationSettings())
    return found


def publish(out, visit, found, pixels):
    store, one = CatalogStore(out), key(visit, NIGHT)
    datasets = {DIA_SOURCE.name: store.record(store.publish(DIA_SOURCE, one, found, f"{visit}"))}
    Ledger(out).put(exposure_record(one, source_uri=str(visit), datasets=datasets, sky=pixels))


def label_of(days):
    return (date(2026, 1, 1) + timedelta(days)).strftime("%Y%m%d")


def make_night(out):
    """Publish two visits of the night, and associate them with the nights before and after."""
    with opened_association(out, AssociationSettings()) as store:
        for number, days in enumerate(BEFORE):
            associate(store, 1 + number, label_of(days), days)
        for visit in (100, 101):
            found = associate(store, visit, NIGHT, visit / 1e5)
            publish(out, visit, found, cover(INFOS[0].wcs_header, SHAPE))
        for number, days in enumerate(AFTER):
            associate(store, 200 + number, label_of(days), days)


def table(form, columns, count):
    return filled(form.schema, count, **columns)


def link(inputs, context):
    """Link each detection in the patch to an object of its own number."""
    ids = inputs[DIA_SOURCE.name]["diaSourceId"].to_numpy()
    return table(DIA_LINK, {"diaSourceId": ids, "objectId": ids, "separation": np.full(len(ids), 0.1)}, len(ids))


def label(inputs, context):
    """Label these objects, which lie an arcsec to the north: in the patch where they do."""
    found = inputs[DIA_SOURCE.name]
    found = found.filter(pa.array(context.patch.holds(found["ra"].to_numpy(), found["dec"].to_numpy() + _NORTH)))
    ids = found["diaSourceId"].to_numpy()
    labels = np.array(["star", "galaxy", "unknown"])[ids % 3]
    return table(STAR_GALAXY, {"objectId": ids, "classLabel": labels}, len(ids))


LINKING = Stage("link_hosts", "t", "patch", (DIA_SOURCE,), DIA_LINK, link)
LABELLING = Stage("star_galaxy", "t", "patch", (DIA_SOURCE,), STAR_GALAXY, label, margin=True)


def pipeline(linking=LINKING):
    """Our own stages of exposures and patches, but for those that need images."""
    ours = {"link_hosts": linking, "star_galaxy": LABELLING}
    return tuple(ours.get(stage.name, stage) for stage in ALL)


PIPELINE = pipeline()
