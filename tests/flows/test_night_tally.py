from datetime import UTC, datetime
from weakref import ref

from flows.adapters.sources import Source
from flows.night_tally import NightTally
from flows.outcome import Outcome
from flows.plan import Item
from schemas.cause_count import CauseCount
from schemas.exposure import ExposureKey
from schemas.summary import Trouble

TROUBLE = Trouble(uri="a.fits", code="nan", message="a.fits: all pixels are NaN.")


def item(number):
    return Item(Source(f"{number}.fits"), ExposureKey(night="20260101", visit=number, detector=0), None)


def done(number, **given):
    return Outcome(item(number), "done", 10, 2, 3, shutter_closed=datetime(2026, 1, 1, tzinfo=UTC), **given)


def test_adds_up_what_comes():
    tally = NightTally([done(1, seconds={"detect": 1.0, "other": 0.5}, causes={"spike": CauseCount(refused=1)})])
    tally.add(done(2, seconds={"measure": 2.0}, causes={"spike": CauseCount(published=2)}, not_run={"vet": "no x"}))
    tally.add(Outcome(item(3), "failed", trouble=TROUBLE))
    tally.add(Outcome(item(4), "quarantined", trouble=TROUBLE))
    assert (tally.done, tally.windows, tally.unscored, tally.detections) == (2, 20, 4, 6)
    assert (tally.failed, tally.quarantined) == ([TROUBLE], [TROUBLE])
    assert tally.causes == {"spike": CauseCount(refused=1, published=2)}
    assert list(tally.seconds.items()) == [("detect", 1.0), ("measure", 2.0), ("other", 0.5)]
    assert tally.not_run == {"vet": "no x"}
    assert tally.finished == {item(number).key for number in (1, 2, 3, 4)}


def test_keeps_nothing_of_an_exposure_but_its_key():
    outcome = done(1, seconds={"detect": 1.0}, causes={"spike": CauseCount(refused=1)})
    known, counted = ref(outcome), ref(outcome.item)
    tally = NightTally([outcome])
    del outcome
    assert (known(), counted()) == (None, None)
    assert tally.finished == {item(1).key}
