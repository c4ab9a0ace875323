"""Published exposures of a night that never were on a telescope, and small stages that work on whole nights."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.dataset import ArrayOf, TableOf, column
from schemas.errors import NoWork
from schemas.exposure import ExposureKey
from schemas.stage import Stage
from tests.support.exposure import exposure_record

NIGHT = "20260101"
SEEN = TableOf("seen", pa.schema([column("value", pa.float64(), "", "A number.")]), product=True)
_COLUMNS = [column("thingId", pa.int64(), "", "Id."), column("twice", pa.float64(), "", "Twice the value.")]
THING = TableOf("thing", pa.schema(_COLUMNS), ids="thingId")
SHAPES = ArrayOf("shapes", "float32", ("thing", "y"), "adu")
TOTAL = TableOf("total", pa.schema([column("total", pa.float64(), "", "Sum.")]))


def see(inputs, context):
    raise AssertionError("runs on exposures")


def gather(inputs, context):
    values = inputs["seen"]["value"].to_numpy()
    if not len(values):
        raise NoWork("no_rows", "stage gather", "nothing was seen.", "look elsewhere.")
    return pa.table({"thingId": np.arange(len(values)), "twice": 2 * values}, schema=THING.schema)


def cut(inputs, context):
    values = inputs["thing"]["twice"].to_numpy()
    made = context.allocate((len(values), 3), "float32")
    made[:] = values[:, None]
    return made


def add(inputs, context):
    total = float(inputs["shapes"].sum())
    if total < 0:
        raise ZeroDivisionError("a defect of the stage")
    return pa.table({"total": [total]}, schema=TOTAL.schema)


PIPELINE = (
    Stage("see", "1", "exposure", (), SEEN, see),
    Stage("gather", "1", "night", (SEEN,), THING, gather),
    Stage("cut", "1", "night", (THING,), SHAPES, cut),
    Stage("add", "1", "night", (SHAPES,), TOTAL, add),
)


def publish(out: Path, visit: int, values, status="done") -> None:
    """Put one exposure with its rows of ``seen`` into an output folder."""
    key = ExposureKey(night=NIGHT, visit=visit, detector=0)
    datasets = {}
    if values is not None:
        table = pa.table({"value": np.array(values, float)}, schema=SEEN.schema)
        store = CatalogStore(out)
        datasets["seen"] = store.record(store.publish(SEEN, key, table, f"{values}"))
    record = exposure_record(key, source_uri=str(visit), datasets=datasets, status=status)
    Ledger(out).put(record)
