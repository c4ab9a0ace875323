from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.inputs.source import Source
from flows.nights.totals import NightTotals, combined, summarise_run
from flows.pipeline.outcome import Item, Outcome, Plan, PublishedExposure
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.summary import CauseCount, ExposureCounts, RunSummary, Trouble

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
    assert summary.exit_code == (1 if summary.failed else 3 if summary.quarantined else 0)


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


@pytest.mark.parametrize(("status", "former", "told"), [("done", "done", 1), ("quarantined", "done", 1),
                                                        ("failed", "done", 0), ("done", "failed", 0)])  # fmt: skip
def test_results_that_another_exposure_of_the_same_file_replaces_are_a_warning(status, former, told):
    record = ExposureRecord(
        night="20260102", visit=1, detector=0, source_uri="a", source_sha256="s", digest="d", software="0",
        finished_at="now", status=former,
    )  # fmt: skip
    replacing = [replace(item(number), superseded=(record,)) for number in (1, 2)]
    outcomes = [replace(outcome(number, status), item=replacing[number - 1]) for number in (1, 2)]
    parts = [summarise_run(Plan((one.item,), (), 0), NightTotals([one]), ["odd"]) for one in outcomes]
    assert len(combined(parts).warnings) == 1 + told  # a stream adds up many
    assert all("20260102" in text and "names again" in text for text in combined(parts).warnings[1:])


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


TROUBLE_OF_NIGHT = Trouble(uri="a.fits", code="nan", message="a.fits: all pixels are NaN.")


def done(number, **given):
    return Outcome(item(number), "done", 10, 2, 3, exposure_ended=datetime(2026, 1, 1, tzinfo=UTC), **given)


def test_adds_up_what_comes():
    totals = NightTotals([done(1, seconds={"detect": 1.0, "other": 0.5}, causes={"spike": CauseCount(refused=1)})])
    totals.add(done(2, seconds={"measure": 2.0}, causes={"spike": CauseCount(published=2)}, not_run={"vet": "no x"}))
    totals.add(Outcome(item(3), "failed", trouble=TROUBLE_OF_NIGHT))
    totals.add(Outcome(item(4), "quarantined", trouble=TROUBLE_OF_NIGHT))
    assert (totals.done, totals.windows, totals.unscored, totals.detections) == (2, 20, 4, 6)
    assert (totals.failed, totals.quarantined) == ([TROUBLE_OF_NIGHT], [TROUBLE_OF_NIGHT])
    assert totals.causes == {"spike": CauseCount(refused=1, published=2)}
    assert list(totals.seconds.items()) == [("detect", 1.0), ("measure", 2.0), ("other", 0.5)]
    assert totals.not_run == {"vet": "no x"}
    assert totals.finished == {item(number).key for number in (1, 2, 3, 4)}


def test_keeps_nothing_of_an_exposure_but_its_key():
    outcome = done(1, seconds={"detect": 1.0}, causes={"spike": CauseCount(refused=1)})
    known, counted = ref(outcome), ref(outcome.item)
    totals = NightTotals([outcome])
    del outcome
    assert (known(), counted()) == (None, None)
    assert totals.finished == {item(1).key}


def whole_summary(number):
    """A summary in which no field is empty."""
    trouble = (Trouble(uri=f"{number}", code="bad", message="bad"),)
    return RunSummary(
        exposures=ExposureCounts(seen=11 * number, done=number, skipped=2 * number, quarantined=5 * number,
                                 failed=3 * number),
        windows=100 * number, unscored=20 * number, detections=7 * number,
        causes={"spike": CauseCount(refused=number, published=2 * number)}, catalogues={"objects": number},
        not_run={f"stage {number}": "no x"}, seconds={"detect": 1.25 * number}, report=f"report {number}",
        nights=(f"2026010{number}",), quarantined=trouble * 2, failed=trouble, night_failed=trouble * 3,
        quality={f"2026010{number}": ()}, quality_failed=trouble * 4, warnings=(f"odd {number}",),
    )  # fmt: skip


def test_what_each_of_many_runs_warns_of_is_told_once():
    each = [
        RunSummary.model_validate(combined([]).model_dump() | {"warnings": ("alike", f"of {n % 3}")}) for n in range(9)
    ]
    assert combined(each).warnings == ("alike", "of 0", "of 1", "of 2")


def test_runs_add_up_field_by_field_in_any_grouping_and_one_alone_is_itself():
    one, two, three = map(whole_summary, (1, 2, 3))
    assert combined([one]) == one
    total = combined([one, two, three])
    assert total == combined([combined([one, two]), three]) == combined([one, combined([two, three])])
    assert total.exposures.model_dump() == {"seen": 66, "done": 6, "skipped": 12, "quarantined": 30, "failed": 18}
    assert (total.windows, total.unscored, total.detections) == (600, 120, 42)
    assert (total.causes, total.catalogues) == ({"spike": CauseCount(refused=6, published=12)}, {"objects": 6})
    assert (total.seconds, total.warnings) == ({"detect": 7.5}, ("odd 1", "odd 2", "odd 3"))
    assert set(total.not_run) == {"stage 1", "stage 2", "stage 3"}
    assert [one.uri for one in total.night_failed] == list("111222333")
    assert [one.uri for one in total.quality_failed] == list("111122223333")


def test_the_page_of_several_runs_is_the_last_there_is_and_the_nights_are_in_order():
    one, two, three = map(whole_summary, (1, 2, 3))
    without = three.model_copy(update={"report": None})
    assert combined([one, two, without]).report == "report 2"
    assert combined([without]).report is None
    assert combined([three, one, two, one]).nights == ("20260101", "20260102", "20260103")


def test_one_that_was_stopped_stops_the_whole():
    one = whole_summary(1)
    halted = one.model_copy(update={"stopped": True})
    assert [combined(parts).stopped for parts in ([one, one], [halted, one], [one, halted])] == [False, True, True]


def test_what_was_published_before_and_what_could_not_be_read_count_too():
    record = ExposureRecord(
        night="20260105", visit=9, detector=0, source_uri="a", source_sha256="s", digest="d", software="0",
        finished_at="now", detections=50,
    )  # fmt: skip
    plan = Plan((item(1),), (record,), 2, (TROUBLE,), (TROUBLE, TROUBLE))
    seconds = {"detect": 1.23456}
    summary = summarise_run(plan, NightTotals([replace(outcome(1, "failed"), seconds=seconds)]), ["odd"])
    assert summary.exposures.model_dump() == {"seen": 6, "done": 0, "skipped": 2, "quarantined": 1, "failed": 3}
    assert (summary.detections, len(summary.failed), len(summary.quarantined)) == (50, 3, 1)
    assert (summary.seconds, summary.nights, summary.warnings) == (
        {"detect": 1.235},
        ("20260101", "20260105"),
        ("odd",),
    )


def test_what_several_runs_came_to_is_added_up_in_every_part():
    trouble = (Trouble(uri="a", code="b", message="c"),)
    parts = [
        RunSummary(
            exposures=ExposureCounts(seen=10 * n, done=4 * n, skipped=3 * n, quarantined=2 * n, failed=n),
            windows=5 * n, unscored=2 * n, detections=7 * n, not_run={f"s{n}": "why"}, seconds={"detect": n / 3},
            catalogues={"object": n}, report=report, nights=nights, warnings=(f"w{n}",), failed=trouble * n,
            quarantined=trouble, night_failed=trouble, quality_failed=trouble * n, stopped=n == 2,
        )
        for n, report, nights in ((1, "first", ("20260102",)), (2, "second", ("20260101", "20260102")), (4, None, ()))
    ]  # fmt: skip
    whole = combined(parts)
    assert whole.exposures == ExposureCounts(seen=70, done=28, skipped=21, quarantined=14, failed=7)
    assert (whole.windows, whole.unscored, whole.detections) == (35, 14, 49)
    assert (whole.catalogues, whole.seconds) == ({"object": 7}, {"detect": 2.333})
    assert (whole.report, whole.nights, whole.warnings) == ("second", ("20260101", "20260102"), ("w1", "w2", "w4"))
    assert [len(one) for one in (whole.failed, whole.quarantined, whole.night_failed, whole.quality_failed)] == [
        7,
        3,
        3,
        7,
    ]
    assert whole.not_run == {"s1": "why", "s2": "why", "s4": "why"}
    assert whole.stopped
    assert not combined(parts[:1]).stopped
    assert combined([]).report is None


def test_assumptions_are_counted_and_other_flags_are_not():
    plan = Plan(tuple(item(number) for number in range(3)), (), 0)
    flags = (("assumed_site", "no_wcs", "subtracted"), ("assumed_site",), ())
    outcomes = [replace(outcome(number, "done"), flags=mine) for number, mine in enumerate(flags)]
    summary = summarise_run(plan, NightTotals(outcomes))
    assert summary.assumed == {"assumed_site": 2, "no_wcs": 1}
    assert combined([summary, summary]).assumed == {"assumed_site": 4, "no_wcs": 2}


def test_assumptions_of_what_was_published_before_are_counted_with_those_of_this_run():
    before = tuple(PublishedExposure(item(n).key, "a", flags=("assumed_site", "subtracted")) for n in (1, 2))
    plan = Plan((item(0),), before, 2)
    totals = NightTotals([replace(outcome(0, "done"), flags=("assumed_site", "no_wcs"))])
    assert summarise_run(plan, totals).assumed == {"assumed_site": 3, "no_wcs": 1}
    assert summarise_run(Plan((), before, 2), NightTotals()).assumed == {"assumed_site": 2}
