import numpy as np
import pyarrow as pa
import pytest

from schemas.dataset import ArrayOf, DatasetError, TableOf, column

TABLE = TableOf(
    "thing",
    pa.schema([column("x", pa.float64(), "pix", "Where."), column("ra", pa.float64(), "deg", "Sky.", nullable=True)]),
)
PIXELS = ArrayOf("pixels", "float32", ("y", "x"), "adu")


def test_right_form_passes():
    TABLE.check(pa.table({"x": [1.0], "ra": [None]}, schema=TABLE.schema))
    TABLE.check(TABLE.empty())
    PIXELS.check(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "must be a pyarrow Table, got list"),
        (pa.table({"x": [1.0]}), r"missing \['ra: double'\]"),
        (pa.table({"x": [1], "ra": [1.0]}), r"missing \['x: double'\], unexpected \['x: int64'\]"),
        (pa.table({"x": [None], "ra": [1.0]}, schema=TABLE.schema), "x must not be null, got 1 nulls"),
    ],
)
def test_wrong_table_is_named(value, message):
    with pytest.raises(DatasetError, match=f"dataset 'thing'.*{message}"):
        TABLE.check(value)


@pytest.mark.parametrize("value", [np.zeros((2, 3)), np.zeros(3, np.float32), [[1.0]]])
def test_wrong_array_is_named(value):
    with pytest.raises(DatasetError, match=r"'pixels' must be float32 \('y', 'x'\), got"):
        PIXELS.check(value)


def test_column_carries_unit_and_meaning():
    field = TABLE.schema.field("x")
    assert field.metadata == {b"unit": b"pix", b"doc": b"Where.", b"ucd": b"pos.cartesian.x;instr.det"}
    assert not field.nullable


def test_ids_of_what_was_seen_are_never_below_zero():
    seen = TableOf("seen", pa.schema([column("id", pa.int64(), "", "Which.")]), ids="id")
    seen.check(seen.empty())
    seen.check(pa.table({"id": [0, 5]}, schema=seen.schema))
    with pytest.raises(DatasetError, match="dataset 'seen': id -3 is that of a synthetic row, not of the sky"):
        seen.check(pa.table({"id": [4, -3]}, schema=seen.schema))
