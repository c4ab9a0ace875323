import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.inputs.archive_table import read_archive
from schemas.archive_columns import BANDS
from schemas.errors import BadInput, Misconfigured

WANTED = (*BANDS, "class")
HEADER = "objid,u,g,r,i,z,class,redshift"
ROWS = [
    "1237648720693755918,19.1,17.9,17.3,17.0,16.8,GALAXY,0.08",
    "1237648720693755919,18.9,17.6,17.1,16.9,16.8,STAR,0.0001",
    "1237648720693755920,18.5,18.4,18.3,18.2,18.1,QSO,1.4",
]


def write(tmp_path, *lines, name="table.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv_as_skyserver_gives_it(tmp_path):
    table = read_archive(write(tmp_path, "#Table1", HEADER, *ROWS), WANTED, ("redshift", "objid"))
    assert table.rows == 3
    np.testing.assert_allclose(table.numbers["u"], [19.1, 18.9, 18.5], rtol=1e-6)
    assert table.numbers["u"].dtype == np.float32
    assert table.words["class"].to_pylist() == ["GALAXY", "STAR", "QSO"]
    assert set(table.cleaned.values()) == {0}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_with_another_separator(tmp_path, separator):
    lines = [line.replace(",", separator) for line in ("\ufeff" + HEADER, *ROWS)]
    table = read_archive(write(tmp_path, *lines), WANTED, ("redshift", "objid"))
    np.testing.assert_allclose(table.numbers["redshift"], [0.08, 0.0001, 1.4], rtol=1e-6)
    assert table.words["class"].to_pylist() == ["GALAXY", "STAR", "QSO"]


def test_ecsv_as_astropy_writes_it(tmp_path):
    rows = Table(rows=[row.split(",") for row in ROWS], names=HEADER.split(","))
    rows["z"][1] = ""
    for separator in (",", " "):
        rows.write(tmp_path / "table.ecsv", delimiter=separator, overwrite=True)
        table = read_archive(tmp_path / "table.ecsv", WANTED)
        np.testing.assert_allclose(table.numbers["z"], [16.8, np.nan, 18.1], rtol=1e-6)
        assert table.words["class"].to_pylist() == ["GALAXY", "STAR", "QSO"]


def test_a_votable_is_called_one(tmp_path):
    table = Table({band: np.full(3, 18.0) for band in BANDS} | {"class": ["STAR"] * 3})
    table.write(tmp_path / "table.vot", format="votable")
    with pytest.raises(BadInput, match=r"is XML, as a VOTable. To fix, give a CSV, FITS or Parquet table"):
        read_archive(tmp_path / "table.vot", WANTED)


def test_a_redshift_in_place_of_z_is_called_one(tmp_path):
    lines = [HEADER.replace("objid,", "").replace(",redshift", "")]
    lines += [f"{row.split(',', 1)[1].rsplit(',', 3)[0]},0.{n}8,STAR" for n, row in enumerate(ROWS)]
    with pytest.raises(BadInput, match=r"fluxes or redshifts, by the look of them.*Name a redshift so"):
        read_archive(write(tmp_path, *lines), WANTED)


def test_csv_that_is_compressed(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress("\n".join([HEADER, *ROWS]).encode()))
    assert read_archive(path, WANTED).rows == 3


def test_a_table_may_have_all_columns_of_a_view(tmp_path):
    more, values = ",".join(f"petroR50Err_{n}" for n in range(500)), ",".join(["1.5"] * 500)
    path = write(tmp_path, f"{more},{HEADER}", *(f"{values},{row}" for row in ROWS))
    np.testing.assert_allclose(read_archive(path, WANTED).numbers["z"], [16.8, 16.8, 18.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [
        (b"TFORM1  = 'E ", b"TFORM1  = 'Q "),
        (b"TFIELDS =                    5", b"TFIELDS =                   50"),
        (b"", b""),
    ],
)
def test_a_damaged_fits_table_is_refused(tmp_path, whole, damaged):
    path = tmp_path / "table.fits"
    fits.BinTableHDU.from_columns([fits.Column(band, "E", array=np.full(999, 18.0)) for band in BANDS]).writeto(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(whole, damaged) if whole else data[:8000])
    with pytest.raises(BadInput, match="cannot be read") as caught:
        read_archive(path, BANDS)
    assert caught.value.code == "unreadable_table"


def test_fits_as_casjobs_gives_it(tmp_path):
    rows = [row.split(",") for row in ROWS]
    columns = {f"psfMag_{band}": np.array([row[n + 1] for row in rows], ">f4") for n, band in enumerate(BANDS)}
    columns |= {"z": np.array([row[7] for row in rows], ">f4"), "class": [row[6].ljust(8) for row in rows]}
    columns["psfMag_u"][1] = -9999
    Table(columns).write(tmp_path / "table.fits")
    table = read_archive(tmp_path / "table.fits", WANTED, ("redshift",))
    assert table.columns["redshift"] == "z"
    np.testing.assert_allclose(table.numbers["u"], [19.1, np.nan, 18.5], rtol=1e-6)
    assert table.words["class"].to_pylist() == ["GALAXY", "STAR", "QSO"]
    assert table.cleaned["u"] == 1


@pytest.mark.parametrize(
    "sentinel", ["-9999", "-9999.0", "-99", "99", "99.0", "99.99", "999", "NaN", "nan", "", "null", "inf"]
)
def test_sentinels_are_no_values(tmp_path, sentinel):
    table = read_archive(write(tmp_path, HEADER, *ROWS, f"5,{sentinel},17,17,17,17,STAR,0"), WANTED, ("redshift",))
    assert np.isnan(table.numbers["u"]).tolist() == [False, False, False, True]
    assert table.cleaned["u"] == 1
    assert table.cleaned["g"] == 0


def test_rows_with_one_id_count_once(tmp_path):
    table = read_archive(write(tmp_path, HEADER, ROWS[1], *ROWS, ROWS[0]), WANTED, ("objid",))
    assert table.duplicates == 2
    assert table.words["class"].to_pylist() == ["STAR", "GALAXY", "QSO"]
    np.testing.assert_allclose(table.numbers["r"], [17.1, 17.3, 18.3], rtol=1e-6)


def test_ids_may_be_words_and_may_be_missing(tmp_path):
    rows = [row.replace("1237648720693755", "id") for row in ROWS]
    lines = [*rows, rows[0], f",{ROWS[0].split(',', 1)[1]}", f",{ROWS[0].split(',', 1)[1]}"]
    assert read_archive(write(tmp_path, HEADER, *lines), WANTED, ("objid",)).duplicates == 1


@pytest.mark.parametrize("none", ["0", "-99", "-9999"])
def test_rows_that_were_matched_with_nothing_are_no_duplicates(tmp_path, none):
    rows = [row.replace(row.split(",")[0], none, 1) for row in (*ROWS, *ROWS)]
    for more in ((), ("sky-1,18,17,16,15,14,STAR,0",)):  # ids that are numbers, and ids with letters
        assert read_archive(write(tmp_path, HEADER, *rows, *more), WANTED, ("objid",)).duplicates == 0


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(BadInput, match=r"is a folder, not a file.*give a CSV, FITS or Parquet table"):
        read_archive(tmp_path, ["u"])


def test_parquet_is_read_as_the_same_rows_in_csv(tmp_path):
    path = write(tmp_path, HEADER, *ROWS)
    expected = read_archive(path, WANTED, ("redshift", "objid"))
    table = pyarrow.csv.read_csv(path)
    coded = table.set_column(6, "class", table["class"].combine_chunks().dictionary_encode())
    pq.write_table(coded, tmp_path / "t.parquet")
    found = read_archive(tmp_path / "t.parquet", WANTED, ("redshift", "objid"))
    assert found.words["class"].to_pylist() == expected.words["class"].to_pylist()
    for name, values in expected.numbers.items():
        np.testing.assert_array_equal(found.numbers[name], values)
    whole = (tmp_path / "t.parquet").read_bytes()
    for damaged in (whole[:-20], whole[:4] + bytes(200) + whole[204:]):
        (tmp_path / "damaged.parquet").write_bytes(damaged)
        with pytest.raises(BadInput, match=r"cannot be read|not a number"):
            read_archive(tmp_path / "damaged.parquet", WANTED)


def test_a_column_that_is_there_twice_is_refused_if_it_is_used(tmp_path):
    path = write(tmp_path, *(f"{line},{line.split(',')[1]}" for line in (HEADER, *ROWS)))
    pq.write_table(pyarrow.csv.read_csv(path), tmp_path / "table.parquet")
    for one in (path, path.with_suffix(".parquet")):
        assert read_archive(one, ("g", "class")).rows == 3
        with pytest.raises(BadInput, match="column 'u': is in the table more than once") as caught:
            read_archive(one, WANTED)
        assert caught.value.code == "stated_twice"


def test_ids_that_a_spreadsheet_has_rounded_are_of_no_use(tmp_path):
    rows = ["1.23765E+18," + row.split(",", 1)[1] for row in ROWS]
    table = read_archive(write(tmp_path, HEADER, *rows), WANTED, ("objid",))
    assert table.ids_rounded
    assert table.rows == 3


@pytest.mark.parametrize(("scale", "unit"), [(3631, "Jy"), (3.631e12, "nJy"), (1, "maggies"), (1e9, "nanomaggies")])
def test_fluxes_are_no_magnitudes(tmp_path, scale, unit):
    rng = np.random.default_rng(1)
    flux = scale * 10 ** (-0.4 * rng.uniform(15, 20, (50, 5)))
    path = write(tmp_path, "u,g,r,i,z,class", *(",".join([*map(repr, map(float, row)), "STAR"]) for row in flux))
    with pytest.raises(BadInput, match=r"must hold AB magnitudes.*To fix, convert them") as error:
        read_archive(path, WANTED)
    assert error.value.code == "wrong_units", unit


def test_units_of_a_fits_column_are_believed(tmp_path):
    table = Table({band: np.full(3, 18.0) for band in BANDS} | {"class": ["STAR"] * 3})
    table["g"].unit = "Jy"
    table.write(tmp_path / "table.fits")
    with pytest.raises(BadInput, match=r"column .g. .* got \w+ with a median of 18"):
        read_archive(tmp_path / "table.fits", WANTED)


def test_names_every_missing_column(tmp_path):
    with pytest.raises(BadInput, match=r"columns i, z, class: not in the table"):
        read_archive(write(tmp_path, "u,g,r", "1,2,3"), WANTED)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([HEADER], "has no rows"),
        ([HEADER, ROWS[0].replace("17.9", "faint")], "is not a number"),
        ([HEADER, ROWS[0] + ",1,2"], "Expected 8 columns, got 10"),
    ],
)
def test_says_what_is_wrong_with_the_file(tmp_path, lines, problem):
    with pytest.raises(BadInput, match=problem):
        read_archive(write(tmp_path, *lines), WANTED)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Misconfigured, match=r"none\.csv: does not exist"):
        read_archive(tmp_path / "none.csv", WANTED)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(6, 29, width=32), min_size=5, max_size=5))
def test_values_come_back_as_float32(tmp_path_factory, magnitudes):
    line = ",".join([*map(repr, magnitudes), "STAR"])
    table = read_archive(write(tmp_path_factory.mktemp("t"), "u,g,r,i,z,class", line), WANTED)
    assert [table.numbers[band][0] for band in BANDS] == [np.float32(one) for one in magnitudes]


PLAIN = "17,17,17,17,17,STAR"


@pytest.mark.parametrize(("plate", "kept"), [("99", 99), ("999", 999), ("9999", 9999), ("-999", np.nan), ("0", np.nan)])
def test_plates_may_have_numbers_that_stand_for_no_value_elsewhere(tmp_path, plate, kept):
    table = read_archive(write(tmp_path, "u,g,r,i,z,class,plate", f"{PLAIN},{plate}"), WANTED, ("plate",))
    assert np.array_equal(table.numbers["plate"], [kept], equal_nan=True)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("petroRad_r", 0.0, 1000.0), ("redshift", -1.0, 20.0), ("plate", 0.0, 1e6)]
)
def test_values_lie_between_their_bounds(tmp_path, name, low, high):
    tiny = 1e-3
    values = [low, low + tiny, (low + high) / 4, high - 0.5, high]
    lines = [f"{PLAIN},{value!r}" for value in values]
    table = read_archive(write(tmp_path, f"u,g,r,i,z,class,{name}", *lines), WANTED, (name,))
    assert np.isnan(table.numbers[name]).tolist() == [True, False, False, False, True]
    assert table.cleaned[name] == 2


@pytest.mark.parametrize(("value", "kept"), [(0.0, False), (0.1, True), (34.9, True), (35.0, False)])
def test_magnitudes_lie_between_zero_and_35(tmp_path, value, kept):
    lines = [f"{value},17,17,17,17,STAR", *[PLAIN] * 20]
    table = read_archive(write(tmp_path, "u,g,r,i,z,class", *lines), WANTED)
    assert bool(np.isfinite(table.numbers["u"][0])) is kept
    assert table.cleaned["u"] == (not kept)


@pytest.mark.parametrize(("stray", "of", "right"), [(1, 3, True), (2, 40, True), (3, 40, False), (2, 20, False)])
def test_some_magnitudes_may_be_impossible(tmp_path, stray, of, right):
    """One always, and one in twenty."""
    lines = ["40,17,17,17,17,STAR"] * stray + [PLAIN] * (of - stray)
    path = write(tmp_path, "u,g,r,i,z,class", *lines)
    if right:
        assert read_archive(path, WANTED).cleaned["u"] == stray
    else:
        with pytest.raises(BadInput, match="fluxes, by the look of them"):
            read_archive(path, WANTED)


@pytest.mark.parametrize(("middle", "right"), [(5.0, False), (5.1, True), (29.9, True), (30.0, False)])
def test_the_middle_of_magnitudes_is_that_of_stars_and_galaxies(tmp_path, middle, right):
    path = write(tmp_path, "u,g,r,i,z,class", *[f"{middle},17,17,17,17,STAR"] * 3)
    if right:
        assert read_archive(path, WANTED).rows == 3
    else:
        with pytest.raises(BadInput, match=f"median of {middle:g}"):
            read_archive(path, WANTED)


def test_a_band_without_any_value_is_none_and_no_error(tmp_path):
    table = read_archive(write(tmp_path, "u,g,r,i,z,class", *["-9999,17,17,17,17,STAR"] * 3), WANTED)
    assert table.cleaned["u"] == 3
    assert np.isnan(table.numbers["u"]).all()


@pytest.mark.parametrize(
    ("unit", "right"),
    [
        ("mag", True),
        ("Magnitude", True),
        ("", True),
        ("nanomaggy", False),
        ("nanomaggies", False),
        ("maggy", False),
        ("Jy", False),
    ],
)
def test_a_magnitude_is_one_by_its_unit(tmp_path, unit, right):
    table = Table({band: np.full(3, 18.0) for band in BANDS} | {"class": ["STAR"] * 3})
    table.write(tmp_path / "table.fits")
    with fits.open(tmp_path / "table.fits", mode="update") as file:
        if unit:
            file[1].columns["g"].unit = unit
    if right:
        assert read_archive(tmp_path / "table.fits", WANTED).rows == 3
    else:
        with pytest.raises(BadInput, match="column 'g'"):
            read_archive(tmp_path / "table.fits", WANTED)


@pytest.mark.parametrize(("rows", "rounded"), [(99, True), (100, False)])
def test_the_first_hundred_ids_tell_whether_a_spreadsheet_rounded_them(tmp_path, rows, rounded):
    lines = [f"{n},{PLAIN}" for n in range(rows)] + [f"1.23E+18,{PLAIN}"]
    table = read_archive(write(tmp_path, "objid,u,g,r,i,z,class", *lines), WANTED, ("objid",))
    assert table.ids_rounded is rounded
    assert (table.rows, table.duplicates) == (rows + 1, 0)


def test_ids_that_are_null_are_each_a_row_of_their_own(tmp_path):
    columns = {band: [17.0] * 4 for band in BANDS} | {"class": ["STAR"] * 4, "objid": [7, None, 7, None]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    table = read_archive(tmp_path / "table.parquet", WANTED, ("objid",))
    assert (table.rows, table.duplicates) == (3, 1)


def test_a_fits_file_without_a_table_is_refused(tmp_path):
    fits.writeto(tmp_path / "image.fits", np.zeros((2, 3), np.float32))
    with pytest.raises(BadInput, match="has no binary table") as caught:
        read_archive(tmp_path / "image.fits", WANTED)
    assert caught.value.code == "unreadable_table"
