import errno
import json
import os

import pytest
import typer

from flows.cli.options import (
    NoNight,
    cluster_overrides,
    conclude,
    night_range,
    observe_overrides,
    output_folder,
    refusals,
)
from flows.runtime.settings import load_settings
from flows.storage.bucket_path import BucketPath
from schemas.errors import BadInput, Misconfigured, NoWork, Retryable
from schemas.night_range import NightRange
from schemas.summary import RunSummary, Trouble
from tests.support.cli import nightstride
from tests.support.log import lines_of


def test_a_scheduler_on_the_command_line_goes_before_the_kind_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nightstride.toml").write_text('[cluster]\nkind = "slurm"\n[execution]\nworkers = 3\n')
    assert load_settings(None, cluster_overrides(None, None)).cluster.kind == "slurm"
    settings = load_settings(None, cluster_overrides("tcp://there:8786", 5))
    assert (settings.cluster.kind, settings.cluster.address) == ("address", "tcp://there:8786")
    assert settings.execution.workers == 5


def test_options_go_before_the_environment_and_what_is_not_given_does_not(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_OBSERVE__METRICS", "1111")
    monkeypatch.setenv("NIGHTSTRIDE_OBSERVE__LOG_FORMAT", "json")
    found = load_settings(overrides=observe_overrides("2222", None, None)).observe
    assert (found.address, found.metrics_file, found.log_format) == (("127.0.0.1", 2222), None, "json")


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("20260101", ("20260101", "20260101")), ("20260101..20260103", ("20260101", "20260103")),
        ("20260101..", ("20260101", None)), ("..20260103", (None, "20260103")),
    ],
)  # fmt: skip
def test_a_range_of_nights(text, ends):
    assert night_range(text) == NightRange(*ends)


@pytest.mark.parametrize("text", ["", "..", "2026", "20260101..x", "20260102..20260101", "20260101...20260102"])
def test_what_is_no_range_of_nights(text):
    with pytest.raises(NoNight):
        night_range(text)


def test_local_and_in_a_bucket(tmp_path):
    assert output_folder(str(tmp_path)) == tmp_path
    assert output_folder("s3://bucket/out") == BucketPath("s3://bucket/out")


def test_a_folder_whose_name_is_not_text_is_refused(tmp_path, monkeypatch):
    name = os.fsdecode(b"out\xff")
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        output_folder(name)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        output_folder("out")


@pytest.mark.parametrize("target", ["loop", "gone"])
def test_a_link_that_leads_to_itself_is_refused(tmp_path, target):
    link = tmp_path / "loop"
    link.symlink_to(target)
    if target == "gone":  # which a run makes
        assert output_folder(str(link)) == link
        return
    with pytest.raises(typer.BadParameter, match="a link that leads to itself"):
        output_folder(str(link))


def test_a_bucket_needs_no_settings_that_the_command_line_completes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("CA", "CERT", "KEY"):
        monkeypatch.setenv(f"NIGHTSTRIDE_CLUSTER__TLS_{kind}", f"{kind}.pem")
    with pytest.raises(Misconfigured, match="need kind = 'address'"):
        load_settings()
    assert output_folder("s3://bucket/out") == BucketPath("s3://bucket/out")
    assert load_settings(None, cluster_overrides("tls://there:8786", None)).cluster.address == "tls://there:8786"


def test_settings_of_the_bucket_that_break_rules_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIGHTSTRIDE_STORE__TIMEOUT_S", "-1")
    with pytest.raises(typer.BadParameter, match=r"store\.timeout_s.*got '-1'"):
        output_folder("s3://bucket/out")
    (tmp_path / "nightstride.toml").write_text("[store]\nno_such = 1\n")
    monkeypatch.delenv("NIGHTSTRIDE_STORE__TIMEOUT_S")
    with pytest.raises(typer.BadParameter, match=r"store\.no_such"):
        output_folder("s3://bucket/out")


def test_no_place_for_results_is_bad_usage():
    with pytest.raises(typer.BadParameter, match="not a place for results"):
        output_folder("gs://bucket/out")


def ended_with(error, as_json, capsys):
    with pytest.raises(typer.Exit) as ended, refusals(as_json):
        raise error
    shown = capsys.readouterr()
    return ended.value.exit_code, shown.out, shown.err


@pytest.mark.parametrize(("kind", "exit_code"), [(Misconfigured, 2), (BadInput, 2), (NoWork, 2), (Retryable, 1)])
def test_what_may_succeed_later_is_1_anything_else_2(kind, exit_code, capsys):
    code, out, err = ended_with(kind("store", "s3://b", "is down.", "wait."), False, capsys)
    assert (code, out, err) == (exit_code, "", "nightstride: s3://b: is down. To fix, wait.\n")


def test_machines_get_an_object_with_every_part(capsys):
    _, out, err = ended_with(Misconfigured("held", "OUT", "is held.", "wait."), True, capsys)
    assert json.loads(out) == {"error": {"code": "held", "where": "OUT", "problem": "is held.", "remedy": "wait."}}
    assert err.startswith("nightstride: OUT: is held.")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EISDIR])
def test_a_path_that_cannot_be_looked_at_is_named(number, capsys):
    code, out, err = ended_with(OSError(number, "words", "/secret/out"), True, capsys)
    assert (code, json.loads(out)["error"]["code"]) == (2, "not_readable")
    assert err.startswith(f"nightstride: /secret/out: cannot be looked at: {os.strerror(number)}. To fix, ")


@pytest.mark.parametrize("command", ["status", "verify", "link", "associate"])
def test_a_path_that_is_too_long_is_no_defect(tmp_path, command):
    found = nightstride(command, tmp_path / ("x" * 300))
    assert found.code == 2
    assert "File name too long" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "words"), OSError(errno.EIO, "words", "/a"), OSError()]
)
def test_other_failures_of_the_system_pass(error):
    with pytest.raises(OSError) as caught, refusals():  # noqa: PT011
        raise error
    assert caught.value is error


def test_what_is_no_error_of_ours_passes():
    with pytest.raises(ZeroDivisionError), refusals():
        1 / 0  # noqa: B018


def test_no_password_is_said(capsys):
    _, _, err = ended_with(
        Misconfigured("store", "store.endpoint", "http://me:hunter22@h is wrong.", "."), False, capsys
    )
    assert "hunter22" not in err


def test_where_logs_are_json_it_is_one_more_line():
    (line,) = lines_of(
        "from flows.runtime.log import log_as_json\n"
        "from schemas.errors import Misconfigured\n"
        "from flows.cli.options import complain\n"
        "log_as_json()\n"
        "complain(Misconfigured('held', 'OUT', 'is held.', 'wait.'))\n"
    )
    assert (line["level"], line["code"], line["event"]) == ("error", "held", "OUT: is held. To fix, wait.")


def concluded(as_json, failed):
    count = {"seen": 2, "done": 2 - failed, "skipped": 0, "quarantined": 0, "failed": failed}
    troubles = tuple(Trouble(uri=f"{n}.fits", code="deadline", message="late") for n in range(failed))
    summary = RunSummary(
        exposures=count, windows=7, unscored=0, detections=3, not_run={}, seconds={}, report=None, failed=troubles
    )
    with pytest.raises(typer.Exit) as ended:
        conclude(summary, as_json)
    return summary, ended.value.exit_code


@pytest.mark.parametrize(("failed", "exit_code"), [(0, 0), (2, 1)])
def test_the_summary_decides_the_exit_code(failed, exit_code):
    assert concluded(False, failed)[1] == exit_code


def test_machines_get_the_summary_alone_on_standard_output(capsys):
    summary, _ = concluded(True, 1)
    shown = capsys.readouterr()
    assert RunSummary.model_validate_json(shown.out) == summary
    assert "failed: late" in shown.err


def test_people_get_the_table_on_standard_output(capsys):
    concluded(False, 1)
    shown = capsys.readouterr()
    assert "failed: late" in shown.out
    assert shown.err == ""


def test_json_logs_end_with_the_summary_and_nothing_else_is_on_standard_error():
    (line,) = lines_of(
        "from flows.runtime.log import log_as_json\n"
        "log_as_json()\n"
        "from tests.flows.cli.test_options import concluded\n"
        "concluded(True, 1)\n"
    )
    assert (line["event"], line["level"], line["exit_code"]) == ("run ended", "warning", 1)
    assert line["summary"]["exposures"]["failed"] == 1
