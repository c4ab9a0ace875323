import numpy as np
import pytest

from kernels.linking.detections import detections_at
from kernels.linking.windows import pairs_between, window_of
from kernels.sky.observatories import GEOCENTRE, heliocentric_km

CODES = np.array(["I41", "X05", "I41", "none", "X05", "none"])
MJD = 60000 + np.array([0.3, 0.31, 0.34, 0.35, 0.36, 0.9])


def detections():
    """A mover of 0.5 deg / day, whose detections two observatories share with one that is not known."""
    return detections_at(150 + 0.5 * (MJD - 60000), np.zeros(6), MJD, np.linspace(0.1, 0.3, 6))


@pytest.mark.parametrize("scale", ["utc", "tai"])
def test_a_window_has_the_observer_of_each_detection(scale):
    window, places = window_of(detections(), CODES, [(1, 4), (0, 2), (3, 5)], scale)
    assert places.tolist() == [0, 1, 2, 3, 4, 5]
    for n, code in enumerate(CODES):
        known = GEOCENTRE if code == "none" else code
        assert window.observer[n] == pytest.approx(heliocentric_km(known, MJD[n : n + 1], scale)[0][0], abs=1e-6)
    assert len(set(zip(window.site.tolist(), CODES.tolist(), strict=True))) == len(set(window.site)) == 3


def test_a_window_holds_the_detections_of_its_groups_only():
    window, places = window_of(detections(), CODES, [(4, 5), (1, 4)], "tai")
    assert places.tolist() == [1, 4, 5]
    assert places[window.members].tolist() == [4, 5, 1, 4]
    assert window.group.tolist() == [0, 0, 1, 1]
    assert window.mjd.tolist() == MJD[[1, 4, 5]].tolist()
    assert window.ra == pytest.approx(150 + 0.5 * (window.mjd - 60000), abs=1e-9)
    assert window.sigma == pytest.approx(np.linspace(0.1, 0.3, 6)[[1, 4, 5]])
    assert window.earth[:, 0].tolist() == list(range(59995, 60007))  # five days about it


def test_pairs_are_of_one_observatory():
    pairs, rate = pairs_between(detections(), CODES, np.arange(6), np.ones(6, bool), 30)
    assert sorted(pairs) == [(0, 2), (1, 4)]
    assert rate == 1.5
    assert pairs_between(detections(), CODES, np.array([0, 1, 4]), np.ones(6, bool), 30)[0] == [(1, 4)]
    assert pairs_between(detections(), CODES, np.arange(6), np.arange(6) != 0, 30)[0] == [(1, 4)]
