"""Nights kept in a bucket cost nothing: requests counted."""

import pytest

from benchmarks.scale.years_s3 import FIXED, Asked, growth, measure_s3
from tests.support.cli import forget_stores, nightstride


def command(*arguments):
    found = nightstride(*arguments)
    assert found.code <= 1, found.stderr


@pytest.mark.slow
@pytest.mark.services
def test_what_commands_ask_does_not_grow_with_the_nights_kept(tmp_path):
    exposures, new = 24, 5
    try:
        found = measure_s3(tmp_path, exposures, 3, new, command)
    finally:
        forget_stores()
    assert [one.nights for one in found] == [2] * 5 + [3] * 5
    assert growth(found) == dict.fromkeys(("status", "status NIGHT", "start", "run, nothing to do", "verify NIGHT"), 0)
    for one in found:
        assert one.passes, one
        # What its source was recorded for, of each exposure of a run; all else of the ledger is in a few objects.
        sources = {"start": 2 * new, "run, nothing to do": exposures}.get(one.what, 0)
        assert sources < one.ledger <= sources + 6, one


def test_one_request_more_for_a_night_is_growth():
    found = [Asked("status", nights, 4, 5 + nights) for nights in (2, 4)]
    assert growth(found) == {"status": 2}
    assert Asked("start", 2, 0, FIXED + 20, exposures=10, each=2).passes
    assert not Asked("start", 2, 0, FIXED + 21, exposures=10, each=2).passes
