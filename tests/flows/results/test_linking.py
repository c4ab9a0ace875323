import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.results.detection_table import read_detections
from flows.results.linking import link_table
from schemas.errors import Misconfigured
from tests.support.orbits import PALOMAR, asteroids, integrated, write_mpcorb


def rows(**changes):
    """Two movers in three exposures, two stars, and a false detection; ids as text."""
    hours = np.array([0.0, 0.5, 1.0])
    ra = [*(150 + 0.02 * hours), *(150.4 - 0.03 * hours), *([150.2] * 3), *([150.3] * 3), 150.1]
    dec = [*(10 + 0.01 * hours), *([10.2] * 3), *([10.05] * 3), *([10.1] * 3), 10.15]
    mjd = [*(60000.2 + hours / 24)] * 4 + [60000.2]
    ids = [f"{kind}{n}" for kind in "abst" for n in range(3)] + ["f"]
    return {"id": ids, "mjd": mjd, "ra": ra, "dec": dec} | changes


def link(path, *options):
    result = CliRunner().invoke(app, ["link", str(path), "--json", *options])
    return result, json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(params=["parquet", "csv"])
def table(request, tmp_path):
    def write(columns, name="table"):
        path = tmp_path / f"{name}.{request.param}"
        made = pa.table(columns)
        pq.write_table(made, path) if request.param == "parquet" else pyarrow.csv.write_csv(made, path)
        return path

    return write


def test_movers_are_linked_and_stars_are_at_rest(table, tmp_path):
    (tmp_path / "out").mkdir()
    result, found = link(table(rows()), "--out", str(tmp_path / "out" / "members.parquet"))
    assert result.exit_code == 0
    assert found == {"detections": 13, "tracklets": 2, "linked": 6, "stationary": 6, "left_out": {}}
    members = pq.read_table(tmp_path / "out" / "members.parquet")
    groups = members.group_by("trackletId").aggregate([("id", "list"), ("rate", "mean")]).to_pylist()
    assert sorted(sorted(one["id_list"]) for one in groups) == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]
    first = next(one for one in groups if "a0" in one["id_list"])
    assert first["rate_mean"] == pytest.approx(24 * np.hypot(0.02 * np.cos(np.radians(10)), 0.01), rel=1e-3)
    assert members.schema.field("rate").metadata == {b"unit": b"deg / day"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["members.parquet"]


def test_a_name_of_another_format_is_refused_before_anything_is_read(tmp_path):
    result, found = link(tmp_path / "none.csv", "--out", str(tmp_path / "members.csv"))
    assert (result.exit_code, found["error"]["code"]) == (2, "other_format")
    assert found["error"]["where"] == f"--out {tmp_path / 'members.csv'}"
    assert found["error"]["remedy"] == "name it members.parquet."


def test_our_own_catalogue_is_a_table_and_satellites_are_left_out(tmp_path):
    own = rows()
    own = {"diaSourceId": list(range(13)), "midpointMjdTai": own["mjd"], "ra": own["ra"], "dec": own["dec"]}
    for name, part in (("one", slice(0, 6)), ("two", slice(6, 13))):
        (tmp_path / "dia_source" / name).mkdir(parents=True)
        classes = ["satellite" if n == 12 else "" for n in range(13)]
        columns = {key: values[part] for key, values in (own | {"trailClass": classes}).items()}
        pq.write_table(pa.table(columns), tmp_path / "dia_source" / name / "1.parquet")
    result, found = link(tmp_path / "dia_source")
    assert (result.exit_code, found["tracklets"], found["left_out"]) == (0, 2, {"a satellite": 1})


def test_rows_that_cannot_be_used_are_named_and_the_others_linked(table):
    bad = rows()
    for key, extra in {
        "id": ["x", "y", "z", "w", "a0", None],
        "mjd": [60000.2, 60000.2, 5.0, None, 60000.2, 60000.2],
        "ra": [None, 10.0, 10.0, 10.0, 10.0, 10.0],
        "dec": [10.0, 91.0, 10.0, 10.0, 10.0, 10.0],
    }.items():
        bad[key] = [*bad[key], *extra]
    result, found = link(table(bad))
    assert result.exit_code == 1
    assert (found["detections"], found["tracklets"], sum(found["left_out"].values())) == (19, 2, 6)
    assert "1 row left out: ra is not a number from 0 to 360 (rows 14)" in result.stderr
    assert "1 row left out: the id of an earlier row (rows 18)" in result.stderr


def test_values_that_cannot_be_are_taken_as_not_given(table):
    odd = {"mag": [99.0] * 12 + [20.0], "trailLength": [-999.0] * 13, "posErr": [-1.0] * 13}
    result, found = link(table(rows(**odd)))
    assert (result.exit_code, found["tracklets"], found["left_out"]) == (0, 2, {})
    assert found["not_given"] == {"posErr": 13, "trailLength": 13, "mag": 12}
    assert "12 values of mag beyond -30 to 40: taken as not given" in result.stderr
    result, found = link(table(rows(posErr=[0.1] * 12 + [3600.0])))
    uncertain = {"the error of its position is above 60 arcsec": 1}
    assert (result.exit_code, found["left_out"]) == (1, uncertain)
    degrees = [1e-5] * 12 + [2.0]  # arcsec, where deg is asked
    assert link(table(rows(raErr=degrees, decErr=degrees)))[1]["left_out"] == uncertain


def test_ids_are_what_they_are_in_the_table(tmp_path):
    texts = {"zeros": [f"{n:04d}" for n in range(13)], "large": [str(2**63 + n) for n in range(13)]}
    for name, ids in texts.items():
        pyarrow.csv.write_csv(pa.table(rows(id=ids, obscode=["033"] * 13)), tmp_path / f"{name}.csv")
        found = read_detections(tmp_path / f"{name}.csv")
        assert sorted(map(str, found.ids.to_pylist())) == ids
        assert set(found.obscode) == {"033"}
    assert found.ids.type == pa.uint64()
    both = {"diaSourceId": list(range(13))} | rows(id=[str(n) for n in range(13)])
    pyarrow.csv.write_csv(pa.table(both), tmp_path / "both.csv")
    assert read_detections(tmp_path / "both.csv").ids.type == pa.int64()
    coded = pa.table(rows(id=pa.array(rows()["id"]).dictionary_encode()))
    pq.write_table(coded, tmp_path / "coded.parquet")
    assert link(tmp_path / "coded.parquet")[1]["tracklets"] == 2


def test_a_number_that_is_none_is_no_id_and_no_class(tmp_path):
    columns = rows(id=[float(n) for n in range(12)] + [np.nan], trailClass=[np.nan] * 13)
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert link(tmp_path / "t.parquet")[1]["left_out"] == {"no id": 1}


def test_observatories_are_linked_apart(table):
    codes = ["I41"] * 2 + ["W84"] + ["I41"] * 10
    assert link(table(rows(obscode=codes)))[1]["tracklets"] == 1


def test_the_order_of_rows_does_not_matter(table):
    columns = rows()
    order = np.random.default_rng(1).permutation(13)
    shuffled = {name: [values[n] for n in order] for name, values in columns.items()}
    tables = [read_detections(table(one, name)) for one, name in ((columns, "one"), (shuffled, "two"))]
    found = [[sorted(some.ids.take(pa.array(t.members)).to_pylist()) for t in link_table(some)[1]] for some in tables]
    assert found[0] == found[1] != []


def test_empty_tables_give_nothing(table):
    result, found = link(table({name: pa.array([], pa.float64()) for name in rows()}))
    assert (result.exit_code, found["tracklets"], found["detections"]) == (0, 0, 0)


def test_where_no_row_can_be_used_nothing_is_named(table, tmp_path):
    orbits = write_mpcorb(tmp_path / "MPCORB.DAT", asteroids(2, 61000.0))
    result, found = link(table(rows(ra=[-1.0] * 13)), "--orbits", str(orbits))
    assert (result.exit_code, found["tracklets"], found["known"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({key: value for key, value in rows().items() if key != "mjd"}, "missing_column"),
        (rows(ra=["north"] * 13), "not_a_number"),
    ],
)
def test_tables_that_say_too_little_are_refused(table, columns, code):
    with pytest.raises(Misconfigured, match="To fix, ") as raised:
        read_detections(table(columns))
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        (rows(mjd=pa.array(rows()["mjd"], pa.float32())), "imprecise_times"),
        (rows(id=[[n] for n in range(13)]), "bad_id"),
        (rows(id=[{"n": n} for n in range(13)]), "bad_id"),
        (rows(id=[n > 3 for n in range(13)]), "bad_id"),
        (rows(id=[1e18 + 1000.0 * n for n in range(13)]), "bad_id"),
        (rows(id=pa.array([2.0**25 + 4 * n for n in range(13)], pa.float32())), "bad_id"),
        (rows(mjd=[2460000.7] * 13), "no_mjd"),
        (rows(obscode=[["I41"]] * 13), "no_text"),
    ],
)
def test_columns_of_the_wrong_type_are_refused(tmp_path, columns, code):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    result, found = link(tmp_path / "t.parquet")
    assert (result.exit_code, found["error"]["code"]) == (2, code)


def test_times_that_seem_to_have_been_in_single_precision_are_told(table):
    told = {"diaSourceId" if name == "id" else name: values for name, values in rows().items()}
    told["midpointMjdTai"] = np.array(told.pop("mjd"), np.float32).astype(float)
    told["midpointMjdTai"][-1] = np.nan
    result, _ = link(table(told))
    assert result.exit_code == 1  # for the row without a time
    assert "all 3 times of 'midpointMjdTai' are such as single precision has, to six minutes" in result.stderr


@pytest.mark.parametrize(("time", "told"), [(60000, True), (60000.5, False)])
def test_a_night_whose_times_are_whole_days_is_told(table, time, told):
    said = link(table(rows(mjd=[time] * len(rows()["mjd"]))))[0].stderr
    assert ("all times of 'mjd' are whole days: nothing that moves is linked" in said) is told


@pytest.mark.parametrize(("decimals", "told"), [(0, True), (1, True), (2, True), (3, False), (5, False)])
def test_times_of_two_decimals_are_told(table, decimals, told):
    days = dict(
        zip(sorted(set(rows()["mjd"])), np.round(60000.1234567 + 1.2345678 * np.arange(3), decimals), strict=True)
    )
    mjd = [days[one] for one in rows()["mjd"]]
    said = link(table(rows(mjd=mjd)))[0].stderr
    assert ("all 3 times of 'mjd' are multiples of 0.01 d, which tells a time to 14 minutes" in said) is told
    assert "multiples" not in link(table(rows(mjd=[*mjd[:-1], mjd[-1] + 1e-4])))[0].stderr


@pytest.mark.parametrize("step", [1.0, 1 / 32])
def test_times_that_are_written_in_plain_steps_are_no_single_precision(table, step):
    days = dict(zip(sorted(set(rows()["mjd"])), 60000.0 + step * np.arange(3), strict=True))
    assert link(table(rows(mjd=[days[one] for one in rows()["mjd"]])))[0].exit_code == 0


def test_messages_name_the_columns_of_the_table(table):
    told = rows(mjd=[*rows()["mjd"][:12], 5.0], mag=[99.0] * 13)
    names = {"id": "diaSourceId", "mjd": "midpointMjdTai", "mag": "magAB"}
    told = {names.get(name, name): values for name, values in told.items()}
    told["diaSourceId"] = [None, "a", *told["diaSourceId"][1:11], "a"]
    told["diaSourceId"][3] = "a"
    result, found = link(table(told))
    assert found["left_out"].keys() == {
        "no diaSourceId", "the diaSourceId of an earlier row", "midpointMjdTai is not a number from 15020 to 88069"
    }  # fmt: skip
    assert found["not_given"] == {"magAB": 13}
    assert "13 values of magAB beyond -30 to 40: taken as not given" in result.stderr
    late = link(table(told | {"midpointMjdTai": [2460000.7] * 13}))[1]["error"]
    assert (late["code"], "column 'midpointMjdTai'" in late["problem"]) == ("no_mjd", True)


def test_ids_are_named_as_the_table_has_them(tmp_path):
    told = {"diaSourceId" if name == "id" else name: values for name, values in rows().items()}
    for ids, problem in (
        ([[1]] * 13, "column 'diaSourceId' holds list"),
        ([1e17] * 13, "column 'diaSourceId' holds d"),
    ):
        pq.write_table(pa.table(told | {"diaSourceId": ids}), tmp_path / "t.parquet")
        assert problem in link(tmp_path / "t.parquet")[1]["error"]["problem"]


def test_a_folder_without_a_table_is_refused(tmp_path):
    (tmp_path / "_SUCCESS").touch()
    result, found = link(tmp_path)
    assert (result.exit_code, found["error"]["code"]) == (2, "unreadable_table")
    assert found["error"]["problem"] == "holds no Parquet file."


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("id,mjd,ra,dec,ra\n1,60000.2,10,10,10\n")
    result, found = link(tmp_path / "t.csv")
    assert (result.exit_code, found["error"]["code"]) == (2, "unreadable_table")
    assert "the column 'ra' more than once" in found["error"]["problem"]


def test_a_file_in_a_folder_that_is_no_table_is_named(tmp_path):
    pq.write_table(pa.table(rows()), tmp_path / "t.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log/0.json").write_text("{}")
    assert link(tmp_path)[1]["tracklets"] == 2
    (tmp_path / "notes.txt").write_text("of the night")
    result, found = link(tmp_path)
    assert (result.exit_code, found["error"]["where"]) == (2, str(tmp_path / "notes.txt"))


def test_the_table_that_is_read_is_not_written_over(tmp_path):
    (tmp_path / "folder").mkdir()
    for source, out in (("t.parquet", "t.parquet"), ("folder", "folder/out.parquet")):
        written = tmp_path / ("folder/t.parquet" if source == "folder" else source)
        pq.write_table(pa.table(rows()), written)
        before = written.read_bytes()
        result, found = link(tmp_path / source, "--out", str(tmp_path / out))
        assert (result.exit_code, found["error"]["code"]) == (2, "overwrites_input")
        assert written.read_bytes() == before
    (tmp_path / "o.parquet").mkdir()
    result, found = link(tmp_path / "t.parquet", "--out", str(tmp_path / "o.parquet"))
    assert (result.exit_code, found["error"]["code"]) == (2, "not_writable")


def test_columns_and_types_are_those_of_all_files_of_a_folder(tmp_path):
    whole = pa.table(rows(id=[2**40 + n for n in range(13)], mag=[20.5] * 13, note=["a"] * 13))
    first = pa.table({"id": range(6), "mag": pa.array([20] * 6, pa.int64()), "note": range(6)})
    first = first.set_column(0, "id", first["id"].cast(pa.int32()))
    for name in ("mjd", "ra", "dec"):
        first = first.append_column(name, whole[name][:6])
    (tmp_path / "t").mkdir()
    pq.write_table(first, tmp_path / "t" / "1.parquet")
    second = (
        whole.append_column("obscode", pa.array(["I41"] * 13)).append_column("band", pa.array([" g"] * 13)).slice(6)
    )
    pq.write_table(second, tmp_path / "t" / "2.parquet")
    table = read_detections(tmp_path / "t")
    assert sorted(table.ids.to_pylist()) == [*range(6), *(2**40 + n for n in range(6, 13))]
    assert sorted(table.detections.magnitude) == [20.5 - 0.55] * 7 + [20] * 6
    assert sorted(table.obscode) == [""] * 6 + ["I41"] * 7
    single = second.set_column(second.column_names.index("mjd"), "mjd", second["mjd"].cast(pa.float32()))
    pq.write_table(single, tmp_path / "t" / "2.parquet")
    with pytest.raises(Misconfigured, match="single precision") as raised:
        read_detections(tmp_path / "t")
    assert raised.value.where == str(tmp_path / "t" / "2.parquet")


def test_ids_without_text_are_none_and_infinite_errors_are_not_small(tmp_path):
    blank = pa.table(rows(id=["", " ", *rows()["id"][2:]], posErr=[0.1] * 12 + [np.inf]))
    pq.write_table(blank, tmp_path / "t.parquet")
    left_out = {"no id": 2, "the error of its position is above 60 arcsec": 1}
    assert link(tmp_path / "t.parquet")[1]["left_out"] == left_out


def separated(path, separator):
    path.write_text("\n".join(separator.join(map(str, line)) for line in (rows(), *zip(*rows().values(), strict=True))))
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_may_be_parted_by_commas_semicolons_or_tabs(tmp_path, separator):
    result, found = link(separated(tmp_path / "t.csv", separator))
    assert (result.exit_code, found["tracklets"], found["stationary"]) == (0, 2, 6)


@pytest.mark.parametrize("separator", ["|", " "])
def test_columns_without_commas_are_refused_with_the_remedy(tmp_path, separator):
    result, found = link(separated(tmp_path / "t.csv", separator))
    assert (result.exit_code, found["error"]["code"]) == (2, "unreadable_table")
    assert found["error"]["remedy"] == "separate names and values by one of them."


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)))
    for path, code in ((tmp_path / "noise.bin", "unreadable_table"), (tmp_path / "none", None)):
        result, found = link(path)
        assert result.exit_code == 2
        assert code in (None, found["error"]["code"])


def test_tracklets_of_known_objects_are_named(table, tmp_path):
    """Ten objects where an independent integration puts them, a tenth of a day apart; orbits of half are known."""
    orbits, days = asteroids(10, 61000.0), np.array([0.0, 0.05, 0.1])
    ra, dec = integrated(orbits, 61150.0 + days, PALOMAR)
    utc = np.tile(61150.0 + days - 37 / 86400, 10)
    ids = [f"{n}{visit}" for n in range(10) for visit in "abc"]
    noise = np.random.default_rng(1).normal(0, 0.1 / 3600, 30)
    given = {"id": ids, "mjd": utc, "ra": ra.ravel(), "dec": dec.ravel() + noise, "obscode": ["I41"] * 30}
    path = write_mpcorb(tmp_path / "MPCORB.DAT", orbits.take(slice(0, 5)))
    result, found = link(table(given), "--orbits", str(path), "--out", str(tmp_path / "members.parquet"))
    assert (result.exit_code, found["tracklets"], found["known"]) == (0, 10, 5)
    named = {(row["id"][0], row["designation"]) for row in pq.read_table(tmp_path / "members.parquet").to_pylist()}
    assert named == {(str(n), f"2026 TA{n}" if n < 5 else "") for n in range(10)}
    assert "the place is not known" not in result.stderr
    older = orbits.take(np.array([7]))._replace(designation=np.array([b"2026 TA1"]), uncertainty=np.array([4.0]))
    path.write_text(path.read_text() + write_mpcorb(tmp_path / "older.dat", older).read_text())
    result, found = link(table(given | {"obscode": ["Q00"] * 30}), "--orbits", str(path))
    assert found["known"] == 5  # the surer orbit of 2026 TA1 counts
    assert "obscode Q00: the place is not known" in result.stderr


def test_orbits_that_cannot_be_read_are_refused(table, tmp_path):
    result = CliRunner().invoke(app, ["link", str(table(rows())), "--orbits", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


@pytest.mark.parametrize("apart", [0.0, 0.2, 0.9])
def test_copies_of_a_detection_are_linked_once(table, apart):
    """As where detectors overlap, or a table holds two reductions of an image."""
    alone = rows()
    twice = {name: [*values, *values] for name, values in alone.items()}
    twice["id"] = [*alone["id"], *(f"{one}, again" for one in alone["id"])]
    twice["dec"] = [*alone["dec"], *(dec + apart / 3600 for dec in alone["dec"])]
    twice["obscode"] = ["I41"] * 26
    found = read_detections(table(twice))
    summary, tracklets, _ = link_table(found)
    assert (summary.detections, summary.stationary) == (26, 12)
    own = [[found.ids[place].as_py() for place in one.members] for one in tracklets]
    assert own == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]
    twice["obscode"] = ["I41"] * 13 + ["W84"] * 13  # of two observatories they are no copies
    assert len(link_table(read_detections(table(twice)))[1]) == 4


@pytest.mark.parametrize(
    ("name", "meant"),
    [("traillength", "trailLength"), ("trail_length", "trailLength"), ("poserr", "posErr"), ("Mag", "mag")],
)
def test_columns_that_are_named_nearly_right_are_told(table, name, meant):
    result, found = link(table(rows(**{name: [0.2] * 13, "mags": [20.0] * 13})))
    assert (result.exit_code, found["tracklets"]) == (0, 2)
    assert f"column {name!r} is not used: name it {meant!r}, if it is that" in result.stderr
    assert result.stderr.count("is not used") == 1
    assert "is not used" not in link(table(rows(**{name: [0.2] * 13, meant: [0.2] * 13})))[0].stderr


@pytest.mark.parametrize("codes", [[703.0] * 12 + [np.nan], ["703.0"] * 12 + [""], [703] * 12 + [None]])
def test_codes_are_three_digits_and_rows_without_are_told(table, codes):
    path = table(rows(obscode=codes))
    assert sorted(set(read_detections(path).obscode)) == ["", "703"]
    assert "1 row without an obscode: linked apart from the others" in link(path)[0].stderr
    assert "without an obscode" not in link(path, "--obscode", "703")[0].stderr
    assert "without an obscode" not in link(table(rows()))[0].stderr


def test_codes_are_read_in_small_letters(table):
    path = table(rows(obscode=["i41"] * 6 + ["I41"] * 6 + [None]))
    assert set(read_detections(path, "w84").obscode) == {"I41", "W84"}
    assert set(read_detections(table(rows(obscode=["q1x"] * 13))).obscode) == {"q1x"}  # no code that is known


def test_codes_of_small_numbers_get_their_zeros(tmp_path):
    pq.write_table(pa.table(rows(obscode=[33.0] * 13)), tmp_path / "t.parquet")
    assert set(read_detections(tmp_path / "t.parquet").obscode) == {"033"}
