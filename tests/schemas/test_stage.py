import numpy as np
import pyarrow as pa
import pytest

from schemas.dataset import ArrayOf, DatasetError, TableOf, column
from schemas.stage import Context, Stage

PIXELS = ArrayOf("pixels", "float32", ("y", "x"), "adu")
EXTRA = ArrayOf("extra", "float32", ("y", "x"), "adu")
SUM = TableOf("sum", pa.schema([column("value", pa.float64(), "adu", "Sum.")]))


def add(inputs, context):
    total = sum(float(one.sum()) for one in inputs.values()) * context.models["factor"]()
    return pa.table({"value": [total]}, schema=SUM.schema)


def wrong(inputs, context):
    return pa.table({"other": [1]})


STAGE = Stage("add", "1", "tile", (PIXELS,), SUM, add, optional=(EXTRA,), weights=("factor",))
CONTEXT = Context(models={"factor": lambda: 2.0})
ONES = np.ones((2, 2), np.float32)


def test_runs_on_what_is_declared_and_nothing_else():
    assert STAGE({"pixels": ONES}, CONTEXT)["value"].to_pylist() == [8.0]
    assert STAGE({"pixels": ONES, "extra": ONES}, CONTEXT)["value"].to_pylist() == [16.0]
    assert STAGE({"pixels": ONES, "unrelated": "not looked at"}, CONTEXT)["value"].to_pylist() == [8.0]


def test_names_what_is_missing():
    with pytest.raises(DatasetError, match=r"'add' needs \['pixels'\], got \['extra'\]. To fix"):
        STAGE({"extra": ONES}, CONTEXT)
    with pytest.raises(DatasetError, match=r"'add' needs the models \['factor'\]"):
        STAGE({"pixels": ONES}, Context())


def test_checks_both_ways():
    with pytest.raises(DatasetError, match="'extra' must be float32"):
        STAGE({"pixels": ONES, "extra": ONES.astype(float)}, CONTEXT)
    with pytest.raises(DatasetError, match=r"'sum'.*missing"):
        Stage("wrong", "1", "tile", (PIXELS,), SUM, wrong)({"pixels": ONES}, CONTEXT)
