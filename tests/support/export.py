"""Published catalogues to be exported."""

import numpy as np
import pyarrow as pa

from flows.storage.catalog_store import CatalogStore
from schemas.objects import OBJECT

NIGHTS = ("20260101", "20260102")


def objects(number, seed):
    """Objects at random places; every other one without z band."""
    rng = np.random.default_rng(seed)
    columns = {}
    for field in OBJECT.schema:
        values = rng.integers(0, 9, number) if pa.types.is_integer(field.type) else rng.uniform(1, 50, number)
        if pa.types.is_string(field.type):
            values = ["r"] * number
        missing = np.arange(number) % 2 == 0 if field.name.startswith("z_") and field.nullable else None
        columns[field.name] = pa.array(values, field.type, mask=missing)
    columns["objectId"] = pa.array(seed * 1000 + np.arange(number) + 2**60, pa.int64())
    columns["ra"], columns["dec"] = pa.array(rng.uniform(0, 360, number)), pa.array(rng.uniform(-80, 80, number))
    return pa.table(columns, schema=OBJECT.schema)


def publish(out):
    """Publish two nights; give their objects."""
    tables = [objects(30, seed) for seed in (1, 2)]
    for night, table in zip(NIGHTS, tables, strict=True):
        CatalogStore(out).publish(OBJECT, night, table, "digest")
    return pa.concat_tables(tables)
