import csv
import json

import fastavro
import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from astropy.table import Table
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.output import _place
from flows.nights.association import associate
from flows.storage.association_store import opened_association
from flows.storage.catalog_store import CatalogStore
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from schemas.dia_object import ASSOCIATION, DIA_OBJECT
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.ledger import DatasetRecord
from schemas.patch import PatchKey
from schemas.settings import AssociationSettings
from schemas.stage import Context
from stages.gather_dia_objects import gather_dia_objects
from tests.support.alert_night import NIGHT, exposure_planes, info_of, places, put, rows_of, visit_of
from tests.support.cli import nightstride
from tests.support.export import NIGHTS, publish
from tests.support.exposure import exposure_record
from tests.support.filled import filled_rows
from tests.support.forced import MJD, at_pixel, plain_info, plain_planes, store


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_writes_a_votable_of_all_nights_or_one(tmp_path):
    publish(tmp_path)
    result = run(tmp_path, "--to", tmp_path / "o.vot", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["rows"] == 60
    assert len(Table.read(tmp_path / "o.vot")) == 60
    one = run(tmp_path, "--to", tmp_path / "n.vot", "--night", NIGHTS[0])
    assert "n.vot: 30 rows of object, from 1 published file" in one.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "nothing"), "'nothing' is not a dataset"),
        (("--dataset", "dia_source"), "holds no catalogue 'dia_source'"),
        (("--format", "excel"), "votable"),
        (("--format", "csv"), "x.vot: is votable by its ending, not csv"),
        (("--to", "x"), "does not say in which format"),
    ],
)
def test_bad_usage_ends_with_2(tmp_path, arguments, says):
    publish(tmp_path)
    result = run(tmp_path, "--to", tmp_path / "x.vot", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    publish(tmp_path)
    (tmp_path / "file").write_text("mine")
    for form in ("votable", "hats"):
        result = run(tmp_path, "--to", tmp_path / "file/x", "--format", form)
        assert result.exit_code == 2
        assert f"{tmp_path}/file is a file, no folder. To fix, make it first" in result.stderr
        missing = run(tmp_path, "--to", tmp_path / "new/x", "--format", form)
        assert missing.exit_code == 2
        assert f"{tmp_path}/new is not there. To fix, make it first (mkdir -p {tmp_path}/new)" in missing.stderr
        assert not (tmp_path / "new").exists()
    (tmp_path / "x.vot").mkdir()
    folder = run(tmp_path, "--to", tmp_path / "x.vot")
    assert folder.exit_code == 2
    assert "x.vot: is a folder; votable is one file. To fix, name a file." in folder.stderr


@pytest.mark.parametrize(
    ("nights", "found"),
    [
        (f"{NIGHTS[0]}..{NIGHTS[1]}", NIGHTS), (f"..{NIGHTS[0]}", NIGHTS[:1]), (f"{NIGHTS[1]}..", NIGHTS[1:]),
        (NIGHTS[1], NIGHTS[1:]),
    ],
)  # fmt: skip
def test_several_nights_are_exported(tmp_path, nights, found):
    publish(tmp_path)
    path = tmp_path / "some.csv"
    assert run(tmp_path, "--dataset", "object", "--to", path, "--night", nights).exit_code == 0
    with path.open() as file:
        assert sorted({row["night"] for row in csv.DictReader(file)}) == list(found)


def test_without_objects_detections_are_exported_and_that_is_said(tmp_path):
    CatalogStore(tmp_path).publish(DIA_SOURCE, ExposureKey(night=NIGHT, visit=1, detector=0), DIA_SOURCE.empty(), "d")
    assert "0 rows of dia_source, from 1 published file" in run(tmp_path, "--to", tmp_path / "a.csv").stdout


def test_nights_of_which_nothing_is_published_are_named(tmp_path):
    publish(tmp_path)
    result = run(tmp_path, "--dataset", "object", "--to", tmp_path / "a.csv", "--night", "20300101..20300131")
    assert result.exit_code == 2
    assert "holds no catalogue 'object' of nights 20300101 to 20300131" in result.stderr


def test_rows_are_chosen_by_a_condition(tmp_path):
    rows = publish(tmp_path)
    result = run(tmp_path, "--to", tmp_path / "o.csv", "--where", "snr > 25 and not flags.EDGE", "--json")
    chosen = [row for row in rows.to_pylist() if row["snr"] > 25 and not row["flags"] & 1]
    assert json.loads(result.stdout.splitlines()[-1])["rows"] == len(chosen) > 0
    wrong = run(tmp_path, "--to", tmp_path / "o.csv", "--where", "snrr > 25")
    assert (wrong.exit_code, "write 'snr'" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("ending", ["csv", "parquet", "fits", "xml", "reg"])
def test_the_ending_of_the_file_says_the_format(tmp_path, ending):
    publish(tmp_path)
    result = run(tmp_path, "--to", tmp_path / f"o.{ending}", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["rows"] == 60
    first = (tmp_path / f"o.{ending}").read_bytes()[:6]
    starts = {"csv": b'"night', "parquet": b"PAR1", "fits": b"SIMPLE", "xml": b"<?xml ", "reg": b"# Regi"}
    assert first.startswith(starts[ending])


@pytest.fixture
def out(tmp_path):
    store(tmp_path / "out", plain_info(), plain_planes((100.0, 60.0, 12.0, 0.0, 6000.0)))
    return tmp_path / "out"


@pytest.fixture
def listed(tmp_path):
    def write(*rows):
        lines = ["name,ra,dec,epoch,rate_ra_cosdec,rate_dec", *(",".join(map(str, row)) for row in rows)]
        path = tmp_path / "targets.csv"
        path.write_text("\n".join(lines))
        return path

    return write


MOVES = ("moves", *at_pixel(88, 60), MJD - 1 / 2400, -1200.0, 0.0)  # 12 px west of there 36 s later
STANDS = ("stands", *at_pixel(200, 200), "", 0, 0)


def forced(*words):
    return CliRunner().invoke(app, ["forced", *map(str, words)])


def test_targets_are_measured_published_and_shown(out, listed):
    result = forced(listed(MOVES, STANDS), "--out", out)
    assert result.exit_code == 0
    assert "2 targets, 1 exposure: 1 detection, 1 upper limit," in result.stdout
    rows = pq.read_table(out / "catalogs/forced_source/night=20260101/7-0.parquet").to_pylist()
    assert [row["targetName"] for row in rows] == ["moves", "stands"]
    assert (rows[0]["x"], rows[0]["y"]) == pytest.approx((100, 60), abs=0.01)
    assert rows[0]["trailFlux"] == pytest.approx(6000 * 10**2.16, abs=4 * rows[0]["trailFluxErr"])
    assert not (out / "lease.json").exists()


def test_json_is_the_last_line_and_all_of_stdout(out, listed):
    result = forced(listed(MOVES, STANDS, ("wrong", "x", 1, MJD, 1, 1)), "--out", out, "--json", "--sigma", 5)
    summary = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (summary["targets"], summary["rows"], summary["detections"], summary["limits"]) == (2, 2, 1, 1)
    assert summary["left_out"][0]["where"].endswith("targets.csv: row 3, column ra")
    assert "left out: " in result.stderr
    assert "is 'x', must be a number from 0 to 360 (deg). To fix, correct it." in result.stderr


def test_one_target_is_measured_shown_and_not_published(out, listed):
    forced(out, listed(MOVES, STANDS))
    path = out / "catalogs/forced_source/night=20260101/7-0.parquet"
    before = path.read_bytes()
    ra, dec = at_pixel(100, 60)
    result = forced(out, "--at", f"{ra},{dec}", "--json")
    summary = json.loads(result.stdout)
    (row,) = summary["measured"]
    assert (result.exit_code, summary["targets"], summary["detections"], summary["files"]) == (0, 1, 1, [])
    assert (row["x"], row["y"]) == pytest.approx((100, 60), abs=0.01)
    assert path.read_bytes() == before
    hours, minutes = divmod(ra / 15 * 60, 60)
    same = forced("--at", f"{int(hours)}:{minutes:.8f},+{dec:.8f}", "-o", out, "--json")
    (again,) = json.loads(same.stdout)["measured"]
    assert (again["x"], again["y"]) == pytest.approx((100, 60), abs=0.01)


@pytest.mark.parametrize(("length", "away"), [(20.0, 8.0), (1200.0, 500.0)])
def test_a_place_on_no_exposure_and_a_trail_across_it_are_told(tmp_path, length, away):
    info = plain_info()
    store(tmp_path / "out", info, plain_planes((100.0, 60.0, 0.0, 0.0, 6000.0)))
    nowhere = forced(tmp_path / "out", "--at", "1,-60")
    assert (nowhere.exit_code, "1 target on none of them" in nowhere.stdout) == (1, True)
    ra, dec = at_pixel(100, 60)
    row = {
        "diaSourceId": 9, "visit": 7, "detector": 0, "midpointMjdTai": 61000.0, "band": "g", "x": 0.0, "y": 0.0,
        "ra": (ra + away / 3600 / np.cos(np.radians(dec))) % 360, "dec": dec, "trailLength": length, "trailAngle": 90.0,
        "trailLengthErr": 0.5,
    }  # fmt: skip
    table, key = filled_rows(DIA_SOURCE.schema, [row]), ExposureKey(night="20260101", visit=7, detector=0)
    CatalogStore(tmp_path / "out").publish(DIA_SOURCE, key, table, "d")
    assert (
        f"9, a trail of {length} arcsec on exposure 7-0, crosses the place"
        in forced(tmp_path / "out", "--at", f"{ra},{dec}").stderr
    )
    beside = json.loads(forced(tmp_path / "out", "--at", f"{ra},{dec + 8 / 3600}", "--json").stdout)
    assert beside["trails"] == []


def test_what_is_darker_than_the_sky_is_said_to_be_negative(tmp_path):
    store(tmp_path / "out", plain_info(), plain_planes((100.0, 60.0, 0.0, 0.0, -6000.0)))
    ra, dec = at_pixel(100, 60)
    result = forced(tmp_path / "out", "--at", f"{ra},{dec}")
    (line,) = (line for line in result.stdout.splitlines() if line.strip().startswith(f"{ra:.5f},"))
    assert " negative " in line
    assert " -" in line.split("negative")[1]  # its significance
    assert "1 upper limit (1 of them of significantly negative flux)" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{list}", "--out", "{out}/nowhere"], "has no exposure that was searched"),
        (["{list}", "--out", "{out}", "--night", "20990101"], "has no exposure that was searched in night 20990101"),
        (["{out}/absent", "--out", "{out}"], "absent: does not exist"),
        (["{list}.json", "--out", "{out}"], "cannot be read as Parquet, ECSV or CSV: ',' expected"),
        (["{list}", "--out", "{out}", "--sigma", "0"], "sigma"),
    ],
)
def test_usage_errors_are_exit_code_2(out, listed, words, message):
    path = listed(STANDS)
    path.with_name(f"{path.name}.json").write_text('{"no": "table",\n"of": 3}')
    result = forced(*(word.format(out=out, list=path) for word in words))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (out / "nowhere").exists()


def test_folder_of_a_run_that_goes_on_is_left_alone(out, listed):
    with lease(out):
        result = forced(listed(STANDS), "--out", out)
    assert result.exit_code == 4
    assert "another run holds it" in result.stderr
    assert not (out / "catalogs").exists()


@pytest.fixture
def out_prune(tmp_path):
    (tmp_path / "catalogs").mkdir()
    (tmp_path / "catalogs/x.parquet").write_bytes(b"x" * 123_000)
    file = DatasetRecord(path="catalogs/x.parquet", digest="d", rows=1, sha256="s")
    record = exposure_record(night="20200101", datasets={"dia_source": file}, finished_at="2020-01-02T03:00:00+00:00")
    Ledger(tmp_path).put(record)
    return tmp_path


def run_prune(*arguments):
    return CliRunner().invoke(app, ["prune", *map(str, arguments)])


def test_without_a_choice_of_nights_it_is_bad_usage(out_prune):
    assert run_prune(out_prune).exit_code == 2
    assert run_prune(out_prune / "none", "--keep", "1").exit_code == 2


def test_a_release_is_refused_before_anything_is_listed(out_prune):
    (out_prune / "release.json").write_text("{}")
    refused = run_prune(out_prune, "--keep", "0", "--irreplaceable", "--yes-really")
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert "is a data release" in line
    assert "remove exposure" in run_prune(out_prune, "--keep", "0", "--irreplaceable", "--dry-run").stderr


def test_a_folder_that_a_run_holds_is_refused_before_anything_is_listed(out_prune):
    with lease(out_prune):
        refused = run_prune(out_prune, "--keep", "0", "--irreplaceable", "--yes-really")
    (line,) = refused.stderr.splitlines()
    assert (refused.exit_code, "another run holds it" in line) == (4, True)


def test_what_cannot_be_made_again_needs_consent(out_prune):
    listed = run_prune(out_prune, "--keep", "0", "--irreplaceable", "--json")
    assert listed.exit_code == 2
    assert "add --yes-really" in listed.stderr
    assert (
        "Nothing was removed: some of this cannot be made again (2 items of 1 night: 1 file, 0.1 MB)" in listed.stderr
    )
    assert json.loads(listed.stdout)["listed"][0]["bytes"] == json.loads(listed.stdout)["bytes"] == 123_000
    assert "exposure" in listed.stderr
    assert json.loads(listed.stdout)["removed"] is False
    assert Ledger(out_prune).count() == 1
    assert run_prune(out_prune, "--keep", "0").exit_code == 0
    dry = run_prune(out_prune, "--keep", "0", "--irreplaceable", "--dry-run")
    assert dry.exit_code == 0
    assert "Dry run: nothing was removed. Without --dry-run it would remove 2 items of 1 night: 1 file, " in dry.stderr
    assert Ledger(out_prune).count() == 1
    done = run_prune(out_prune, "--keep", "0", "--irreplaceable", "--yes-really", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["removed"] is True
    assert Ledger(out_prune).count() == 0
    assert "Removed 2 items of 1 night: 1 file, " in done.stderr
    assert "Removed 0 items of 0 nights: 0 files, 0.0 MB." in run_prune(out_prune, "--keep", "0").stderr


def test_objects_at_rest_are_measured_on_visits_before_they_were_seen(tmp_path):
    out, (x, y) = tmp_path / "out", places(4, (280, 300))
    for n in range(3):
        info, found = info_of(n), slice(None) if n else slice(3)  # the last is not detected on the first visit
        put(out, info, rows_of(info, x[found], y[found]), exposure_planes(info, x, y, seed=7 + n))
    assert associate(out, AssociationSettings(), None).summary.objects == 4
    with opened_association(out, AssociationSettings()) as associated:
        rows = gather_dia_objects({ASSOCIATION.name: associated.history(NIGHT)}, Context())
    CatalogStore(out).publish(DIA_OBJECT, PatchKey(night=NIGHT, order=0, pixel=0), rows, "objects")
    done = nightstride("forced", "--dia-objects", "--out", out, "--json")
    assert (done.code, done.summary["targets"], done.summary["rows"]) == (0, 4, 12), done.stderr
    sink = tmp_path / "alerts"
    assert nightstride("alerts", "publish", out, "--to", sink, "--json").summary["alerts"] == 11
    with (sink / f"{visit_of(1)}.avro").open("rb") as file:
        alerts = {alert["diaSourceId"]: alert for alert in fastavro.reader(file)}
    (new,) = [alert for alert in alerts.values() if not alert["prvDiaSources"]]
    (before,) = new["prvDiaForcedSources"]
    assert (before["visit"], before["diaObjectId"]) == (visit_of(0), new["diaSource"]["diaObjectId"])
    assert before["psfFlux"] == pytest.approx(new["diaSource"]["psfFlux"], abs=5 * before["psfFluxErr"])
    assert before["psfFlux"] > 5 * before["psfFluxErr"]


@pytest.mark.parametrize("arguments", [(), ("list.csv", "--dia-objects")])
def test_forced_measures_a_list_or_objects(tmp_path, arguments):
    done = nightstride("forced", *arguments, "--out", tmp_path)
    assert (done.code, "--dia-objects" in done.stderr) == (2, True)


def test_without_objects_there_are_none_to_measure(tmp_path):
    (tmp_path / "ledger").mkdir()
    done = nightstride("forced", "--dia-objects", "--out", tmp_path, "--json")
    assert (done.code, done.summary["error"]["code"]) == (2, "no_objects")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0,90", (0, 90)), ("360,-90", (360, -90)), ("12:30:00,-45:30:00", (187.5, -45.5)),
        ("12:30:00 -45:30:00", (187.5, -45.5)),
        ("10,90.001", None),
        ("10,-90.001", None), ("-0.001,0", None), ("360.001,0", None), ("24:00:01,0", None), ("10", None),
    ],
)  # fmt: skip
def test_a_place_is_on_the_sphere(text, place):
    if place is not None:
        assert _place(text) == pytest.approx(place)
    else:
        with pytest.raises(typer.BadParameter, match="is not RA,DEC"):
            _place(text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rebuild", "--night", "20260101"), "--rebuild is of all nights: leave --night out."),
        (("--rebuild",), "nowhere"),
        (("--night", "20260101"), "nowhere"),
    ],
)
def test_all_nights_are_associated_again_or_one_is_associated(tmp_path, arguments, says):
    result = nightstride("associate", tmp_path / "nowhere", *arguments)
    assert result.code == 2
    assert says in " ".join(result.stderr.split())
