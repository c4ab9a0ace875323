"""Sums over the exposures of a night; those of a bucket: test_ledger_bucket.py."""

import pytest

from flows.storage.ledger import Ledger
from flows.storage.night_sums import drop_provenance, keep_sums, lag_of, night_sums, published_digest, settle, state_of
from schemas.ledger import NightRecord, Previous, ProvenanceRecord
from tests.flows.storage.test_ledger import record
from tests.support.ledger import overwrite_document

NIGHT = "20260101"
WHEN = "2026-01-02T03:04:05+00:00"
FAILED = {"status": "failed", "reason": "no_wcs", "detections": 0}


def night_record(**other):
    return NightRecord(night=NIGHT, exposures=1, software="1", finished_at=WHEN, **other)


def provenance(ledger, software):
    return ledger.put_provenance(ProvenanceRecord(settings={}, models={}, stages={}, software=software, code="c"))


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [("done", None, "done"), ("done", "older code", "outdated"), ("failed", "x", "failed"), ("failed", None, "failed"),
     ("quarantined", "x", "quarantined")],
)  # fmt: skip
def test_states(status, reason, state):
    assert state_of(record(status=status, reason=reason)) == state


@pytest.mark.parametrize(
    ("shutter", "finished", "lag"),
    [
        ("2026-01-02T03:04:00+00:00", "2026-01-02T03:04:05+00:00", 5), (None, "2026-01-02T03:04:05+00:00", None),
        ("2026-01-02T03:04:00", "2026-01-02T03:04:05+00:00", 5), ("2026-01-02T03:04:00", "2026-01-02T03:04:06", 6),
        ("2026-01-02T03:04:00+00:00", "2026-01-02T04:04:05+01:00", 5),
    ],
)  # fmt: skip
def test_lags(shutter, finished, lag):
    """Times without a zone are UTC."""
    assert lag_of(record(shutter_closed_at=shutter, finished_at=finished)) == lag


def test_what_is_published_is_told_by_exposures_that_are_done_and_when():
    one, other, failed = record(1), record(2), record(3, **FAILED)
    assert published_digest([one, other]) == published_digest([other, failed, one])
    later = record(2, finished_at="2026-01-02T03:04:06+00:00")
    digests = {published_digest(some) for some in ([], [one], [one, other], [one, later], [one, record(2, 4)])}
    assert len(digests) == 5


def filled(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(record(1, provenance="a", shutter_closed_at="2026-01-02T03:04:00+00:00"))
    ledger.put(record(2, provenance="b", detections=4))
    ledger.put(record(3, reason="older code"))
    ledger.put(record(4, provenance="c", **FAILED, shutter_closed_at="2026-01-02T03:00:00+00:00"))
    return ledger


def test_sums_are_those_of_the_exposures_that_are_done(tmp_path):
    ledger = filled(tmp_path)
    sums = night_sums(ledger, NIGHT)
    assert sums.states == {"done": 2, "outdated": 1, "failed": 1}
    assert (sums.detections, sums.searched) == (10, {"a": 1, "b": 1, "": 1})
    assert (sums.lag_s.n, sums.lag_s.p50) == (1, 5)
    assert sums.published == published_digest(ledger.records(NIGHT))
    assert (sums.stamp, sums.referred) == (ledger.stamp(NIGHT), None)
    assert night_sums(ledger, "20260102").states == {}


def test_sums_are_kept_while_the_records_are_as_they_were(tmp_path, monkeypatch):
    ledger = filled(tmp_path)
    assert ledger.sums(NIGHT) is None
    keep_sums(ledger, NIGHT)
    kept = ledger.sums(NIGHT)
    assert kept == night_sums(ledger, NIGHT)
    assert kept.referred == ("a", "b", "c")
    with monkeypatch.context() as patch:
        for name in ("briefs", "records", "put_sums"):  # nothing is read and nothing written
            patch.delattr(Ledger, name)
        keep_sums(ledger, NIGHT)
        assert night_sums(ledger, NIGHT) == kept
    ledger.put(record(1, provenance="a", detections=9))
    assert night_sums(ledger, NIGHT).detections == 16
    assert ledger.sums(NIGHT) == kept
    settle(ledger, [NIGHT])
    assert ledger.sums(NIGHT).detections == 16


def test_sums_without_what_they_refer_to_get_it(tmp_path):
    ledger = filled(tmp_path)
    ledger.put_sums(NIGHT, night_sums(ledger, NIGHT))
    keep_sums(ledger, NIGHT)
    assert ledger.sums(NIGHT).referred == ("a", "b", "c")


def test_a_night_of_which_nothing_tells_whether_it_changes_has_no_sums(tmp_path, monkeypatch):
    ledger = filled(tmp_path)
    monkeypatch.setattr(Ledger, "stamp", lambda *_: "")
    keep_sums(ledger, NIGHT)
    assert ledger.sums(NIGHT) is None
    ledger.put_sums(NIGHT, night_sums(ledger, NIGHT).model_copy(update={"detections": 99, "referred": ()}))
    assert night_sums(ledger, NIGHT).detections == 10


@pytest.mark.parametrize("kept", [False, True])
def test_provenance_that_anything_refers_to_is_kept(tmp_path, kept):
    ledger = Ledger(tmp_path)
    names = {name: provenance(ledger, name) for name in ("now", "before", "night", "nothing", "other night")}
    before = Previous(digest="d", provenance=names["before"], files={}, detections=0, finished_at=WHEN)
    ledger.put(record(1, provenance=names["now"], previous=(before,)))
    ledger.put(record(1, night="20260102", provenance=names["other night"]))
    ledger.put_night(night_record(provenance=names["night"]))
    if kept:
        settle(ledger, [NIGHT, "20260102"])
    drop_provenance(ledger)
    assert ledger.provenances() == sorted(digest for name, digest in names.items() if name != "nothing")
    ledger.put(record(1, provenance=names["now"]))
    drop_provenance(ledger)  # sums that do not hold any more tell nothing
    assert ledger.provenances() == sorted((names["now"], names["night"], names["other night"]))
    ledger.remove(record(1).key)
    drop_provenance(ledger)
    assert ledger.provenances() == sorted((names["night"], names["other night"]))


def test_sums_of_a_night_of_which_nothing_tells_whether_it_changes_keep_no_provenance(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    own = provenance(ledger, "own")
    ledger.put(record(1, provenance=own))
    monkeypatch.setattr(Ledger, "stamp", lambda *_: "")
    ledger.put_sums(NIGHT, night_sums(ledger, NIGHT).model_copy(update={"referred": ()}))
    drop_provenance(ledger)
    assert ledger.provenances() == [own]


def test_nothing_is_dropped_while_the_record_of_a_night_cannot_be_read(tmp_path):
    ledger = Ledger(tmp_path)
    nothing = provenance(ledger, "nothing")
    ledger.put_night(night_record())
    overwrite_document(tmp_path, "night", NIGHT, b"{")
    drop_provenance(ledger)
    assert ledger.provenances() == [nothing]
    ledger.remove_night(NIGHT)
    drop_provenance(ledger)
    assert ledger.provenances() == []
