import pytest

from flows.night import Night


def test_holds_outcomes_and_nothing_that_was_not_declared():
    night = Night([], None, None, None, None, None)
    assert night.outcomes == []
    assert not hasattr(night, "__dict__")  # Prefect would store a copy of all of it
    with pytest.raises(AttributeError):
        night.surprise = 1
