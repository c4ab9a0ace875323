import io

import pytest
from rich.console import Console

from flows.night_tally import NightTally
from flows.observe.observation import observation
from flows.plan import Plan
from flows.tally import summarise
from schemas.errors import BadInput, Misconfigured
from schemas.observe_settings import ObserveSettings
from schemas.settings import Settings


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def settings(**given):
    return Settings(observe=ObserveSettings(**given))


def test_a_run_that_nobody_looks_at_has_no_meter_and_writes_nothing(console, tmp_path):
    with observation(Settings(), console) as seen:
        assert seen.meter is None
        seen.ended(summarise(Plan((), (), 3), NightTally()), 0, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert console.file.getvalue() == ""


def test_an_error_is_in_the_file_with_the_exit_code(console, tmp_path):
    path = tmp_path / "a.prom"
    with pytest.raises(BadInput), observation(settings(metrics_file=path), console):
        raise BadInput("nan", "a.fits", "is empty.", "send another.")
    assert "nightstride_run_exit_code 2.0" in path.read_text()


def test_a_file_without_a_folder_stops_it(console, tmp_path):
    with (
        pytest.raises(Misconfigured, match="no folder"),
        observation(settings(metrics_file=tmp_path / "no" / "a.prom"), console),
    ):
        pytest.fail("begun all the same")


def test_a_file_that_cannot_be_written_is_said_and_no_more(console, tmp_path):
    path = tmp_path / "there" / "a.prom"
    path.parent.mkdir()
    with observation(settings(metrics_file=path), console) as seen:
        path.parent.rmdir()
        seen.ended(summarise(Plan((), (), 3), NightTally()), 0, None)
    assert f"no figures in {path}" in console.file.getvalue()


def test_an_address_brings_a_meter_that_knows_the_models(console):
    with observation(settings(metrics="0"), console) as seen:
        families = {family.name for family in seen.meter.registry.collect()}
    assert {"nightstride_model_info", "nightstride_build_info", "nightstride_windows"} <= families


def test_traces_that_cannot_be_sent_are_said(console, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with observation(Settings(), console):
        pass
    assert "no traces: OTLP is sent by http/protobuf only" in console.file.getvalue()
