import pytest
from pydantic import ValidationError

from schemas.cause_count import CauseCount


def test_counts_add_up():
    assert CauseCount(refused=3, published=1) + CauseCount(published=4) == CauseCount(refused=3, published=5)


def test_is_never_negative():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        CauseCount(refused=-1)
