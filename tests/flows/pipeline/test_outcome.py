from flows.inputs.source import Source
from flows.pipeline.outcome import Item, total_causes, total_seconds, trouble_of
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.summary import CauseCount

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
    assert (defect.code, defect.message) == ("ZeroDivisionError", "ZeroDivisionError: over zero")
    assert trouble_of(ITEM, KeyError()).message == "KeyError: no message"
