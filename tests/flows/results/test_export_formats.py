import io
import re
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse_single_table, validate
from astropy.table import QTable, Table

from flows.pipeline.graph import declared_tables
from flows.results.export_formats import SUFFIXES, export_format, file_format, write_rows
from schemas.dataset import TableOf, column
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.forced import FORCED_SOURCE
from schemas.injection import INJECTION
from schemas.objects import DIA_LINK, OBJECT, SOURCE
from tests.support.association import detections
from tests.support.export import objects

BIG = 2**61 + 1
"""No float holds it."""


def filled(dataset, number=3):
    """Rows with a null in each column that may have some, first."""
    columns = {}
    for field in dataset.schema:
        values = np.arange(number)[::-1]  # with a 0, which no null may be taken for
        if pa.types.is_string(field.type):
            values = ["Zürich"] * number
        elif pa.types.is_fixed_size_list(field.type):
            values = [[0.5] * field.type.list_size] * number
        array = pa.array(values).cast(field.type)
        columns[field.name] = pa.array([None, *array.to_pylist()[1:]], field.type) if field.nullable else array
    return pa.table(columns, schema=dataset.schema)


def agree(table, found):
    assert list(found.colnames) == table.schema.names
    for name in table.schema.names:
        for ours, theirs in zip(table[name].to_pylist(), found[name], strict=True):
            if ours is None:
                assert np.ma.is_masked(theirs) or theirs == "" or np.all(np.isnan(theirs))
            else:
                assert not np.ma.is_masked(theirs)  # numpy would find it equal to anything
                np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize(
    "dataset", [DIA_SOURCE, INJECTION, SOURCE, OBJECT, DIA_LINK, FORCED_SOURCE], ids=lambda one: one.name
)
def test_votables_are_valid_and_give_back_what_was_published(tmp_path, dataset, rows):
    path, table = tmp_path / "table.vot", filled(dataset).slice(0, rows)
    assert write_rows(path, "votable", dataset.name, table) == rows
    report = io.StringIO()
    assert validate(str(path), report), report.getvalue()
    agree(table, Table.read(path, format="votable"))


@pytest.mark.parametrize("name", sorted(declared_tables()))
def test_fits_gives_back_every_dataset(tmp_path, name):
    dataset = declared_tables()[name]
    table = filled(dataset)
    write_rows(tmp_path / "t.fits", "fits", name, table)
    with fits.open(tmp_path / "t.fits") as hdus:
        hdus.verify("exception")
        assert hdus[1].name == name.upper()
        header = hdus[1].header
        assert header["TCOMM1"] == dataset.schema.field(0).metadata[b"doc"].decode().encode("ascii", "replace").decode()
    texts = [one.name for one in dataset.schema if pa.types.is_string(one.type)]
    found = Table.read(tmp_path / "t.fits")
    for text in texts:
        place = table.schema.get_field_index(text)
        escaped = pa.array(
            [one and one.encode("ascii", "backslashreplace").decode() for one in table[text].to_pylist()]
        )
        table = table.set_column(place, table.schema.field(text), escaped)
    agree(table, found)


@pytest.mark.parametrize("form", ["votable", "fits"])
@pytest.mark.parametrize("name", sorted(declared_tables()))
def test_units_are_those_of_the_columns(tmp_path, form, name):
    table = filled(declared_tables()[name], 1)
    write_rows(tmp_path / "t", form, name, table)
    found = Table.read(tmp_path / "t", format=form)
    for field in table.schema:
        unit = field.metadata[b"unit"].decode().replace("mag(AB)", "mag").replace("pixel_unit", "")
        assert found[field.name].unit == (u.Unit(unit) if unit.strip("*2") else None), field.name


def test_votables_keep_texts_with_signs_beyond_16_bits_whole(tmp_path):
    table = pa.table({"file": ["😀/image.fits", "é"]}, schema=pa.schema([column("file", pa.string(), "", "File.")]))
    write_rows(tmp_path / "t.vot", "votable", "files", table)
    assert Table.read(tmp_path / "t.vot", format="votable")["file"].tolist() == ["😀/image.fits", "é"]


def test_fits_has_units_that_astropy_knows(tmp_path):
    rows = detections(1, [150.0, 150.1], [20.0, 20.1], flux=1234.0)
    write_rows(tmp_path / "t.fits", "fits", "dia_source", rows)
    found = QTable.read(tmp_path / "t.fits")
    assert found["psfFlux"][0] == 1234.0 * u.nJy
    assert found["ra"].unit == u.deg
    assert found["x"].unit == u.pix
    assert found["magAB"].unit == u.mag
    with fits.open(tmp_path / "t.fits") as hdus:
        assert hdus[1].header[f"TUCD{rows.schema.get_field_index('ra') + 1}"] == "pos.eq.ra;meta.main"


@pytest.mark.parametrize("form", ["votable", "fits", "csv", "parquet"])
def test_ids_beyond_the_precision_of_a_float_survive(tmp_path, form):
    dataset = TableOf("ids", pa.schema([column("objectId", pa.int64(), "", "Id.", nullable=True)]))
    path = tmp_path / "ids"
    write_rows(path, form, "ids", pa.table({"objectId": [BIG, None]}, schema=dataset.schema))
    if form == "csv":
        assert path.read_text().splitlines() == ['"objectId"', str(BIG), ""]
        return
    found = pq.read_table(path)["objectId"] if form == "parquet" else Table.read(path, format=form)["objectId"]
    assert int(found[0].as_py() if form == "parquet" else found[0]) == BIG
    assert not found[1].is_valid if form == "parquet" else bool(found.mask[1])


def test_votable_columns_say_what_they_are(tmp_path):
    write_rows(tmp_path / "o.vot", "votable", "object", objects(5, 1))
    fields = {field.name: field for field in parse_single_table(tmp_path / "o.vot").fields}
    assert str(fields["g_psfFlux"].unit) == "nJy"
    assert fields["ra"].ucd == "pos.eq.ra;meta.main"
    assert str(fields["g_psfMag"].unit) == "mag"
    assert "dust" in fields["ebv"].description
    assert fields["objectId"].datatype == "long"


def test_csv_is_read_by_pandas(tmp_path):
    table = filled(DIA_SOURCE)
    assert write_rows(tmp_path / "t.csv", "csv", "dia_source", table) == 3
    found = pd.read_csv(tmp_path / "t.csv")
    assert found["diaSourceId"].tolist() == [2, 1, 0]
    assert np.isnan(found["psfFlux"][0])
    assert found["psfFlux"][1] == 1
    assert found["trailCov_24"].tolist()[1:] == [0.5, 0.5]
    assert np.isnan(found["trailCov_0"][0])
    assert found["band"].tolist() == ["Zürich"] * 3


def test_parquet_keeps_units_and_meanings(tmp_path):
    table = filled(DIA_SOURCE)
    write_rows(tmp_path / "t.parquet", "parquet", "dia_source", table)
    found = pq.read_table(tmp_path / "t.parquet")
    assert found.equals(table)
    assert found.schema.field("psfFlux").metadata[b"unit"] == b"nJy"


def test_regions_lie_along_trails(tmp_path):
    rows = detections(
        1, [150.0, 0.0002, 10.0], [20.0, -60.0, 0.0], trailLength=[36.0, 7.2, 0.0], trailAngle=[30.0, 90.0, None],
        trailRa=[None, None, None], trailLengthPx=[36.0, 7.2, 0.0],
    )  # fmt: skip
    lost = rows.slice(0, 1).set_column(
        rows.schema.get_field_index("ra"), rows.schema.field("ra"), pa.array([None], pa.float64())
    )
    assert write_rows(tmp_path / "t.reg", "region", "dia_source", pa.concat_tables([rows, lost])) == 3
    _, _, system, *found = (tmp_path / "t.reg").read_text().splitlines()
    assert system == "icrs"
    assert len(found) == 3
    for line, row in zip(found[:2], rows.to_pylist(), strict=False):
        ends = SkyCoord(
            np.reshape([float(one) for one in re.search(r"line\((.*)\)", line)[1].split(",")], (2, 2)), unit="deg"
        )
        assert ends[0].separation(ends[1]).arcsec == pytest.approx(row["trailLength"], abs=1e-3)
        middle = SkyCoord(row["ra"], row["dec"], unit="deg")
        assert middle.separation(ends[0]).arcsec == pytest.approx(row["trailLength"] / 2, abs=1e-3)
        assert middle.position_angle(ends[0]).deg == pytest.approx(row["trailAngle"], abs=0.01)
        assert f"text={{{row['diaSourceId']}}}" in line
    assert found[2].startswith('circle(10.0000000,0.0000000,3.0")')


def test_what_is_no_longer_than_its_error_is_a_circle(tmp_path):
    length, error = [0.2, 1.9, 2.0, 9.0, 9.0, 9.0], [0.1, 0.1, 0.1, 3.1, 0.1, 0.1]
    angle_error = [9.0, 1.0, 1.0, 1.0, 61.0, 60.0]
    rows = detections(
        1, [150.0] * 6, [20.0] * 6, trailLength=[2 * one for one in length], trailAngle=[30.0] * 6,
        trailLengthPx=length, trailLengthPxErr=error, trailAnglePx=[5.0] * 6, trailAnglePxErr=angle_error,
    )  # fmt: skip
    assert write_rows(tmp_path / "t.reg", "region", "dia_source", rows) == 6
    shapes = [line.partition("(")[0] for line in (tmp_path / "t.reg").read_text().splitlines()[3:]]
    assert shapes == ["circle", "circle", "line", "circle", "circle", "line"]


def test_without_its_length_in_pixels_a_trail_is_what_is_longer_than_three_errors(tmp_path):
    columns = {name: [value] * 3 for name, value in (("ra", 1.0), ("dec", 2.0), ("trailRa", 1.0), ("trailDec", 2.0))}
    columns |= {"trailLength": [9.0] * 3, "trailLengthErr": [2.9, 3.1, None], "trailAngle": [5.0] * 3}
    rows = pa.table(columns)
    write_rows(tmp_path / "t.reg", "region", "some", rows)
    shapes = [line.partition("(")[0] for line in (tmp_path / "t.reg").read_text().splitlines()[3:]]
    assert shapes == ["line", "circle", "line"]


@pytest.mark.parametrize(
    "rows", [filled(DIA_LINK), pa.table({"ra": pa.nulls(2, pa.float64()), "dec": pa.nulls(2, pa.float64())})],
    ids=["no columns", "no places"],
)  # fmt: skip
def test_regions_need_a_place(tmp_path, rows):
    with pytest.raises(Misconfigured, match="has no row with a position"):
        write_rows(tmp_path / "t.reg", "region", "x", rows)
    assert not list(tmp_path.iterdir())


def test_without_rows_regions_are_a_header(tmp_path):
    assert write_rows(tmp_path / "t.reg", "region", "dia_source", DIA_SOURCE.empty()) == 0
    assert (tmp_path / "t.reg").read_text().splitlines()[1:] == ["# dia_source, nightstride", "icrs"]


def test_the_ending_says_the_format(tmp_path):
    assert {export_format(tmp_path / f"x{suffix.upper()}", None) for suffix in SUFFIXES} == set(SUFFIXES.values())
    assert export_format(tmp_path / "x.data", "csv") == "csv"
    assert export_format(tmp_path / "x.fit", "fits") == "fits"
    with pytest.raises(
        Misconfigured, match=r"is csv by its ending, not votable. To fix, name a file that ends in .vot"
    ):
        export_format(tmp_path / "x.csv", "votable")
    with pytest.raises(Misconfigured, match="does not say in which format"):
        export_format(tmp_path / "x", None)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="is a folder; csv is one file"):
        write_rows(tmp_path, "csv", "x", filled(DIA_LINK))
    assert list(tmp_path.iterdir()) == []


def test_a_trail_lies_about_its_own_place_if_it_has_both_numbers_of_it(tmp_path):
    columns = {"trailLength": [36.0] * 4, "trailAngle": [0.0] * 4, "trailLengthPx": [36.0] * 4}
    rows = detections(
        1, [150.0] * 4, [20.0] * 4, trailRa=[151.0, 151.0, None, None], trailDec=[21.0, None, 21.0, None], **columns
    )
    write_rows(tmp_path / "t.reg", "region", "dia_source", rows)
    starts = [line.partition("(")[2].split(",")[0] for line in (tmp_path / "t.reg").read_text().splitlines()[3:]]
    assert starts == ["151.0000000", "150.0000000", "150.0000000", "150.0000000"]


def test_a_format_that_there_is_not_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(Misconfigured, match="is not a format of one file") as caught:
        write_rows(tmp_path / "t.x", "excel", "dia_source", detections(1, [1.0], [2.0]))
    assert caught.value.code == "no_format"
    assert "csv" in caught.value.remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "form"), sorted(SUFFIXES.items()))
def test_the_ending_of_a_file_says_its_format_unless_that_is_a_folder(suffix, form):
    for name in (f"rows{suffix}", f"rows{suffix.upper()}"):
        if form != "hats":
            assert file_format(Path(name)) == form
            continue
        with pytest.raises(Misconfigured, match="a folder of a whole dataset"):
            file_format(Path(name))


def test_a_file_whose_ending_says_no_format_is_refused_with_those_that_do():
    with pytest.raises(Misconfigured, match="does not say in which format") as caught:
        file_format(Path("rows.txt"))
    assert caught.value.code == "no_format"
    assert ".fits" in str(caught.value)
    assert ".hats" not in str(caught.value)
