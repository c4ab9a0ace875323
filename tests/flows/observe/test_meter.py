from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from flows.adapters.sources import Source
from flows.night_tally import NightTally
from flows.observe.meter import SECONDS, Meter, StreamMeter
from flows.outcome import Outcome
from flows.plan import Item, Plan
from flows.tally import summarise
from schemas.exposure import ExposureKey
from schemas.summary import Trouble

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
    summary = summarise(plan, NightTally(outcomes))
    for state, count in summary.exposures.model_dump(exclude={"seen"}).items():
        assert value(meter, "exposures_total", state=state) == count
    assert value(meter, "windows_total") == summary.windows == 1500
    assert value(meter, "detections_total") == summary.detections == 3
    for part, seconds in summary.seconds.items():
        assert value(meter, "worker_seconds_total", part=part) == seconds


def test_a_lag_is_counted_in_every_bin_above_it(meter):
    closed = datetime.now(UTC) - timedelta(seconds=50)
    meter.finished(outcome(1, shutter_closed=closed))
    meter.finished(outcome(2, "failed", shutter_closed=closed))
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
