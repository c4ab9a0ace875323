import gzip
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from flows.inputs.cluster_table import read_clusters, redshift_member
from schemas.errors import BadInput

HEADER = "# RA DEC uJAVA J0378 and more, written by hand\n"


def published(**given):
    """A row as S-PLUS has published them: each field tells its place, but for what is given by place."""
    row = [f"{10 + n}.0" for n in range(44)]
    for place, value in given.items():
        row[int(place[1:])] = str(value)
    return "  ".join(row) + "\n"


ROW = {"_7": 17.5, "_9": 16.8, "_13": 16.2, "_14": 0.11, "_21": 0, "_27": 0.4, "_29": 0.12, "_30": 0.01, "_37": 0.113}


def test_the_published_table_is_read_by_place(tmp_path):
    path = tmp_path / "members.dat"
    path.write_text(HEADER + published(**ROW, _38="00033", _40=1) + published(**ROW | {"_21": 1, "_7": 99.0}, _40=0))
    table = read_clusters(path)
    first = {name: values[0] for name, values in table.columns.items()}
    assert first == {
        "ra": 10.0, "dec": 11.0, "g": 17.5, "r": 16.8, "z": 16.2, "redshift": 0.11, "member": 1.0, "published": 0.0,
        "radius": 0.4, "zphot": 0.12, "zphot_err": 0.01, "cluster_z": 0.113,
    }  # fmt: skip
    assert table.cluster[0] == "00033"
    assert table.truth == "the table"
    assert np.isnan(table.columns["g"][1])
    assert table.columns["member"][1] == 0
    assert table.columns["published"][1] == 1


def named(**more):
    columns = {
        "g": [17.5, 18.0, 17.0], "r": [16.8, 17.0, 16.1], "z": [16.2, 16.5, -99.0], "zphot": [0.1, 0.2, 0.3],
        "cluster_z": [0.1, 0.1, 0.1], "radius_r200": [0.1, 0.2, 0.3],
    }  # fmt: skip
    return Table(columns | more)


def test_parquet_may_have_missing_words_and_categories(tmp_path):
    columns = {name: column.tolist() for name, column in named().columns.items()}
    columns |= {
        "cluster": ["a", None, "b"], "note": [None, "x", "y"], "member": [1, None, 0],
        "kind": pa.array(["E", None, "S"]).dictionary_encode(), "zphot_err": [0.01, None, float("nan")],
    }  # fmt: skip
    table = pa.table(columns)
    pq.write_table(table.set_column(6, "cluster", table["cluster"].dictionary_encode()), tmp_path / "t.parquet")
    found = read_clusters(tmp_path / "t.parquet")
    assert found.cluster.tolist() == ["a", "", "b"]
    assert str(found.columns["member"].tolist()) == "[1.0, nan, 0.0]"
    assert str(found.columns["zphot_err"].tolist()) == "[0.01, nan, nan]"
    pq.write_table(table.drop_columns(["g"]), tmp_path / "t.parquet")
    with pytest.raises(BadInput, match=r"lacks the columns \['g'\]; it has .*'kind'"):
        read_clusters(tmp_path / "t.parquet")


def test_z_is_a_redshift_where_magnitudes_have_other_names(tmp_path):
    table = named(redshift=[0.101, 0.2, 0.3])
    table.rename_columns(["g", "r", "z", "redshift"], ["gmag", "rmag", "zmag", "z"])
    table.write(tmp_path / "t.csv", format="ascii.csv")
    found = read_clusters(tmp_path / "t.csv")
    assert found.columns["z"][:2].tolist() == [16.2, 16.5]
    assert found.columns["redshift"].tolist() == [0.101, 0.2, 0.3]
    table.rename_columns(["gmag", "rmag"], ["g", "r"])
    table.write(tmp_path / "t.ecsv")
    with pytest.raises(BadInput, match=r"column z holds 0\.2 in the median, which is no magnitude"):
        read_clusters(tmp_path / "t.ecsv")


@pytest.mark.parametrize("suffix", ["csv", "fits", "ecsv", "parquet"])
def test_tables_with_names_are_read_in_each_form(tmp_path, suffix):
    path = tmp_path / f"galaxies.{suffix}"
    table = named(Redshift=[0.101, 0.2, 0.005], cluster=["a", "a", "b"])
    table.write(path, format={"csv": "ascii.csv", "ecsv": "ascii.ecsv"}.get(suffix))
    found = read_clusters(path)
    assert found.rows == 2
    assert found.star_redshifts == 1, "a redshift of 0.005 is that of a star"
    assert found.truth == "redshifts"
    assert found.columns["member"].tolist() == [1.0, 0.0]
    assert found.cluster.tolist() == ["a", "a"]


def test_small_letters_go_before_capitals_and_a_column_may_not_be_there_twice(tmp_path):
    small = named()
    small.write(tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet").replace_schema_metadata()
    expected = read_clusters(tmp_path / "t.parquet").columns["r"]
    for names in (("R", *table.column_names), (*table.column_names, "R")):
        columns = [table["zphot"] if name == "R" else table[name] for name in names]
        pq.write_table(pa.table(columns, names=list(names)), tmp_path / "capital.parquet")
        assert read_clusters(tmp_path / "capital.parquet").columns["r"].tolist() == expected.tolist()
    pq.write_table(table.append_column("r", table["g"]), tmp_path / "twice.parquet")
    small["r_again"] = small["g"]
    small.write(tmp_path / "twice.ecsv", format="ascii.ecsv")
    (tmp_path / "twice.ecsv").write_text((tmp_path / "twice.ecsv").read_text().replace("r_again", "r"))
    for twice in (tmp_path / "twice.parquet", tmp_path / "twice.ecsv"):
        with pytest.raises(BadInput, match="the column 'r' more than once") as caught:
            read_clusters(twice)
        assert caught.value.code == "stated_twice"


def test_without_a_class_or_a_redshift_there_is_no_truth(tmp_path):
    named().write(tmp_path / "t.csv", format="ascii.csv")
    found = read_clusters(tmp_path / "t.csv")
    assert found.truth == "none"
    assert np.isnan(found.columns["member"]).all()
    assert np.isnan(found.columns["z"][2]), "a sentinel is not a magnitude"


def test_classes_may_be_words_and_may_be_missing(tmp_path):
    (tmp_path / "t.csv").write_text("g,r,z,zphot,cluster_z,radius_r200,member\n" + "".join(
        f"17,16,15,0.1,0.1,0.3,{word}\n" for word in ("member", "not member", "", "True", "0")
    ))  # fmt: skip
    assert str(read_clusters(tmp_path / "t.csv").columns["member"].tolist()) == "[1.0, 0.0, nan, 1.0, 0.0]"


def test_values_beyond_the_limits_of_their_column_are_not_given(tmp_path):
    table = named(zphot_err=[0.0, -99.0, 0.01], redshift=[-99.0, 0.2, 0.3], member=[1, 0, 1])
    table["redshift"] = [0.3, 99.0, 99.0]  # most have none
    for name, values in {"zphot": [-99, 0.2, 99], "cluster_z": [0.1, -9, 99], "radius_r200": [-1, 0.0, 0.3]}.items():
        table[name] = np.array(values, float)
    table.write(tmp_path / "t.csv", format="ascii.csv")
    found = read_clusters(tmp_path / "t.csv")
    assert found.star_redshifts == 0, "a sentinel is not the redshift of a star"
    given = {name: np.isfinite(found.columns[name]).tolist() for name in ("zphot", "zphot_err", "radius", "cluster_z")}
    assert given == {
        "zphot": [False, True, False], "zphot_err": [False, False, True],
        "radius": [False, True, True], "cluster_z": [True, False, False],
    }  # fmt: skip
    assert found.not_given == {"z": 1, "zphot": 2, "zphot_err": 2, "radius": 1, "cluster_z": 2, "redshift": 2}


@pytest.mark.parametrize("form", ["semicolons", "tabs", "mark of Windows", "packed", "g_mag"])
def test_csv_is_read_however_it_was_saved(tmp_path, form):
    text = "g,r,z,zphot,cluster_z,radius_r200,member\r\n17,16,15,0.1,0.1,0.3,non-member\r\n"
    path = tmp_path / ("t.csv.gz" if form == "packed" else "t.csv")
    text = text.replace(",", {"semicolons": ";", "tabs": "\t"}.get(form, ","))
    text = text.replace("g,r,z", "g_mag,R_MAG,z_mag") if form == "g_mag" else text
    content = text.encode("utf-8-sig" if form == "mark of Windows" else "utf-8")
    path.write_bytes(gzip.compress(content) if form == "packed" else content)
    columns = read_clusters(path).columns
    assert [columns[name].tolist() for name in ("g", "r", "z", "radius", "member")] == [[17], [16], [15], [0.3], [0]]


@pytest.mark.parametrize(
    ("name", "unit", "told"),
    [
        ("g", "nJy", "column g is in nJy, not in mag"), ("r", "mag", ""), ("z", "mag(AB)", ""),
        ("radius_r200", "Mpc", "column radius_r200 is in Mpc, not in units of R200"), ("radius_r200", "R200", ""),
        ("zphot", "", ""), ("g", "AB", ""),
    ],
)  # fmt: skip
def test_units_that_do_not_fit_are_refused(tmp_path, name, unit, told):
    table = named(member=[1, 0, 1])
    table[name].unit = unit or None
    table.write(tmp_path / "t.ecsv", format="ascii.ecsv")
    if not told:
        assert read_clusters(tmp_path / "t.ecsv").rows == 3
        return
    with pytest.raises(BadInput, match=told) as error:
        read_clusters(tmp_path / "t.ecsv")
    assert error.value.code == "wrong_units"


def test_fluxes_folders_and_several_numbers_in_a_row_are_refused(tmp_path):
    table = named(member=[1, 0, 1])
    table["r"] = 10 ** (-0.4 * (np.asarray(table["r"]) - 22.5))  # nanomaggies
    table.write(tmp_path / "t.csv", format="ascii.csv")
    with pytest.raises(BadInput, match=r"column r holds .* which is no magnitude"):
        read_clusters(tmp_path / "t.csv")
    table["r"] = np.asarray(table["r"]) / 100  # of galaxies 5 mag fainter
    table.write(tmp_path / "t.csv", format="ascii.csv", overwrite=True)
    with pytest.raises(BadInput, match=r"column r holds .* which is no magnitude"):
        read_clusters(tmp_path / "t.csv")
    table["r"] = np.full((3, 2), 17.0)
    table.write(tmp_path / "t.fits")
    with pytest.raises(BadInput, match="column r holds 2 values in each row"):
        read_clusters(tmp_path / "t.fits")
    with pytest.raises(BadInput, match="is a folder"):
        read_clusters(tmp_path)


def test_members_by_redshift_move_no_faster_than_3000_km_per_s():
    cluster = np.full(4, 0.05)
    fast = 0.05 + np.array([2990, 3010, -2990, np.nan]) / 299_792.458 * 1.05
    assert str(redshift_member(fast, cluster).tolist()) == "[1.0, 0.0, 1.0, nan]"


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("g,r,zphot\n1,2,3\n", "missing_columns", "['z', 'cluster_z', 'radius_r200']"),
        (
            "g,r,z,zphot,cluster_z,radius_r200,member\n17,16,15,0.1,0.1,1,-99\n",
            "bad_class",
            "row 1 of column member is -99",
        ),
        ("g,r,z,zphot,cluster_z,radius_r200\n17,16,15,0.1,30000,1\n", "wrong_units", "cluster_z holds 30000"),
        ("g,r,z,zphot,cluster_z,radius_r200\n", "no_rows", "no rows"),
        ("g,r,z,zphot,cluster_z,radius_r200\n17,16,x,1,1,1\n", "not_a_number", "row 1 of column z is 'x'"),
        (HEADER + "1 2 3\n", "unreadable_table", "row 1 has 3 columns, not 44"),
        (HEADER, "no_rows", "no rows"),
        ("\x00\x01", "missing_columns", "lacks the columns"),
        (
            "g,r,z,g,zphot,cluster_z,radius_r200\n17,16,15,19,0.1,0.1,1\n",
            "stated_twice",
            "the column 'g' more than once",
        ),
    ],
)
def test_other_tables_are_refused_by_name(tmp_path, text, code, told):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=re.escape(told)) as error:
        read_clusters(path)
    assert error.value.code == code
    assert str(path) in str(error.value)
