import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import QTable, Table

from flows.forced.target_file import read_target_file
from schemas.errors import Misconfigured

CELLS = {"name": ["a", "b"], "ra": [10.5, 20.25], "dec": [-1.0, 2.0]}


def test_csv_cells_are_text(tmp_path):
    (tmp_path / "list").write_bytes('\ufeffname, ra ,dec\r\na, 10.5,-1.0\r\n"b, c",20.25\r\nd,1,2,3\r\n'.encode())
    found = read_target_file(tmp_path / "list")
    assert found.columns == {
        "name": ["a", "b, c", "d"],
        "ra": ["10.5", "20.25", "1"],
        "dec": ["-1.0", None, "2"],
    }
    assert (found.rows, found.units) == (3, {})


def test_parquet_tells_units_in_its_metadata(tmp_path):
    fields = [pa.field(name, pa.string() if name == "name" else pa.float64(), metadata={"unit": unit})
              for name, unit in (("name", ""), ("ra", "rad"), ("dec", "deg"))]  # fmt: skip
    pq.write_table(pa.table(CELLS, schema=pa.schema(fields)), tmp_path / "list")
    found = read_target_file(tmp_path / "list")
    assert found.columns == CELLS
    assert found.units == {"ra": "rad", "dec": "deg"}


def test_ecsv_tells_units_in_its_header(tmp_path):
    table = QTable({"name": ["a", "b"], "ra": [1.0, 2.0], "seen": [True, False]})
    table["ra"].unit = "hourangle"
    Table(table, masked=True).write(tmp_path / "list", format="ascii.ecsv")
    found = read_target_file(tmp_path / "list")
    assert found.columns["ra"] == [1.0, 2.0]
    assert found.units == {"ra": "hourangle"}


def test_masked_cells_are_none(tmp_path):
    table = Table({"name": ["a", "b"], "ra": np.ma.array([1.0, 2.0], mask=[False, True])})
    table.write(tmp_path / "list", format="ascii.ecsv")
    assert read_target_file(tmp_path / "list").columns["ra"] == [1.0, None]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00broken", b"PAR1broken", b"# %ECSV 1.0\n# ---\nnonsense", b'name\n"a" b\n']
)
def test_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(Misconfigured) as caught:
        read_target_file(path)
    assert caught.value.code == "unreadable_targets"
    assert str(path) in str(caught.value)
    with pytest.raises(Misconfigured, match="absent: does not exist"):
        read_target_file(tmp_path / "absent")


def test_file_without_columns_is_refused(tmp_path):
    (tmp_path / "list").write_text("\n")
    with pytest.raises(Misconfigured, match="has no columns"):
        read_target_file(tmp_path / "list")
