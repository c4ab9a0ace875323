"""Catalogues of objects, published into an output folder."""

from itertools import pairwise

import numpy as np
import pyarrow as pa

from flows.storage.catalog_store import CatalogStore
from schemas.class_table import CLASSES, SPECTRAL_CLASS, STAR_GALAXY, class_columns, class_table
from schemas.objects import BANDS, OBJECT


def object_table(magnitudes, error=0.02):
    """Objects with aperture magnitudes (band -> (n,)) of one error, and the colours that follow."""
    n = len(next(iter(magnitudes.values())))
    filled = {"refBand": ["r"] * n, "nBands": [len(magnitudes)] * n, "objectId": range(n)}
    for band, values in magnitudes.items():
        filled |= {f"{band}_apMag": values, f"{band}_apMagErr": [error] * n}
    for blue, red in pairwise(BANDS):
        if blue in magnitudes and red in magnitudes:
            name = f"{blue}Minus{red.upper()}"
            filled |= {name: np.subtract(magnitudes[blue], magnitudes[red]), f"{name}Err": [1.4 * error] * n}
    columns = []
    for field in OBJECT.schema:
        default = [None] * n if field.nullable else [0] * n
        columns.append(pa.array(filled.get(field.name, default), field.type))
    return pa.Table.from_arrays(columns, schema=OBJECT.schema)


def star_galaxy_table(point):
    """Verdicts by the probability of a star, NaN: none."""
    point = np.asarray(point, float)
    columns = class_columns(
        CLASSES, np.arange(len(point)), np.stack([point, 1 - point], 1), np.full(len(point), 0.5), "net 1"
    )
    return class_table(STAR_GALAXY, columns)


def spectral_table(labels, reasons=None):
    """Rows of `SPECTRAL_CLASS` with these labels, reasons why they are unknown, and little else."""
    filled = {"classLabel": labels, "objectId": range(len(labels)), "modelVersion": ["a 1"] * len(labels)}
    filled |= {"typeModelVersion": ["b 1"] * len(labels), "unknownReason": reasons or [None] * len(labels)}
    columns = []
    for field in SPECTRAL_CLASS.schema:
        default = [None] * len(labels) if field.nullable else [0] * len(labels)
        columns.append(pa.array(filled.get(field.name, default), field.type))
    return pa.Table.from_arrays(columns, schema=SPECTRAL_CLASS.schema)


def put_objects(out, night, objects, star_galaxy=None, spectral=None):
    """Publish catalogues of a whole night."""
    store = CatalogStore(out)
    for dataset, table in ((OBJECT, objects), (STAR_GALAXY, star_galaxy), (SPECTRAL_CLASS, spectral)):
        if table is not None:
            store.publish(dataset, night, table, "d" * 64)
