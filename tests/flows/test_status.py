import json

import pytest

from flows.adapters.lease import lease
from flows.adapters.ledger import Ledger
from flows.adapters.quarantine import Quarantine
from flows.provenance import provenance_of
from flows.status import UNKNOWN, read_status
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, WatchRecord
from schemas.settings import Settings
from schemas.summary import ExposureCounts
from stages import PIPELINE

NIGHT = "20260101"


def record(visit, **given):
    known = {
        "night": NIGHT, "visit": visit, "detector": 0, "source_uri": f"{visit}.fits", "source_sha256": "s",
        "digest": "d", "detections": 3, "software": "0", "shutter_closed_at": "2026-01-02T03:00:00.000+00:00",
        "finished_at": f"2026-01-02T03:00:{10 * visit}+00:00",
    }  # fmt: skip
    return ExposureRecord(**(known | given))


@pytest.fixture
def out(tmp_path):
    ledger = Ledger(tmp_path)
    made = ledger.put_provenance(provenance_of(PIPELINE, Settings()))
    ledger.put(record(1, provenance=made))
    ledger.put(record(2, provenance=made))
    ledger.put(record(3, reason="disk_full: no space"))
    ledger.put(record(4, status="failed", reason="deadline: late", detections=0))
    ledger.put(record(5, status="quarantined", reason="flood: too many", detections=0))
    ledger.put(record(1, night="20260103", detector=1, shutter_closed_at=None))
    bad = BadInput("not_fits", "odd.fits", "is no FITS file.", "leave it out.")
    Quarantine(tmp_path).put(bad, "odd.fits")
    # As a run leaves it: a record in the quarantine and one in the ledger.
    key = ExposureKey(night=NIGHT, visit=5, detector=0)
    Quarantine(tmp_path).put(BadInput("flood", "5.fits", "too many.", "look."), "5.fits", key)
    return tmp_path


def test_exposures_are_counted_by_state_and_reason(out):
    first, second, unknown = read_status(out).nights
    assert first.night == NIGHT
    assert first.exposures == {"done": 2, "outdated": 1, "quarantined": 1, "failed": 1}
    assert first.detections == 9
    assert [(one.uri, one.code, one.message) for one in first.troubles] == [
        ("3.fits", "disk_full", "no space"),
        ("4.fits", "deadline", "late"),
        ("5.fits", "flood", "too many"),
    ]
    assert (second.night, second.exposures, second.troubles) == ("20260103", {"done": 1}, ())
    assert (unknown.night, unknown.exposures, unknown.troubles[0].code) == (UNKNOWN, {"quarantined": 1}, "not_fits")


def test_lag_is_from_the_end_of_the_exposure_to_its_record(out):
    first, second, _ = read_status(out).nights
    assert (first.lag_s.n, first.lag_s.p50, first.lag_s.p99) == (3, 20.0, 30.0)
    assert second.lag_s is None


def test_models_are_named_with_their_exposures(out):
    models = read_status(out).nights[0].models
    assert models["detect: streak_net 1"] == 2
    assert models["not recorded"] == 1


def test_one_night_alone(out):
    assert [one.night for one in read_status(out, "20260103").nights] == ["20260103"]
    with pytest.raises(Misconfigured, match=r"nothing of night 2026-01-03\. To fix, write '20260103'; known are"):
        read_status(out, "2026-01-03")


def test_what_is_no_output_folder_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="no output folder"):
        read_status(tmp_path / "none")


def test_who_holds_it_and_what_watches_is_told(out):
    counts = ExposureCounts(seen=2, done=2, skipped=0, quarantined=0, failed=0)
    watch = WatchRecord(
        state="running", source="in", host="h", pid=1, since="then", updated_at="now", on_the_way=2, waiting=9,
        exposures=counts,
    )  # fmt: skip
    Ledger(out).put_watch(watch)
    assert read_status(out).holder is None
    with lease(out) as holder:
        status = read_status(out)
    assert (status.holder, status.watch) == (holder, watch)
    values = json.loads(json.dumps(status.values()))
    assert values["watch"]["waiting"] == 9
    assert values["holder"]["pid"] == holder.pid
    assert values["nights"][0]["lag_s"]["p50"] == 20.0
    assert values["nights"][0]["troubles"][0]["code"] == "disk_full"
