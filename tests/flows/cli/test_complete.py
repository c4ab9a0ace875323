"""Completion as a shell asks for it."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from flows.cli.app import app
from flows.cli.complete import ARRAYS, DETECTORS, LOG_FORMATS, MOST, PRESETS
from flows.pipeline.graph import declared_arrays
from flows.pipeline.weights import _shipped
from flows.results.classify import TASKS
from flows.simulation.presets import PRESETS as CAMERAS
from schemas.observe_settings import ObserveSettings
from tests.flows.results.page.conftest import NIGHT, make_info, make_rows, publish


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("complete") / "out"
    for night, visit in (("20261102", 100), (NIGHT, 101)):
        info = make_info((60, 70), visit=visit, night=night)
        publish(folder, info, make_rows(info, 30, visit), visit)
    return folder


def offered(monkeypatch, line):
    """Return what bash is offered for the last word of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_NIGHTSTRIDE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as ended:
        app(prog_name="nightstride")
    assert ended.value.code == 0
    return said.getvalue().split()


def test_presets_are_those_that_there_are(monkeypatch):
    assert set(PRESETS) == {*CAMERAS, "star-galaxy", "cluster"}
    assert offered(monkeypatch, "nightstride simulate --preset ") == list(PRESETS)
    assert offered(monkeypatch, "nightstride simulate --preset ru") == ["rubin"]


@pytest.mark.parametrize("command", ["status OUT --night", "report -o OUT --night", "ades report OUT --night"])
def test_nights_are_those_of_the_folder_on_the_line_the_latest_first(monkeypatch, out, command):
    line = f"nightstride {command.replace('OUT', str(out))} "
    assert offered(monkeypatch, line) == [NIGHT, "20261102"]
    assert offered(monkeypatch, f"{line}20261102") == ["20261102"]


def test_datasets_are_those_that_are_published(monkeypatch, out):
    published = sorted(path.name for path in (out / "catalogs").iterdir())
    assert "dia_source" in published
    assert offered(monkeypatch, f"nightstride export {out} --dataset ") == published
    assert offered(monkeypatch, f"nightstride export {out} --dataset dia_s") == ["dia_source"]


def test_arrays_are_not_offered_since_export_refuses_them(monkeypatch, tmp_path):
    assert set(ARRAYS) == declared_arrays()
    for name in ("cutouts", "dia_source"):
        (tmp_path / "catalogs" / name / "night=20261102").mkdir(parents=True)
    assert offered(monkeypatch, f"nightstride export {tmp_path} --dataset ") == ["dia_source"]


def test_a_margin_is_not_offered_since_no_command_takes_it(monkeypatch, tmp_path):
    for name in ("dia_object", "dia_object_margin"):
        (tmp_path / "catalogs" / name / "night=20261102").mkdir(parents=True)
    assert offered(monkeypatch, f"nightstride export {tmp_path} --dataset ") == ["dia_object"]


@pytest.mark.parametrize("command", ["release OUT --night", "export OUT --night", "verify OUT --night"])
def test_the_last_of_several_nights_is_completed_too(monkeypatch, out, command):
    line = f"nightstride {command.replace('OUT', str(out))} "
    assert offered(monkeypatch, line) == [NIGHT, "20261102"]
    assert offered(monkeypatch, f"{line}20261102..") == [f"20261102..{NIGHT}", "20261102..20261102"]


def test_kinds_of_pictures_are_those_that_there_are(monkeypatch):
    assert sorted(offered(monkeypatch, "nightstride classify ")) == sorted(TASKS)
    assert offered(monkeypatch, "nightstride classify mo") == ["morphology"]


def test_forms_of_the_log_and_detectors_are_those_that_there_are(monkeypatch):
    for name in LOG_FORMATS:
        assert ObserveSettings(log_format=name).log_format == name
    assert offered(monkeypatch, "nightstride run --log-format ") == list(LOG_FORMATS)
    assert offered(monkeypatch, "nightstride train detect --model b") == ["basic_cnn"]
    assert sorted(DETECTORS) == sorted(path.stem for path in (_shipped() / "detect").glob("*.json"))


def test_ids_are_those_of_detections_and_begin_as_typed(monkeypatch, out):
    known = {str((visit << 21) | (3 << 12) | rank) for visit in (100, 101) for rank in range(30)}
    found = offered(monkeypatch, f"nightstride explain {out} ")
    assert len(found) == MOST
    assert set(found) < known
    for begin in (min(known)[:6], max(known)):
        expected = {one for one in known if one.startswith(begin)}
        assert set(offered(monkeypatch, f"nightstride explain {out} {begin}")) == set(sorted(expected)[:MOST])
    assert offered(monkeypatch, f"nightstride explain {out} x") == []


@pytest.mark.parametrize("out", ["/nowhere/at/all", "s3://bucket/out", "''"])
@pytest.mark.parametrize("rest", ["explain OUT ", "status OUT --night ", "export OUT --dataset ", "status OUT "])
def test_nothing_is_offered_where_there_is_nothing(monkeypatch, out, rest):
    assert offered(monkeypatch, f"nightstride {rest.replace('OUT', out)}") == []


def test_a_process_completes_without_a_word_of_its_own(out):
    code = "from flows.cli import main; main()"
    line = f"nightstride status {out} --night "
    variables = {"_NIGHTSTRIDE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "4"}
    environment = {**os.environ, **variables, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", f"import sys; sys.argv = ['nightstride']; {code}"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (run.stdout.split(), run.stderr) == ([NIGHT, "20261102"], "")
