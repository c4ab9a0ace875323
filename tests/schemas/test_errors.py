import pickle

import pytest

from schemas.errors import BadInput, Misconfigured, NightstrideError, NoWork, Retryable

KINDS = (NoWork, BadInput, Retryable, Misconfigured)


@pytest.mark.parametrize("kind", KINDS)
def test_says_where_what_and_remedy_also_after_a_journey_between_processes(kind):
    error = kind("missing_keyword", "a.fits", "OBSMJD is missing.", "restore the header.")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert type(one) is kind
        assert str(one) == "a.fits: OBSMJD is missing. To fix, restore the header."
        assert (one.code, one.where) == ("missing_keyword", "a.fits")


def test_kinds_are_told_apart_by_what_the_caller_does():
    for kind in KINDS:
        assert issubclass(kind, NightstrideError)
        assert not any(issubclass(kind, other) for other in KINDS if other is not kind)
