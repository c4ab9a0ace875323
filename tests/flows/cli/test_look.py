import io
import json
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.look import _show_blocks
from flows.pipeline.provenance import provenance_of
from flows.results import explain as module
from flows.results.explain import Explanation, cutout_of
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from stages import PIPELINE
from stages.detect import STAGE as DETECT
from tests.flows.results.page.conftest import NIGHT, make_info, make_rows, publish
from tests.support.cli import nightstride
from tests.support.exposure import exposure_record


@pytest.fixture
def out(tmp_path):
    record = exposure_record(finished_at="2026-01-02T03:00:00+00:00")
    Ledger(tmp_path).put(record)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["status", *map(str, arguments)])


def test_all_well_is_0(out):
    ended = run(out, "--night", "20260101", "--json")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout.splitlines()[-1])["nights"][0]["exposures"] == {"done": 1}


def test_something_failed_is_1(out):
    record = next(Ledger(out).records())
    Ledger(out).put(record.model_copy(update={"visit": 2, "status": "failed", "reason": "deadline: late"}))
    ended = run(out)
    assert ended.exit_code == 1
    assert "deadline: late" in ended.stdout


def test_no_such_folder_or_night_is_2(out):
    assert run(out / "none").exit_code == 2
    assert run(out, "--night", "20300101").exit_code == 2


def run_explain(*arguments):
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


@pytest.fixture
def explained(monkeypatch):
    known = SimpleNamespace(state="unchanged")
    record = exposure_record(detector=2)
    row = {"diaSourceId": 7, "x": 10.0, "y": 20.0, "snr": 9.0, "reliability": 0.5}

    def explain(out, source_id, association):
        made = provenance_of(PIPELINE, Settings(detect={"stride": 5}))
        catalogues = {"dia_source": ("a.parquet", "d")}
        return Explanation(row, "1.fits", "s", known.state, cutout_of(10, 20, 5), "t", None, catalogues, record, made)

    monkeypatch.setattr(module, "explain_detection", explain)
    return known


@pytest.mark.parametrize("name", ["x.txt", "x", "x.jpg"])
def test_a_picture_is_a_png(explained, tmp_path, name):
    ended = run_explain("out", 7, "--picture", tmp_path / name)
    assert ended.exit_code == 2
    assert "does not end in .png" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_everything_is_told(explained):
    ended = run_explain("out", 7)
    assert ended.exit_code == 0
    for text in (
        "FITS section [9:13,19:23]",
        "1.fits (unchanged)",
        "streak_net 1",
        "none: not there",
        f"detect {DETECT.version}",
    ):
        assert text in ended.stdout
    assert "setting detect.stride  5\n" in ended.stdout
    assert "settings               all others are the defaults of this version; --json has them\n" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) < 250
    assert json.loads(run_explain("out", 7, "--json").stdout.splitlines()[-1])["detection"]["diaSourceId"] == 7


def test_a_detection_is_explained_with_its_place_flags_and_cutouts(tmp_path):
    info = make_info((60, 70), source_uri=str(tmp_path / "x.fits"))
    rows = make_rows(info, 4, 1)
    rows[0] |= {"ra": 150.012345, "dec": -0.5, "flags": 1 | 8, "x": 30.0, "y": 25.0}
    out = tmp_path / "out"
    publish(out, info, rows, 1)
    seen, bare = (str(rows[place]["diaSourceId"]) for place in (0, 3))
    picture = tmp_path / "cutout.png"
    told = run_explain(out, seen, "--picture", picture)
    assert "RA 150.012345, Dec -0.500000 deg (ICRS); 10:00:02.96 -00:30:00.0" in told.stdout
    assert any(line.split() == ["flags", "EDGE,", "DIPOLE"] for line in told.stdout.splitlines())
    shown = Image.open(picture)
    assert min(shown.size) >= 100
    assert len(shown.getcolors()) > 20
    assert "▀" not in told.stdout  # no terminal
    without = run_explain(out, bare, "--json")
    assert "sky              " in without.stderr
    assert "not known: the image has no WCS" in without.stderr
    assert json.loads(without.stdout.splitlines()[-1])["flags"] == ["EDGE", "NO_WCS", "NO_ZERO_POINT"]
    shutil.rmtree(out / "tiles")
    gone = run_explain(out, seen, "--picture", tmp_path / "none.png")
    assert (gone.exit_code, (tmp_path / "none.png").exists()) == (2, False)
    assert "the pixels of the exposure are not there" in gone.stderr


def test_on_a_terminal_the_cutout_is_drawn_with_blocks(tmp_path):
    info = make_info((60, 70))
    rows = make_rows(info, 4, 1)
    publish(tmp_path, info, rows, 1)
    found = module.explain_detection(tmp_path, rows[0]["diaSourceId"], Settings().association)
    text = io.StringIO()
    _show_blocks(tmp_path, found, Console(file=text, force_terminal=True, width=100, color_system="truecolor"))
    lines = text.getvalue().splitlines()
    assert 8 <= len(lines) <= 13
    assert all("▀" in line for line in lines)


def test_a_changed_file_is_1(explained):
    explained.state = "changed"
    assert run_explain("out", 7).exit_code == 1


def test_no_such_detection_is_2(tmp_path):
    (tmp_path / "ledger").mkdir()
    ended = run_explain(tmp_path, 12345)
    assert ended.exit_code == 2
    assert "holds no detection 12345" in ended.stderr


@pytest.fixture
def out_quality(tmp_path):
    info = make_info((60, 70))
    publish(tmp_path / "out", info, make_rows(info, 4, 1), 1)
    (tmp_path / "limits.toml").write_text("[quality.limits.all]\nseeing = [0, 1]\n")
    return tmp_path / "out"


def run_quality(*arguments):
    return CliRunner().invoke(app, ["quality", *map(str, arguments)])


def test_a_night_that_passes_is_0_and_one_that_fails_is_1(out_quality):
    assert run_quality(out_quality).exit_code == 0
    ended = run_quality(out_quality, "--night", NIGHT, "--config", out_quality.parent / "limits.toml", "--json")
    assert ended.exit_code == 1
    (band,) = json.loads(ended.stdout.splitlines()[-1])["nights"][NIGHT]
    assert (band["band"], band["verdict"]) == ("r", "fail")
    assert Ledger(out_quality).quality(NIGHT).judged[0].verdict == "fail"
    words = run_quality(out_quality, "--config", out_quality.parent / "limits.toml").stdout
    (line,) = (line for line in words.splitlines() if line.strip().startswith("FWHM of the PSF"))
    assert "2.2" in line
    assert "≤ 1" in line
    assert sum("≤" in one or "≥" in one for one in words.splitlines()) < words.count(" - ")  # most have no limits
    assert "pixel" in words
    status = CliRunner().invoke(app, ["status", str(out_quality), "--json"])
    assert json.loads(status.stdout.splitlines()[-1])["nights"][0]["quality"][0]["verdict"] == "fail"


def test_of_a_night_without_published_exposures_it_says_so(out_quality):
    ledger = Ledger(out_quality)
    (record,) = ledger.records(NIGHT)
    ledger.put(record.model_copy(update={"status": "quarantined", "reason": "flood: too many"}))
    ended = run_quality(out_quality, "--night", NIGHT)
    assert (ended.exit_code, ended.output) == (0, f"{NIGHT}: it has no published exposures\n")


def test_no_such_night_is_2(out_quality):
    assert run_quality(out_quality, "--night", "20300101").exit_code == 2


KEY = ExposureKey(night="20260101", visit=5, detector=0)


@pytest.fixture
def out_verify(tmp_path):
    store = CatalogStore(tmp_path)
    path = store.publish(DIA_SOURCE, KEY, DIA_SOURCE.empty(), "d")
    values = {"source_uri": "x", "source_sha256": "ab", "digest": "d", "software": "0", "finished_at": "now"}
    record = ExposureRecord(**KEY.model_dump(), **values, datasets={DIA_SOURCE.name: store.record(path)})
    Ledger(tmp_path).put(record)
    return tmp_path


def run_verify(*words):
    return CliRunner().invoke(app, ["verify", *map(str, words)])


def test_all_is_well(out_verify):
    result = run_verify(out_verify)
    assert result.exit_code == 0
    assert result.stdout == "1 exposure, 0 nights, 1 file, 0 tile stores: all is well.\n"


def test_problems_are_listed_with_their_remedies(out_verify):
    path = CatalogStore(out_verify).path(DIA_SOURCE, KEY)
    path.unlink()
    result = run_verify(out_verify)
    assert result.exit_code == 1
    first, last = result.stdout.splitlines()
    assert first.startswith(f"{path}: cannot be read as Parquet")
    assert "To fix, run the night again" in first
    assert last == "1 exposure, 0 nights, 1 file, 0 tile stores: 1 problem."


def test_json_is_the_last_line_and_all_of_stdout(out_verify):
    (out_verify / "catalogs/stranger").touch()
    result = run_verify(out_verify, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [problem["code"] for problem in found["problems"]] == ["unknown_file"]
    assert (found["exposures"], found["files"], found["tiles"], found["running"]) == (1, 1, 0, None)


def test_form_of_the_catalogue_is_checked(out_verify):
    path = CatalogStore(out_verify).path(DIA_SOURCE, KEY)
    schema = pa.schema([pa.field("n", pa.int32())], pq.read_schema(path).metadata)
    pq.write_table(schema.empty_table(), path)
    assert "is 'dia_source' where 'dia_source' is expected: missing" in run_verify(out_verify).stdout


def test_no_such_folder(tmp_path):
    result = run_verify(tmp_path / "absent")
    assert result.exit_code == 2
    assert "is not an output folder" in result.stderr
    assert result.stdout == ""


def run_models(*arguments):
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def test_models_are_listed(tmp_path):
    ledger = Ledger(tmp_path)
    made = ledger.put_provenance(provenance_of(PIPELINE, Settings()))
    ledger.put(exposure_record(detections=7, provenance=made))
    ended = run_models(tmp_path, "--json")
    assert ended.exit_code == 0
    found = json.loads(ended.stdout.splitlines()[-1])["models"]
    detect = next(one for one in found if one["model"] == "detect")
    assert (detect["name"], detect["nights"], detect["exposures"], detect["detections"]) == (
        "streak_net", ["20260101"], 1, 7,
    )  # fmt: skip
    heading, *rows = run_models(tmp_path).stdout.splitlines()
    assert heading.split()[:4] == ["model", "weights", "SHA-256", "nights"]
    assert ["detect", "streak_net", "1", detect["sha256"][:12], "20260101", "1", "7", "0", "0", "0"] in map(
        str.split, rows
    )


def test_a_folder_with_nothing_but_a_quarantine(tmp_path):
    Quarantine(tmp_path).put(BadInput("not_fits", "a.fits", "is not an image.", "name one."), "a.fits")
    ended = run_models(tmp_path)
    assert (ended.exit_code, ended.stdout) == (0, "No exposure was searched.\n")


def test_models_that_were_not_recorded(tmp_path):
    for night in ("20260101", "20260103"):
        Ledger(tmp_path).put(
            exposure_record(night=night)
        )  # fmt: skip
    (row,) = run_models(tmp_path).stdout.splitlines()[1:]
    assert row.split() == ["not", "recorded", "-", "-", "2:", "20260101", "to", "20260103", "2", "0", "0", "0", "0"]


def test_no_such_folder_is_2(tmp_path):
    assert run_models(tmp_path / "none").exit_code == 2


@pytest.fixture
def out_report(tmp_path):
    for night in ("20261103", "20261104"):
        key = ExposureKey(night=night, visit=1, detector=1)
        Quarantine(tmp_path).put(BadInput("code", "where", "problem.", "remedy."), f"file:///{night}", key)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_makes_the_page_of_every_night(out_report):
    result = call(out_report)
    pages = [out_report / "reports" / night / "index.html" for night in ("20261103", "20261104")]
    assert result.exit_code == 0
    assert result.stdout.split() == [str(page) for page in pages]
    assert all("remedy." in page.read_text() for page in pages)


def test_a_quiet_command_says_nothing(out_report):
    done = nightstride("report", out_report, "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_makes_the_page_of_one_night(out_report):
    assert call(out_report, "--night", "20261104").exit_code == 0
    assert [path.name for path in (out_report / "reports").iterdir()] == ["20261104"]


@pytest.mark.parametrize("arguments", [("--night", "20200101"), ()])
def test_there_is_no_such_night(tmp_path, out_report, arguments):
    result = call(out_report if arguments else tmp_path / "none", *arguments)
    assert result.exit_code == 2
    assert ("holds nothing of night 20200101" if arguments else "there is no folder of this name") in result.stderr


def test_a_truth_that_cannot_be_read(out_report):
    result = call(out_report, "--truth", out_report / "none.parquet")
    assert result.exit_code == 2
    assert "none.parquet" in result.output
    assert not (out_report / "reports").exists()
