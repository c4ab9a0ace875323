from flows.inputs.source import Source
from flows.pipeline.outcome import Item, Plan, total_causes, total_seconds, trouble_of
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.summary import CauseCount, Trouble

ITEM = Item(Source("1.fits"), ExposureKey(night="20260101", visit=1, detector=0), None)


def test_times_are_summed_by_stage():
    assert total_seconds([{"a": 1.0, "b": 2.0}, {"a": 0.5}, {}]) == {"a": 1.5, "b": 2.0}
    assert list(total_seconds([{"a": 1.0, "other": 0.1}, {"b": 1.0}])) == ["a", "b", "other"]


def test_causes_are_summed_each_for_itself():
    one = {"spike": CauseCount(refused=2, published=1), "bleed": CauseCount(refused=1)}
    other = {"spike": CauseCount(published=3), "ghost": CauseCount()}
    total = total_causes([one, {}, other])
    assert total == {"spike": CauseCount(refused=2, published=4), "bleed": one["bleed"], "ghost": CauseCount()}
    assert one["spike"] == CauseCount(refused=2, published=1)


def test_troubles_say_what_and_why_in_one_line():
    known = trouble_of(ITEM, BadInput("truncated", "1.fits", "is cut short.", "fetch it again."))
    assert (known.uri, known.code) == ("1.fits", "truncated")
    assert known.message == "1.fits: is cut short. To fix, fetch it again."
    defect = trouble_of(ITEM, ZeroDivisionError("over\nzero"))
    assert (defect.code, defect.message) == ("ZeroDivisionError", "1.fits: ZeroDivisionError: over zero")
    assert trouble_of(ITEM, KeyError()).message == "1.fits: KeyError: no message"
    placed = ValueError("my bug")
    placed.add_note("stage toy 2, toy.py line 34, in run")
    assert trouble_of(ITEM, placed).message == "1.fits: ValueError: my bug; stage toy 2, toy.py line 34, in run"


def test_a_plan_says_what_cannot_be_searched():
    assert Plan((ITEM,), (), 2).announcement == "1 of 3 exposures to be searched"
    bad = [Trouble(uri="a", code=code, message="") for code in ("truncated", "flood", "truncated")]
    plan = Plan((ITEM,), (), 0, tuple(bad), (Trouble(uri="b", code="unreadable", message=""),))
    assert plan.announcement == (
        "1 of 5 exposures to be searched, 3 quarantined (flood, truncated), 1 not readable now (unreadable)"
    )
    many = tuple(Trouble(uri="a", code=code, message="") for code in "abcd")
    assert Plan((), (), 0, many).announcement.endswith("4 quarantined (a, b, c, ...)")
