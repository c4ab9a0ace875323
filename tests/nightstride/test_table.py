import sys

import astropy.units as u
import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord

import nightstride as ns
from flows.results.catalogue_rows import MemoryRows
from flows.storage.catalog_store import CatalogStore
from nightstride.table import Table
from schemas.dia_object import DIA_OBJECT
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.objects import DIA_LINK, OBJECT
from schemas.patch import PatchKey
from tests.support.associated_night import table as table_of
from tests.support.association import detections
from tests.support.export import NIGHTS, publish


@pytest.fixture
def nights(tmp_path):
    """Two nights of two exposures with three detections each."""
    for number, night in enumerate(NIGHTS):
        for detector in (1, 2):
            visit = 10 + number
            rows = detections(visit, 150 + np.arange(3), [20, 20, 20], detector=detector, flags=[0, 5, 1 << 30])
            key = ExposureKey(night=night, visit=visit, detector=detector)
            CatalogStore(tmp_path).publish(DIA_SOURCE, key, rows, "d")
    return ns.open(tmp_path)


def whole(out):
    """All rows, read by pyarrow alone."""
    files = sorted((out / "catalogs" / "dia_source").rglob("*.parquet"))
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])


def test_all_nights_and_patches_are_one_table(nights):
    found = nights.detections().to_arrow()
    assert found.schema.names[0] == "night"
    assert found["night"].to_pylist() == [night for night in NIGHTS for _ in range(6)]
    assert found.drop_columns("night").to_pydict() == whole(nights.out).to_pydict()
    assert len(nights.detections()) == 12


def test_each_library_gets_the_same_numbers(nights):
    table = nights.detections(["diaSourceId", "ra", "psfFlux", "apFlux", "band"], "visit == 11")
    arrow, astropy = table.to_arrow(), table.to_astropy()
    assert astropy["psfFlux"].unit == u.nJy
    assert astropy["ra"].info.description == "Right ascension (ICRS) of the centre; null without WCS."
    pandas, polars = table.to_pandas(), table.to_polars()
    assert pandas.attrs["units"] == table.units == {"ra": "deg", "psfFlux": "nJy", "apFlux": "nJy"}
    for name in table.columns:
        assert polars[name].to_list() == arrow[name].to_pylist()
        np.testing.assert_array_equal(np.asarray(astropy[name]), pandas[name].to_numpy())
    np.testing.assert_array_equal(np.isnan(astropy["apFlux"]), True)  # nulls
    assert table["psfFlux"].to(u.uJy)[0] == 1 * u.uJy


def test_libraries_of_arrow_take_it_as_it_is(nights):
    rows = nights.detections(["visit", "ra"])
    assert pa.table(rows).equals(rows.to_arrow())
    assert polars.DataFrame(rows).equals(rows.to_polars())
    assert duckdb.sql("SELECT visit, count(*) FROM rows GROUP BY ALL ORDER BY ALL").fetchall() == [(10, 6), (11, 6)]


def test_ids_with_nulls_stay_whole_numbers(tmp_path):
    one = 2**60 + 1
    rows = pa.table({"diaSourceId": [1, 2], "objectId": [one, None]}, schema=pa.schema(list(DIA_LINK.schema)[:2]))
    frame = Table(MemoryRows("dia_link", rows)).to_pandas()
    assert frame["objectId"][0] == one
    assert frame["objectId"].isna().tolist() == [False, True]


def test_only_what_is_asked_for_is_read(nights, monkeypatch):
    monkeypatch.setattr(pq, "read_table", None)
    path = next((nights.out / "catalogs" / "dia_source" / f"night={NIGHTS[0]}").iterdir())
    path.write_bytes(b"damaged")
    assert len(nights.detections(where=f"night == '{NIGHTS[1]}'")) == 6  # the other night is not looked at
    assert len(nights[NIGHTS[1]].detections().head(4)) == 4
    with pytest.raises(ns.BadInput, match=r"cannot be read as Parquet.*nightstride verify OUT"):
        nights.detections().to_arrow()


@pytest.mark.parametrize(
    "where", ["detector == 2 and ra > 150.5", [("detector", "==", 2), ("ra", ">", 150.5)],
              (pc.field("detector") == 2) & (pc.field("ra") > 150.5)],
)  # fmt: skip
def test_rows_are_chosen_by_text_list_or_expression(nights, where):
    found = nights.detections(["ra", "detector"], where)
    assert len(found) == len(found.to_arrow()) == 4
    assert set(found.to_arrow()["detector"].to_pylist()) == {2}
    assert len(found(where="ra > 151.5")) == 2  # besides


def test_flags_have_names(nights):
    table = nights[NIGHTS[0]].detections(where="detector == 1")
    assert table.flag_names == [(), ("EDGE", "MASKED"), ("bit 1073741824",)]
    assert table.flags["MASKED"].tolist() == [False, True, False]
    assert len(nights.detections(where="flags.EDGE")) == 4
    assert len(nights.detections(where="not flags.EDGE")) == 8
    with pytest.raises(ns.Misconfigured, match="has no flags"):
        _ = nights.exposures.flags


def test_nights_can_be_walked_through(nights):
    assert [(night, len(table)) for night, table in nights.detections().by_night()] == [(one, 6) for one in NIGHTS]
    assert [(one.nights, len(one.detections())) for one in nights] == [((one,), 6) for one in NIGHTS]
    for walk in (list, iter, set):
        with pytest.raises(ns.Misconfigured, match=r"whether rows, columns or nights are meant. To fix, .*by_night"):
            walk(nights.detections())


def test_a_notebook_sees_names_units_and_flags(nights):
    html = nights.detections()._repr_html_()
    assert f"dia_source: 12 rows, {len(DIA_SOURCE.schema) + 1} columns" in html
    assert "EDGE MASKED" in html
    assert 'title="Flux of a point-source fit at the centre."' in html
    assert html.count("<tr>") == 11
    assert repr(nights.detections(["ra"], "ra > 151.5")) == (
        f"<Table dia_source: 4 rows, 1 columns, 2 nights, {NIGHTS[0]} to {NIGHTS[1]}>"
    )


def test_a_text_from_a_catalogue_is_no_markup():
    rows = pa.table({"designation": ["<script>alert(1)</script>"]})
    assert "<script>" not in Table(MemoryRows("tracklet", rows))._repr_html_()


@pytest.mark.parametrize(
    ("columns", "where", "says"),
    [
        (["snrr"], None, "has no column 'snrr'. To fix, write 'snr'"),
        ([1], None, "has no column 1. To fix, choose one"),
        (5, None, "has no column 5"),
        (None, [("snr", "~", 3)], "where: "),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_read(nights, columns, where, says):
    with pytest.raises(ns.Misconfigured, match=says):
        nights.detections(columns, where)


def test_rows_and_columns_are_asked_for_by_number_and_name(nights):
    table = nights.detections()
    assert len(table.head(0)) == 0
    assert len(table.head(10**30)) == len(table)
    for rows in ("a", -1, 1.5):
        with pytest.raises(ns.Misconfigured, match=f"rows: is {rows!r}, must be a whole number, 0 or more"):
            table.head(rows)
    assert nights.detections(["ra", "detector", "ra"]).columns == ["ra", "detector"]
    for name in (0, ["ra", "dec"]):
        with pytest.raises(ns.Misconfigured, match="has no column"):
            _ = table[name]


def test_a_missing_library_is_named(nights, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ns.Misconfigured, match="pip install polars"):
        nights.detections().to_polars()


def test_objects_of_all_patches(tmp_path):
    rows = publish(tmp_path)
    found = ns.open(tmp_path).objects(["objectId", "ra"]).to_arrow()
    assert found["objectId"].equals(rows["objectId"])
    assert OBJECT.name in ns.open(tmp_path).datasets
    assert len(ns.open(tmp_path).dia_objects()) == 0
    assert ns.open(tmp_path).dia_objects().to_arrow().schema.names == ["night", *DIA_OBJECT.schema.names]


def test_it_writes_what_its_file_is_called(nights, tmp_path):
    table = nights.detections(["night", "ra", "dec"])
    assert table.write(tmp_path / "t.parquet") == 12
    assert pq.read_table(tmp_path / "t.parquet").equals(table.to_arrow())
    with pytest.raises(ns.Misconfigured, match=r"end it in \.csv, .*\.reg\.$"):
        table.write(tmp_path / "t.doc")
    with pytest.raises(
        ns.Misconfigured, match=r"is hats, a folder of a whole dataset. .*export OUT --dataset NAME --to t.hats"
    ):
        table.write(tmp_path / "t.hats")
    with pytest.raises(ns.Misconfigured, match="path: is 5, no path"):
        table.write(5)
    assert table(where="ra > 400").write(tmp_path / "none.reg") == 0


@pytest.mark.parametrize(
    ("place", "radius"),
    [((150.0, 20.0), 0.9), ((0.0, 0.0), 3.0), ((10.0, 89.5), 2.0), ((200.0, -90.0), 5.0), ((150.0, 20.0), 0.0)],
)
def test_near_chooses_what_astropy_says_is_within_a_circle(place, radius):
    rng = np.random.default_rng(3)
    angle, out = rng.uniform(0, 360, 3000), radius * rng.uniform(0, 3, 3000)
    middle = SkyCoord(*place, unit="deg")
    sky = middle.directional_offset_by(angle * u.deg, out * u.deg)
    rows = pa.table({"n": np.arange(3000), "ra": sky.ra.deg, "dec": sky.dec.deg})
    rows = pa.concat_tables([rows, pa.table({"n": [9999], "ra": pa.array([None], pa.float64()), "dec": [20.0]})])
    table = Table(MemoryRows("dia_source", rows)).near(*place, radius * 60 * u.arcmin)
    inside = sky.separation(middle).deg <= radius + 1e-9
    assert set(table.to_arrow()["n"].to_pylist()) == set(np.flatnonzero(inside).tolist())
    assert len(table(where="n < 100")) == inside[:100].sum()


def test_near_needs_a_place(nights):
    with pytest.raises(ns.Misconfigured, match=r"does not lie on the sky"):
        nights.detections().near(150, 91, 1)
    with pytest.raises(ns.Misconfigured, match=r"has no ra and dec"):
        nights.exposures.near(150, 20, 1)
    assert len(nights.detections().near(151, 20, 0.1)) == 4
    assert len(nights.detections(where="detector == 1").near(151, 20, 0.1)) == 2


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (("a", 0, 1), "near: ra: is 'a', not an angle"),
        ((0, 1 * u.m, 1), "near: dec: is 1.0 m, not an angle"),
        ((0, 0, [1, 2]), "near: radius: is .1, 2., not an angle"),
    ],
)
def test_near_needs_angles(nights, place, says):
    with pytest.raises(ns.Misconfigured, match=says):
        nights.detections().near(*place)


def test_one_condition_may_be_given_without_a_list(nights):
    table = nights.detections()
    assert len(table(where=("snr", ">", 10))) == len(table(where="snr > 10"))
    with pytest.raises(ns.Misconfigured, match="is not a condition, nor a list of them"):
        table(where=5)
    for where in (("snr", ">", "a"), pc.field("snr") > "a", "snr > 'a'"):
        with pytest.raises(ns.Misconfigured, match="does not go together: snr holds numbers"):
            table(where=where)


def test_arrays_are_neither_listed_nor_opened(tmp_path):
    publish(tmp_path)
    (tmp_path / "catalogs/cutouts/night=20260101").mkdir(parents=True)
    night = ns.open(tmp_path)
    assert "cutouts" not in night.datasets
    assert all(len(night.dataset(name)) >= 0 for name in night.datasets)
    with pytest.raises(ns.Misconfigured, match=r"is an array, not a table. To fix, read its Zarr stores"):
        night.dataset("cutouts")
    with pytest.raises(ns.Misconfigured) as error:
        night.dataset("objct")
    assert error.value.remedy == f"write 'object'; known are {', '.join(night.datasets)}."


def test_patches_choose_files_of_the_sky(nights):
    store = CatalogStore(nights.out)
    for n, (night, pixel) in enumerate([(NIGHTS[0], 700), (NIGHTS[0], 701), (NIGHTS[1], 700)]):
        rows = table_of(DIA_OBJECT, {"diaObjectId": [10 * n, 10 * n + 1], "ra": [10.0, 11.0], "dec": [n, n]}, 2)
        store.publish(DIA_OBJECT, PatchKey(night=night, order=5, pixel=pixel), rows, "d")
    assert nights.patches == ((5, 700), (5, 701))
    assert nights[NIGHTS[1]].patches == ((5, 700),)
    assert nights.dia_objects(patches=[(5, 700)])["diaObjectId"].tolist() == [0, 1, 20, 21]
    chosen = nights.dia_objects(["diaObjectId"], "ra > 10.5", patches=nights.patches)
    assert chosen.to_arrow()["diaObjectId"].to_pylist() == [1, 11, 21]
    assert [len(rows) for _, rows in nights.dia_objects(patches=[(5, 701)]).by_night()] == [2]
    with pytest.raises(ns.Misconfigured, match=r"has no patch \(5, 9\)"):
        nights.dia_objects(patches=[(5, 9)])
    with pytest.raises(ns.Misconfigured, match=r"does not lie in patches"):
        nights.dataset("dia_source", patches=[(5, 700)])


def test_flags_are_decoded_in_every_library(nights):
    table = nights.detections(["diaSourceId", "snr"], "visit == 10 and detector == 1")
    expected = ["", "EDGE MASKED", "bit 1073741824"]
    assert table.to_arrow(decode=True)["flagNames"].to_pylist() == expected
    assert table.to_pandas(decode=True)["flagNames"].tolist() == expected
    assert table.to_polars(decode=True)["flagNames"].to_list() == expected
    quantities = table.to_astropy(decode=True)
    assert quantities["flagNames"].tolist() == expected
    assert quantities["flagNames"].info.description == "Names of the flags, separated by spaces."
    assert table.to_arrow().schema.names == ["diaSourceId", "snr"]
    with pytest.raises(ns.Misconfigured, match=r"has no flags"):
        nights.dataset("tracklet").to_arrow(decode=True)
