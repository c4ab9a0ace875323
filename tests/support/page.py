"""Catalogues of objects, published into an output folder."""

from itertools import pairwise

import numpy as np

from flows.storage.catalog_store import CatalogStore
from schemas.class_table import CLASSES, SPECTRAL_CLASS, STAR_GALAXY, class_columns, class_table
from schemas.objects import BANDS, OBJECT
from tests.support.filled import filled


def object_table(magnitudes, error=0.02):
    """Objects with aperture magnitudes (band -> (n,)) of one error, and the colours that follow."""
    n = len(next(iter(magnitudes.values())))
    columns = {"nBands": len(magnitudes), "objectId": range(n)}
    for band, values in magnitudes.items():
        columns |= {f"{band}_apMag": values, f"{band}_apMagErr": error}
    for blue, red in pairwise(BANDS):
        if blue in magnitudes and red in magnitudes:
            name = f"{blue}Minus{red.upper()}"
            columns |= {name: np.subtract(magnitudes[blue], magnitudes[red]), f"{name}Err": 1.4 * error}
    return filled(OBJECT.schema, n, **columns)


def star_galaxy_table(point):
    """Verdicts by the probability of a star, NaN: none."""
    point = np.asarray(point, float)
    columns = class_columns(
        CLASSES, np.arange(len(point)), np.stack([point, 1 - point], 1), np.full(len(point), 0.5), "net 1"
    )
    return class_table(STAR_GALAXY, columns)


def spectral_table(labels, reasons=None):
    """Rows of `SPECTRAL_CLASS` with these labels, reasons why they are unknown, and little else."""
    columns = {"classLabel": labels, "objectId": range(len(labels)), "unknownReason": reasons}
    return filled(SPECTRAL_CLASS.schema, len(labels), modelVersion="a 1", typeModelVersion="b 1", **columns)


def put_objects(out, night, objects, star_galaxy=None, spectral=None):
    """Publish catalogues of a whole night."""
    store = CatalogStore(out)
    for dataset, table in ((OBJECT, objects), (STAR_GALAXY, star_galaxy), (SPECTRAL_CLASS, spectral)):
        if table is not None:
            store.publish(dataset, night, table, "d" * 64)
