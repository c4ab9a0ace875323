import pytest
from pydantic import ValidationError

from schemas.recovery import Limit, RecoveredShare, Recovery


def test_a_limit_never_stands_without_its_interval_nor_nothing_without_a_reason():
    assert Limit(n=40, value=19.0, interval=(18.9, 19.2)).reason == ""
    assert Limit(n=4, reason="fewer than 20 streaks").value is None
    for wrong in (
        {"value": 19.0},
        {"interval": (18.0, 19.0), "reason": "none"},
        {"value": 19.0, "interval": (18.0, 20.0), "reason": "none"},
        {},
        {"value": 19.0, "interval": (19.1, 19.3)},
    ):
        with pytest.raises(ValidationError, match="a limit"):
            Limit(n=40, **wrong)


@pytest.mark.parametrize(
    ("value", "inside"), [(18.0, True), (19.0, True), (18.5, True), (17.999, False), (19.001, False)]
)
def test_a_limit_may_be_an_end_of_its_interval(value, inside):
    if inside:
        assert Limit(n=40, value=value, interval=(18.0, 19.0)).value == value
    else:
        with pytest.raises(ValidationError, match="lies within its interval"):
            Limit(n=40, value=value, interval=(18.0, 19.0))


def test_counts_are_not_below_zero():
    share = {"lo": 0, "hi": 5, "n": 4, "recovered": 0, "interval": (0, 1)}
    assert RecoveredShare(**share).value == 0.0
    assert Limit(n=0, reason="none").n == 0
    for part, given in ((RecoveredShare, share | {"n": -1}), (RecoveredShare, share | {"recovered": -1})):
        with pytest.raises(ValidationError, match="greater than or equal to 0"):
            part(**given)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Limit(n=-1, reason="none")


def test_what_was_measured_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Limit(n=0, reason="none").n = 1
    with pytest.raises(ValidationError, match="surprise"):
        Limit(n=0, reason="none", surprise=1)


def test_nothing_has_no_share():
    assert RecoveredShare(lo=0, hi=None, n=0, recovered=0, interval=(0, 1)).value is None
    assert RecoveredShare(lo=0, hi=5, n=4, recovered=1, interval=(0.01, 0.8)).value == 0.25


@pytest.mark.parametrize("name", ["exposures", "hidden", "n", "recovered"])
def test_counts_of_a_night_go_down_to_nothing(name):
    given = {
        "night": "20260101", "exposures": 0, "hidden": 0, "n": 0, "recovered": 0, "by_snr": (), "by_length": (),
        "snr": Limit(n=0, reason="none"),
    }  # fmt: skip
    assert getattr(Recovery(**given), name) == 0
    with pytest.raises(ValidationError, match=name):
        Recovery(**(given | {name: -1}))
