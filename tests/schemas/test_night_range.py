import random
from datetime import date, timedelta

import pytest

from schemas import night_range
from schemas.errors import Misconfigured
from schemas.night_range import EVERY_NIGHT, NightRange, _days_before, nights_before, nights_followed

KNOWN = ("20260301", "20260405", "unknown", "20260330")


@pytest.mark.parametrize(
    ("nights", "found", "words"),
    [
        (EVERY_NIGHT, (*sorted(KNOWN),), "every night"),
        (NightRange.of("20260330"), ("20260330",), "night 20260330"),
        (NightRange("20260301", "20260330"), ("20260301", "20260330"), "nights 20260301 to 20260330"),
        (NightRange("20260302"), ("20260330", "20260405"), "nights 20260302 to the last"),
        (NightRange(None, "20260302"), ("20260301",), "nights the first to 20260302"),
    ],
)
def test_holds_what_lies_between_its_ends(nights, found, words):
    assert (nights.among(KNOWN, "out"), str(nights)) == (found, words)
    assert bool(nights) == (nights != EVERY_NIGHT)


@pytest.mark.parametrize(
    ("nights", "known", "says"),
    [
        (NightRange.of("20260302"), KNOWN[:2], "holds nothing of night 20260302. To fix, write '20260301'"),
        (NightRange("20270101"), KNOWN[:2], "holds nothing of nights 20270101 to the last. To fix, choose among"),
        (NightRange("20270101"), (), "nightstride status"),
    ],
)
def test_none_of_the_nights_is_an_error_that_names_those_that_there_are(nights, known, says):
    with pytest.raises(Misconfigured, match=says):
        nights.among(known, "out")
    assert EVERY_NIGHT.among((), "out") == ()


def test_nights_before_one_and_those_that_follow_some():
    known = ("20260301", "20260227", "20260305", "20260226", "20260302")
    assert nights_before(known, "20260301", 3) == ["20260227", "20260301"]
    assert nights_before(known, "20260301", 4) == ["20260226", "20260227", "20260301"]
    assert nights_followed(known, ["20260227"], 2) == ["20260227", "20260301"]
    assert nights_followed(known, ["20260227", "20260303"], 2) == ["20260227", "20260301", "20260305"]
    assert nights_followed(known, [], 9) == []


def test_windows_of_nights_of_many_years_are_those_of_calendar_days_and_cost_a_date_a_night(monkeypatch):
    rng, first, asked = random.Random(3), date(2023, 12, 1), []
    days = sorted(rng.sample(range(800), 300))
    known = [(first + timedelta(day)).strftime("%Y%m%d") for day in days]
    monkeypatch.setattr(
        night_range, "_days_before", lambda night, count: asked.append(night) or _days_before(night, count)
    )
    for some in (rng.sample(range(300), 40), range(300), [299], []):
        near = [n for n in range(300) if any(0 <= days[n] - days[m] <= 5 for m in some)]
        assert nights_followed(rng.sample(known, 300), [known[m] for m in some], 5) == [known[n] for n in near]
    for n in (0, 150, 299):
        assert nights_before(known, known[n], 7) == [known[m] for m in range(n + 1) if days[n] - days[m] < 7]
    assert len(asked) <= 4 * 300 + 3
