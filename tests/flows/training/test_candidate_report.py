import numpy as np
import pytest

from flows.training.candidate_report import found_above, report, threshold_at
from flows.training.candidate_set import CandidateSet
from kernels.completeness import binomial_interval
from kernels.matching import Targets


def one_set():
    """Three streaks, of S/N 12, 8 and 5; candidates on the first two, and three on nothing."""
    kind = np.array(["streak"] * 3)
    targets = Targets(kind, *np.array([[10.0, 50, 90], [10, 50, 90], [0, 0, 0], [0, 0, 0], [1, 1, 1]]))
    x = np.array([10.0, 50, 200, 220, 240])
    return CandidateSet(x, x.copy(), np.zeros((5, 1), np.float32), np.zeros(5, int), targets, np.array([12.0, 8, 5]))


SCORE = np.array([5.0, 1.0, 3.0, 2.0, -1.0])


def test_threshold_lets_as_many_false_ones_through_as_are_allowed():
    sets, scores = [one_set(), one_set()], [SCORE, SCORE - 0.5]
    for allowed, expected in ((0.5, 1), (1.0, 2), (2.0, 4), (3.0, 6)):
        threshold = threshold_at(sets, scores, allowed)
        assert found_above(sets, scores, threshold, 7)[2] * 2 == expected
    assert threshold_at(sets, scores, 3.0) == -1.5


def test_streaks_above_are_counted():
    assert found_above([one_set()], [SCORE], 0.0, 7) == (2, 2, 2.0)
    assert found_above([one_set()], [SCORE], 4.0, 7) == (1, 2, 0.0)
    assert found_above([one_set()], [SCORE], 4.0, 10) == (1, 1, 0.0)
    assert found_above([one_set()], [SCORE], -9.0, 4) == (2, 3, 3.0)


def test_report_has_intervals():
    sets = ([one_set()], [SCORE])
    figures = report(sets, sets)
    row = figures["at_1_false"]
    assert row["false_per_image"] == 1
    assert row["snr_7"]["found"] == 1
    low, high = binomial_interval(1, 2)
    assert row["snr_7"]["interval"] == [pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4)]
