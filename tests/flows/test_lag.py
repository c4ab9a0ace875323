from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from flows.lag import LATEST, Lag, lag_since, percentiles


def test_they_are_those_of_numpy_by_nearest_rank():
    values = np.random.default_rng(4).exponential(10.0, 1234)
    found = percentiles(values.tolist())
    for share, value in ((50, found.p50), (99, found.p99)):
        assert value == pytest.approx(np.percentile(values, share, method="inverted_cdf"), abs=5e-4)
    assert found.n == 1234


def test_of_one_and_of_none():
    assert (percentiles([3.0]).p50, percentiles([3.0]).p99) == (3.0, 3.0)
    assert percentiles([]) is None
    assert Lag().percentiles() is None


def test_only_the_latest_count():
    lag = Lag()
    for value in [1000.0] * 10 + [1.0] * LATEST:
        lag.add(value)
    assert lag.percentiles().p99 == 1.0
    assert lag.percentiles().n == LATEST


def test_it_is_counted_until_now_wherever_the_clock_stands():
    east = (datetime.now(UTC) - timedelta(hours=1)).astimezone()
    assert 3600 <= lag_since(east) < 3700
