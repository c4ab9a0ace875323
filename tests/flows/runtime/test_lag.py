from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flows.runtime.lag import LATEST, Lag, lag_since, percentiles


def test_of_nothing_there_are_none():
    assert percentiles([]) is None
    assert Lag().percentiles() is None


@pytest.mark.parametrize("count", [1, 2, 3, 99, 100, 101, 200, 201])
def test_percentiles_are_those_of_the_nearest_rank(count):
    values = np.random.default_rng(count).permutation(count) + 0.25
    found = percentiles(values.tolist())
    expected = np.percentile(values, [50, 99], method="inverted_cdf")
    assert (found.n, found.p50, found.p99) == (count, *expected)


def test_they_are_told_to_a_millisecond():
    assert percentiles([1.23456]).p50 == 1.235


def test_only_the_latest_count():
    lag = Lag()
    for value in (5.0, *[1.0] * LATEST):
        lag.add(value)
    assert (lag.percentiles().n, lag.percentiles().p99) == (10_000, 1.0)


def test_a_lag_is_counted_from_the_end_of_the_exposure_until_now_wherever_the_clock_stands():
    for zone in (UTC, None):
        assert lag_since((datetime.now(UTC) - timedelta(seconds=90)).astimezone(zone)) == pytest.approx(90, abs=5)
