from itertools import pairwise

import pytest

from flows.report.sky_art import star_trails


def test_all_stars_turn_by_the_same_angle():
    trails = star_trails()
    assert {round(arc.sweep / arc.radius, 1) for arc in trails} == {0.5}
    assert all(near.radius < far.radius for near, far in pairwise(trails))
    assert sum(arc.start for arc in trails) / len(trails) == pytest.approx(180, abs=20)
    assert all(0 < arc.opacity <= 0.7 for arc in trails)
