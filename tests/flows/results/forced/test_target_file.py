import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import QTable, Table
from astropy.time import Time

from flows.results.forced.target_file import Cells, TargetFile, read_target_file
from schemas.errors import BadInput, Misconfigured


def cells(units=None, **columns):
    return Cells(TargetFile(Path("list.csv"), {name: [cell] for name, cell in columns.items()}, units or {}))


@pytest.mark.parametrize("cell", ["12.5", " 12.5 ", 12.5, "1.25e1"])
def test_numbers_may_be_text(cell):
    assert cells(ra=cell).number(0, "ra", 0, 360) == 12.5


@pytest.mark.parametrize("cell", ["", None, "x", "nan", "inf", -0.1, 360.5, "12,5", [1.0]])
def test_bad_number_names_row_column_value_and_rule(cell):
    with pytest.raises(BadInput) as caught:
        cells(ra=cell).number(0, "ra", 0, 360)
    assert caught.value.code == "bad_target"
    message = f"list.csv: row 1, column ra: is {cell!r}, must be a number from 0 to 360 (deg). To fix, correct it."
    assert str(caught.value) == message


@pytest.mark.parametrize("cell", [0, 360, "0.0", "360"])
def test_numbers_go_from_one_limit_to_the_other(cell):
    assert cells(ra=cell).number(0, "ra", 0, 360) == float(cell)
    for low, high in ((float(cell) + 1e-9, 400.0), (-1.0, float(cell) - 1e-9)):
        with pytest.raises(BadInput):
            cells(ra=cell).number(0, "ra", low, high)


@pytest.mark.parametrize("cell", ["inf", "-inf", "nan"])
def test_no_number_is_without_end(cell):
    with pytest.raises(BadInput):
        cells(rate_dec=cell).number(0, "rate_dec", -math.inf, math.inf)


@pytest.mark.parametrize(("first", "last"), [("1972-01-01", "2100-01-01")])
def test_epochs_are_from_1972_to_2100(first, last):
    for day, beyond in ((first, -1e-5), (last, 1e-5)):
        mjd = float(Time(day, scale="tai").mjd)
        assert cells(epoch=mjd).epoch(0, needed=True) == mjd
        with pytest.raises(BadInput, match="from 41317 to 88069"):
            cells(epoch=mjd + beyond).epoch(0, needed=True)


def test_of_two_epochs_that_in_tai_counts():
    assert cells(epoch=60000.0, epoch_utc=50000.0).epoch(0, needed=False) == 60000.0


def test_rule_says_what_it_does_not_limit():
    with pytest.raises(BadInput, match=r"must be a number of at least 0 \(arcsec / h\)"):
        cells(rate=-1).number(0, "rate", 0, math.inf)
    with pytest.raises(BadInput, match=r"must be a number \(arcsec / h\)"):
        cells(rate_dec="x").number(0, "rate_dec", -math.inf, math.inf)


@pytest.mark.parametrize(("unit", "value"), [("deg", 12.0), ("hourangle", 180.0), ("rad", 687.5493541569879)])
def test_stated_units_are_converted(unit, value):
    assert cells({"ra": unit}, ra=12).number(0, "ra", 0, 1000) == pytest.approx(value)


def test_rates_are_converted():
    assert cells({"rate": "deg / d"}, rate=1.0).number(0, "rate", 0, 1e9) == pytest.approx(150.0)


@pytest.mark.parametrize("unit", ["mag", "furlong", "arcsec"])
def test_other_units_are_refused(unit):
    with pytest.raises(Misconfigured, match=f"column rate: has the unit '{unit}'"):
        cells({"rate": unit}, rate=1.0)


@pytest.mark.parametrize("cell", ["", "  ", None, "two\nlines", "bell\a"])
def test_names_are_printable(cell):
    with pytest.raises(BadInput, match="column name"):
        cells(name=cell).text(0, "name")


def test_numbers_may_be_names():
    assert cells(name=433).text(0, "name") == "433"


def test_epochs_are_tai():
    assert cells(epoch=60000.25).epoch(0, needed=True) == 60000.25
    expected = Time(60000.25, format="mjd", scale="utc").tai.mjd
    assert cells(epoch_utc="60000.25").epoch(0, needed=True) == pytest.approx(expected, abs=1e-10)
    assert expected - 60000.25 == pytest.approx(37 / 86400, abs=1e-9)


def test_epoch_is_needed_by_what_moves():
    for blank in ("", "  ", None, math.nan):
        assert math.isnan(cells(epoch=blank).epoch(0, needed=False))
    assert math.isnan(cells(ra=1).epoch(0, needed=False))
    for cell in ("", "2460000.5", "yesterday"):
        with pytest.raises(BadInput, match="column epoch"):
            cells(epoch=cell).epoch(0, needed=True)
    with pytest.raises(BadInput, match="column epoch"):
        cells(epoch="yesterday").epoch(0, needed=False)


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


@pytest.mark.parametrize("header", ["name,ra,dec,ra", "name,ra,dec, ra ", "name,ra,dec,name"])
def test_column_that_is_there_twice_is_refused(tmp_path, header):
    (tmp_path / "list").write_text(f"{header}\na,1,2,3\n")
    with pytest.raises(Misconfigured, match="twice") as caught:
        read_target_file(tmp_path / "list")
    assert caught.value.code == "stated_twice"


def test_other_columns_may_be_there_twice(tmp_path):
    (tmp_path / "list").write_text("name,ra,dec,note,note\na,1,2,x,y\n")
    assert read_target_file(tmp_path / "list").columns["ra"] == ["1"]


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
