from xml.etree import ElementTree

import pytest

from flows.publish.submissions import Submissions
from schemas.ades import ReportedDetection, SubmissionRecord
from tests.support.ades import CONFIG, NIGHT, publish_rows, two_movers
from tests.support.cli import nightstride


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    publish_rows(folder, two_movers()[0])
    return folder


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "night.toml"
    path.write_text(CONFIG)
    return path


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_dry_run_prints_the_report_and_writes_nothing(out, config, options):
    before = files(out)
    done = nightstride("ades", out, "--night", NIGHT, "--format", "xml", "--config", config, *options)
    assert (done.code, files(out)) == (0, before)
    assert len(list(ElementTree.fromstring(done.stdout.strip()).iter("optical"))) == 6
    assert "6 observations of 2 tracklets" in done.stderr
    assert "Dry run: nothing was submitted." in done.stderr


def test_a_dry_run_without_settings_tells_what_is_missing(tmp_path):
    publish_rows(tmp_path / "out", two_movers()[0])
    done = nightstride("ades", tmp_path / "out", "--night", NIGHT, "--format", "psv", "--json", cwd=tmp_path)
    assert done.code == 0
    assert done.stdout.startswith("# version=2022\n")
    missing = ["mpc_code", "submitter", "measurers", "ast_cat", "telescope.design", "telescope.aperture"]
    assert done.summary["missing"] == [f"ades.{name}" for name in [*missing, "telescope.detector"]]
    assert "to submit, set ades.submitter" in done.stderr
    refused = nightstride("ades", tmp_path / "out", "--night", NIGHT, "--submit", "--json", cwd=tmp_path)
    assert (refused.code, refused.summary["error"]["code"]) == (2, "setting")


@pytest.mark.parametrize("option", ["--submit", "--no-dry-run"])
def test_a_submission_is_written_once(tmp_path, config, option):
    out = tmp_path / "out"
    publish_rows(out, two_movers()[0])
    arguments = ("ades", out, "--night", NIGHT, "--config", config, "--json", option)
    first = nightstride(*arguments, "--format", "psv", "--to", tmp_path / "copy.psv")
    assert first.code == 0
    path = out / "reports" / "ades" / NIGHT / "001.psv"
    assert (first.summary["path"], first.summary["observations"]) == (str(path), 6)
    assert path.read_text() == (tmp_path / "copy.psv").read_text()
    assert nightstride("ades", "validate", path).code == 0
    before = files(tmp_path)
    for form in ("psv", "xml"):
        again = nightstride(*arguments, "--format", form, "--to", tmp_path / "again.psv")
        assert (again.code, again.summary["path"], again.summary["submitted_before"]) == (0, None, 6)
        assert "nothing new to report" in again.stderr
    assert files(tmp_path) == before
    listed = nightstride("ades", "list", out, "--json")
    (one,) = listed.summary["submissions"]
    assert (one["night"], one["number"], one["form"], one["tracklets"], one["detections"]) == (NIGHT, 1, "psv", 2, 6)
    assert listed.stderr.splitlines()[1].split()[:3] == [NIGHT, "001", "psv"]
    assert nightstride("ades", "list", out, "--night", "20260101").stdout == "Nothing was submitted.\n"


def test_each_detection_that_was_submitted_alone_counts_as_a_tracklet(tmp_path):
    publish_rows(tmp_path, two_movers()[0])
    place = {"visit": 1, "detector": 2, "ra": 3.0, "values": {"obsTime": "2026-11-03T04:05:06Z"}}
    detections = [
        ReportedDetection(dec=float(n), trkSub=name, **place) for n, name in enumerate(("", "", "nsA", "nsA"))
    ]  # fmt: skip
    record = {"night": NIGHT, "number": 1, "form": "psv", "correction": False, "text": "", "software": "0"}
    record = SubmissionRecord(detections=tuple(detections), submitted_at="2026-11-04T00:00:00+00:00", **record)
    Submissions(tmp_path).add(record, "psv")
    (one,) = nightstride("ades", "list", tmp_path, "--json").summary["submissions"]
    assert (one["tracklets"], one["detections"]) == (3, 4)


def test_a_draft_goes_to_a_file_on_request(out, config, tmp_path):
    to = tmp_path / "one.txt"
    done = nightstride("ades", out, "--night", NIGHT, "--format", "obs80", "--config", config, "--to", to, "--json")
    assert (done.code, done.summary["path"], len(done.stdout.splitlines())) == (0, str(to), 1)
    assert [len(line) for line in to.read_text().splitlines()[-6:]] == [80] * 6


def test_out_is_the_output_folder_as_in_other_commands(out, config):
    said = nightstride("ades", out, "--night", NIGHT, "--config", config).stdout
    for words in (("ades", "report", "--out", out), ("ades", "-o", out), ("ades", "--night", NIGHT, f"--out={out}")):
        more = () if "--night" in words else ("--night", NIGHT)
        again = nightstride(*words, *more, "--config", config)
        assert (again.code, len(again.stdout.splitlines())) == (0, len(said.splitlines())), again.stderr


def test_validate_names_the_line(out, config, tmp_path):
    text = nightstride("ades", out, "--night", NIGHT, "--config", config).stdout
    (tmp_path / "good.psv").write_text(text)
    (tmp_path / "bad.psv").write_text(text.replace("|I41|", "|W84|", 1))
    number = next(n for n, line in enumerate((tmp_path / "bad.psv").read_text().splitlines(), 1) if "|W84|" in line)
    done = nightstride("ades", "validate", tmp_path / "good.psv", tmp_path / "bad.psv", "--json")
    assert done.code == 1
    (one,) = done.summary["problems"]
    assert (one["file"], one["line"]) == (str(tmp_path / "bad.psv"), number)
    assert f"bad.psv:{number}: stn is 'W84'" in done.stderr
    assert nightstride("ades", "validate", tmp_path / "good.psv").stdout == "1 report: valid.\n"
    assert nightstride("ades", "validate", tmp_path / "none.psv").code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--night", "20260101"), "no_night"), (("--night", NIGHT, "--config", "none.toml"), "no_such_file")],
)
def test_what_cannot_be_reported_is_refused(out, arguments, code):
    done = nightstride("ades", out, *arguments, "--json")
    assert (done.code, done.summary["error"]["code"]) == (2, code)


@pytest.mark.parametrize("night", ["20260101", "foo", "../../20260101"])
def test_a_refused_submission_leaves_nothing(out, config, tmp_path, night):
    before = sorted(out.rglob("*"))
    done = nightstride("ades", out, "--night", night, "--config", config, "--submit", "--json")
    assert (done.code, done.summary["error"]["code"]) == (2, "no_night")
    assert sorted(out.rglob("*")) == before
    done = nightstride("ades", tmp_path / "none", "--night", night, "--config", config, "--submit", "--json")
    assert done.code == 2
    assert not (tmp_path / "none").exists()


def test_settings_that_ades_does_not_know_are_refused(out, tmp_path):
    for line in ('ast_cat = "Gaia9"', 'submitter = "a|b"', 'bands = { r = "Zr" }', "[ades.telescope]\naperture = 0"):
        (tmp_path / "bad.toml").write_text(f"[ades]\n{line}\n")
        done = nightstride("ades", out, "--night", NIGHT, "--config", tmp_path / "bad.toml", "--json")
        assert (done.code, done.summary["error"]["code"]) == (2, "setting")
        assert done.summary["error"]["where"].startswith("ades.")


def test_help_has_both_commands():
    done = nightstride("ades", "--help")
    assert done.code == 0
    assert all(name in done.stdout for name in ("report", "validate"))
    assert "--corrections" in nightstride("ades", "report", "--help").stdout
