import numpy as np
import pytest

from kernels.linking.detections import detections_at, find_stationary
from kernels.linking.tracklets import find_tracklets


def short_series(rng, visits, seconds, sources, stated):
    """Detections of 2 x 2 deg, with owners: movers 0 to 4, sources at rest from 5; nine in ten are seen in a visit."""
    days, count = np.arange(visits) * seconds / 86400, 5 + sources
    place, scatter = rng.uniform(-1, 1, (count, 2)), rng.uniform(0.1, 0.3, count)
    rate, angle = np.where(np.arange(count) < 5, rng.uniform(1, 10, count), 0.0), rng.uniform(0, 2 * np.pi, count)
    seen = rng.random((visits, count)) < np.where(np.arange(count) < 5, 1.0, 0.9)
    visit, owner = np.nonzero(seen)
    way = rate[owner] * (days[visit] - days.mean())
    x, y = (place[owner] + way[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)[owner]).T
    x, y = (value + rng.normal(0, scatter[owner]) / 3600 for value in (x, y))
    sigma = scatter[owner] if stated else np.full(len(owner), 0.2)
    return detections_at(150 + x, y, 60000.2 + days[visit], sigma), owner


@pytest.mark.parametrize(("visits", "seconds", "stated"), [(4, 200, False), (10, 40, True), (30, 20, False)])
def test_what_is_at_rest_in_a_short_series_is_no_mover(visits, seconds, stated):
    detections, owner = short_series(np.random.default_rng(3), visits, seconds, 1000, stated)
    assert not find_stationary(detections).any()
    owners = [set(owner[list(one.members)]) for one in find_tracklets(detections, np.ones(len(owner), np.bool_))]
    assert [{n} in owners for n in range(5)] == [True] * 5
    assert len(owners) <= 6
