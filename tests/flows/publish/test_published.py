import pyarrow as pa
import pytest
from astropy.time import Time

from flows.publish import published
from flows.publish.publish import PublishTotals, alert_packets
from flows.publish.published import NO_NIGHT, PublishedExposures
from flows.storage.ledger import Ledger
from schemas.dia_source import DetectionFlag
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.settings import Settings
from tests.support.alert_night import NIGHT, info_of, places, put, rows_of

LATER = "20260102"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two nights; of the first one an exposure failed, and one has no detections published."""
    folder = tmp_path_factory.mktemp("published")
    x, y = places(4, (280, 300))
    for n, detector in ((0, 0), (0, 1), (1, 0), (2, 0), (3, 0)):
        info = info_of(n, detector)
        change = {2: {"status": "failed", "reason": "broken"}, 3: {"datasets": {}, "detections": 0}}.get(n, {})
        put(folder, info, rows_of(info, x, y), **change)
    info = info_of(9, night=LATER)
    put(folder, info, rows_of(info, x[:1], y[:1]))
    return folder


def names(records):
    return [(one.night, one.visit, one.detector) for one in records]


def test_exposures_are_those_whose_detections_are_published(out):
    found = PublishedExposures(out)
    assert names(found.exposures(NIGHT)) == [(NIGHT, 100, 0), (NIGHT, 100, 1), (NIGHT, 101, 0)]
    for visit, expected in ((100, 2), (101, 1), (102, 0), (103, 0), (999, 0)):
        of_visit = [one for one in found.exposures(NIGHT) if one.visit == visit]
        assert list(found.exposures(NIGHT, visit)) == of_visit
        assert len(of_visit) == expected
    assert names(found.exposures(LATER)) == [(LATER, 109, 0)]
    assert names(found.exposures("20250101")) == []


def test_nights_are_all_or_those_that_are_asked_for(out, tmp_path):
    found = PublishedExposures(out)
    assert (found.nights(), found.nights(NightRange(LATER))) == ((NIGHT, LATER), (LATER,))
    with pytest.raises(Misconfigured, match=f"nothing of night 20250101.*{NIGHT}, {LATER}") as caught:
        found.nights(NightRange.of("20250101"))
    assert caught.value.code == NO_NIGHT
    for nights in (EVERY_NIGHT, NightRange.of(NIGHT)):
        with pytest.raises(Misconfigured, match=r"no night.*a run that has ended"):
            PublishedExposures(tmp_path).nights(nights)


def test_a_record_and_its_detections_are_kept_in_memory(out):
    found, key = PublishedExposures(out), ExposureKey(night=NIGHT, visit=100, detector=1)
    assert found.record(key) == Ledger(out).get(key)
    assert found.record(key) is found.record(key)
    assert found.record(key.model_copy(update={"visit": 102})) is None
    rows = found.detections(key)
    assert (len(rows), set(rows["detector"].to_pylist())) == (4, {1})
    assert found.detections(key) is rows


def test_the_time_of_processing_is_that_of_the_ledger(out):
    found, key = PublishedExposures(out), ExposureKey(night=NIGHT, visit=101, detector=0)
    record = found.record(key)
    expected = Time("2026-01-02T00:41:00", scale="utc").tai.mjd
    assert record.finished_at == "2026-01-02T00:41:00+00:00"
    assert found.processed(record) == pytest.approx(expected, abs=1e-9)
    other = record.model_copy(update={"finished_at": "2026-01-02T00:41:00Z"})
    assert found.processed(other) == found.processed(record)


def test_each_detection_that_is_left_out_is_counted_once(out):
    rows = PublishedExposures(out).detections(ExposureKey(night=NIGHT, visit=100, detector=1))
    place, flags = rows.schema.get_field_index("ra"), rows.schema.get_field_index("flags")
    rows = rows.set_column(place, rows.schema.field(place), pa.array([None, None, None, 10.0], pa.float64()))
    timeless = pa.array([0, 0, DetectionFlag.NO_TIME, DetectionFlag.NO_TIME], rows.schema.field(flags).type)
    known, lacking = published.with_place_and_time(rows.set_column(flags, rows.schema.field(flags), timeless))
    assert (len(known), dict(lacking)) == (0, {"no_position": 3, "no_time": 1})


def test_a_visit_of_two_nights_is_sent_of_the_first_alone(out):
    """Their alerts have the same ids, and one file."""
    again = info_of(1, night=LATER)
    put(out, again, rows_of(again, *places(4, (280, 300))))
    totals = PublishTotals()
    sent = list(alert_packets(out, Settings(association={"store": "none"}), "11.1", totals))
    assert {(one.night, one.visit) for one in sent} == {(NIGHT, 100), (NIGHT, 101), (LATER, 109)}
    assert "is in nights" in str(totals.failed[0])
    of_later = alert_packets(out, Settings(association={"store": "none"}), "11.1", totals, nights=NightRange.of(LATER))
    assert {one.visit for one in of_later} == {101, 109}


def test_failures_are_named_once_each_and_not_without_end(monkeypatch):
    monkeypatch.setattr(published, "MOST_NAMED", 3)
    failed = []
    for n in (1, 2, 1, 3, 4, 2):
        published.name_failure(failed, BadInput("no_form", f"alert {n}", "is none.", "see to it."))
    assert [one.where for one in failed] == ["alert 1", "alert 2", "alert 3"]
