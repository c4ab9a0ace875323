import io
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from rich.console import Console

from flows.inputs.source import Source
from flows.nights.meter import SECONDS, Meter, StreamMeter
from flows.nights.observation import observation
from flows.nights.totals import NightTotals, summarise_run
from flows.pipeline.outcome import Item, Outcome, Plan
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.observe_settings import ObserveSettings
from schemas.settings import Settings
from schemas.summary import Trouble


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def settings(**given):
    return Settings(observe=ObserveSettings(**given))


def test_a_run_that_nobody_looks_at_has_no_meter_and_writes_nothing(console, tmp_path):
    with observation(Settings(), console) as seen:
        assert seen.meter is None
        seen.ended(summarise_run(Plan((), (), 3), NightTotals()), 0, tmp_path)
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
        seen.ended(summarise_run(Plan((), (), 3), NightTotals()), 0, None)
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


TROUBLE = Trouble(uri="a.fits", code="nan", message="a.fits: all pixels are NaN.")


def outcome(visit, status="done", **given):
    item = Item(Source(f"{visit}.fits"), ExposureKey(night="20260101", visit=visit, detector=4), None)
    return Outcome(item, status, trouble=None if status == "done" else TROUBLE, **given)


@pytest.fixture
def meter():
    return Meter()


def value(meter, name, **labels):
    return meter.registry.get_sample_value(f"nightstride_{name}", labels)


def test_figures_are_those_of_the_summary(meter):
    outcomes = [
        outcome(1, windows=1000, detections=3, seconds={"detect": 2.0, "read": 0.5}),
        outcome(2, windows=500, detections=0, seconds={"detect": 1.0}),
        outcome(3, "quarantined"),
        outcome(4, "failed"),
    ]
    plan = Plan(tuple(one.item for one in outcomes), (), 5, quarantined=(TROUBLE,), failed=(TROUBLE, TROUBLE))
    meter.planned(plan)
    for one in outcomes:
        meter.searched(one.windows)
        meter.finished(one)
    summary = summarise_run(plan, NightTotals(outcomes))
    for state, count in summary.exposures.model_dump(exclude={"seen"}).items():
        assert value(meter, "exposures_total", state=state) == count
    assert value(meter, "windows_total") == summary.windows == 1500
    assert value(meter, "detections_total") == summary.detections == 3
    for part, seconds in summary.seconds.items():
        assert value(meter, "worker_seconds_total", part=part) == seconds


def test_what_is_made_of_nights_is_counted(meter):
    for state in ("known", "new", "left_out"):
        assert value(meter, "associated_total", state=state) == 0
    meter.associated(5, 2, 1)
    meter.associated(7, 0, 0)
    assert [value(meter, "associated_total", state=one) for one in ("known", "new", "left_out")] == [12, 2, 1]
    meter.catalogued({"tracklet": 3, "dia_object": 9}, 4, 1)
    meter.catalogued({"tracklet": 5}, 2, 0)
    assert [value(meter, "patches_total", state=one) for one in ("done", "failed")] == [5, 1]
    assert value(meter, "catalogue_rows", dataset="tracklet") == 5
    assert value(meter, "catalogue_rows", dataset="dia_object") == 9


def test_a_lag_is_counted_in_every_bin_above_it(meter):
    closed = datetime.now(UTC) - timedelta(seconds=50)
    meter.finished(outcome(1, exposure_ended=closed))
    meter.finished(outcome(2, "failed", exposure_ended=closed))
    meter.finished(outcome(3))  # of an input that does not say when
    assert value(meter, "lag_seconds_count") == 1
    assert value(meter, "lag_seconds_sum") == pytest.approx(50, abs=5)
    for end in (*SECONDS, inf):
        bin_end = "+Inf" if end == inf else f"{float(end)}"
        assert value(meter, "lag_seconds_bucket", le=bin_end) == (end >= 60)


def test_what_changes_by_itself_is_asked_for(meter):
    left = [4]
    meter.left(lambda: left[0])
    assert value(meter, "exposures_left") == 4
    left[0] = 2
    assert value(meter, "exposures_left") == 2
    assert value(meter, "last_exposure_timestamp_seconds") == 0
    meter.finished(outcome(1))
    assert value(meter, "last_exposure_timestamp_seconds") == pytest.approx(datetime.now(UTC).timestamp(), abs=60)
    meter.night_done(12.5)
    assert value(meter, "night_duration_seconds") == 12.5
    assert meter.registry.get_sample_value("process_resident_memory_bytes") > 0


def test_a_stream_tells_its_queue_and_how_old_it_is(meter):
    stream = StreamMeter(meter, lambda: 3, lambda: 17, lambda: 8.5)
    stream.turned_around(42)
    assert value(meter, "stream_on_the_way") == 3
    assert value(meter, "stream_waiting") == 17
    assert value(meter, "stream_oldest_seconds") == 8.5
    assert value(meter, "turnaround_seconds_bucket", le="45.0") == 1
    assert value(meter, "turnaround_seconds_bucket", le="30.0") == 0


def test_bins_of_durations_are_whole_minutes_hours_and_a_day():
    assert list(SECONDS) == sorted(set(SECONDS))
    assert all(one % 5 == 0 for one in SECONDS)
    assert all(one % 60 == 0 for one in SECONDS if one > 90)
    assert {60, 3600, 86400} <= set(SECONDS)
