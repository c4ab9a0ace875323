import pytest
from pydantic import ValidationError

from schemas.recovery import Limit, RecoveredShare


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


def test_nothing_has_no_share():
    assert RecoveredShare(lo=0, hi=None, n=0, recovered=0, interval=(0, 1)).value is None
    assert RecoveredShare(lo=0, hi=5, n=4, recovered=1, interval=(0.01, 0.8)).value == 0.25
