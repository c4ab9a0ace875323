from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from flows.inputs.source import Source
from flows.nights.totals import NightTotals, combined, summarise_run
from flows.pipeline.outcome import Item, Outcome, Plan
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.summary import CauseCount, Trouble

TROUBLE = Trouble(uri="x", code="bad", message="bad")


def item(number):
    return Item(Source(f"{number}.fits"), ExposureKey(night="20260101", visit=number, detector=0), None)


def outcome(number, status):
    trouble = None if status == "done" else TROUBLE
    done = status == "done"
    return Outcome(item(number), status, 10 * done, 2 * done, 3 * done, {"detect": 1.5}, {"vet": "no x"}, trouble)


@given(
    st.lists(st.sampled_from(["done", "quarantined", "failed"]), max_size=9),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_the_counts_reconcile_whatever_happens(statuses, skipped, unusable):
    outcomes = [outcome(number, status) for number, status in enumerate(statuses)]
    plan = Plan(tuple(one.item for one in outcomes), (), skipped, (TROUBLE,) * unusable)
    summary = summarise_run(plan, NightTotals(outcomes))
    count = Counter(statuses)
    assert summary.exposures.seen == len(statuses) + skipped + unusable
    assert summary.exposures.done == count["done"]
    assert summary.exposures.quarantined == len(summary.quarantined) == count["quarantined"] + unusable
    assert summary.exposures.failed == len(summary.failed) == count["failed"]
    assert (summary.windows, summary.unscored, summary.detections) == tuple(n * count["done"] for n in (10, 2, 3))
    assert summary.seconds == ({"detect": 1.5 * len(statuses)} if statuses else {})
    assert summary.not_run == ({"vet": "no x"} if statuses else {})
    assert summary.nights == (("20260101",) if statuses else ())
    assert summary.exit_code == int(bool(summary.quarantined or summary.failed))


def test_a_night_that_something_was_withdrawn_from_is_touched():
    records = [
        ExposureRecord(
            night=night, visit=1, detector=0, source_uri="a", source_sha256="s", digest="d", software="0",
            finished_at="now",
        )
        for night in ("20260102", "20260103")
    ]  # fmt: skip
    plan = Plan((replace(item(1), superseded=(records[0],)),), (), 0, withdrawn=(records[1],))
    assert summarise_run(plan, NightTotals([outcome(1, "done")])).nights == ("20260101", "20260102", "20260103")


def test_causes_are_those_of_all_that_is_published():
    record = ExposureRecord(
        night="20260101", visit=9, detector=0, source_uri="a", source_sha256="s", digest="d", software="0",
        finished_at="now", causes={"spike": CauseCount(published=1)},
    )  # fmt: skip
    now = replace(outcome(1, "done"), causes={"spike": CauseCount(refused=4)})
    summary = summarise_run(Plan((item(1),), (record,), 1), NightTotals([now]))
    assert summary.causes == {"spike": CauseCount(refused=4, published=1)}


def test_runs_are_added_up():
    one = summarise_run(Plan((item(1), item(2)), (), 3), NightTotals([outcome(1, "done"), outcome(2, "failed")]))
    two = summarise_run(Plan((item(3),), (), 0, (TROUBLE,)), NightTotals([outcome(3, "done")]), ["odd"])
    total = combined([one, two])
    assert total.exposures.model_dump() == {"seen": 7, "done": 2, "skipped": 3, "quarantined": 1, "failed": 1}
    assert (total.windows, total.unscored, total.detections) == (20, 4, 6)
    assert total.seconds == {"detect": 4.5}
    assert (total.quarantined, total.failed, total.warnings) == ((TROUBLE,), (TROUBLE,), ("odd",))
    assert total.nights == ("20260101",)
    assert combined([]).exposures.seen == 0
    assert not total.stopped
    assert combined([one, two.model_copy(update={"stopped": True})]).exit_code == 1


TROUBLE_NIGHT_TALLY = Trouble(uri="a.fits", code="nan", message="a.fits: all pixels are NaN.")


def done(number, **given):
    return Outcome(item(number), "done", 10, 2, 3, shutter_closed=datetime(2026, 1, 1, tzinfo=UTC), **given)


def test_adds_up_what_comes():
    tally = NightTotals([done(1, seconds={"detect": 1.0, "other": 0.5}, causes={"spike": CauseCount(refused=1)})])
    tally.add(done(2, seconds={"measure": 2.0}, causes={"spike": CauseCount(published=2)}, not_run={"vet": "no x"}))
    tally.add(Outcome(item(3), "failed", trouble=TROUBLE_NIGHT_TALLY))
    tally.add(Outcome(item(4), "quarantined", trouble=TROUBLE_NIGHT_TALLY))
    assert (tally.done, tally.windows, tally.unscored, tally.detections) == (2, 20, 4, 6)
    assert (tally.failed, tally.quarantined) == ([TROUBLE_NIGHT_TALLY], [TROUBLE_NIGHT_TALLY])
    assert tally.causes == {"spike": CauseCount(refused=1, published=2)}
    assert list(tally.seconds.items()) == [("detect", 1.0), ("measure", 2.0), ("other", 0.5)]
    assert tally.not_run == {"vet": "no x"}
    assert tally.finished == {item(number).key for number in (1, 2, 3, 4)}


def test_keeps_nothing_of_an_exposure_but_its_key():
    outcome = done(1, seconds={"detect": 1.0}, causes={"spike": CauseCount(refused=1)})
    known, counted = ref(outcome), ref(outcome.item)
    tally = NightTotals([outcome])
    del outcome
    assert (known(), counted()) == (None, None)
    assert tally.finished == {item(1).key}
