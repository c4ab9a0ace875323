import numpy as np
import pytest
from scipy.stats import ks_2samp

from kernels.drift import adjusted, distance, distance_p, stability_index, usual_distance


def counts(rng, shift=0.0, n=2000, bins=40):
    return np.histogram(np.clip(rng.normal(shift, 1, n), -4, 4), bins, (-4, 4))[0]


def test_index_of_equal_samples_is_what_counting_makes_of_it():
    rng = np.random.default_rng(1)
    found = [stability_index(counts(rng), counts(rng, n=20_000)) for _ in range(200)]
    # 4 / 10 % of 2000: the groups are of equal content only roughly, so a little less than 9 degrees of freedom
    assert np.mean(found) == pytest.approx(9 * (1 / 2000 + 1 / 20_000), rel=0.15)


def test_index_is_that_of_its_definition():
    night, reference = np.array([10, 20, 70]), np.array([30, 30, 40])
    p, q = (night + 0.5) / 101.5, (reference + 0.5) / 101.5
    assert stability_index(night, reference) == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert stability_index(np.array([0, 0, 5]), np.array([5, 0, 0])) < np.inf


def test_distance_and_its_probability_are_those_of_scipy():
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 30, 800), rng.integers(0, 31, 4000)
    known = ks_2samp(a, b, method="asymp")
    found = distance(np.bincount(a, minlength=31), np.bincount(b, minlength=31))
    assert found == pytest.approx(known.statistic)
    assert distance_p(found, 800, 4000) == pytest.approx(known.pvalue, rel=0.1)
    assert distance(np.zeros(3, int), np.ones(3, int)) == 0
    assert distance_p(0.5, 0, 10) == 1


def test_equal_samples_are_hardly_called_different():
    rng = np.random.default_rng(6)
    p = [
        [distance_p(distance(counts(rng), (b := counts(rng, n=9000))), 2000, int(b.sum())) for _ in range(5)]
        for _ in range(300)
    ]
    assert np.mean([adjusted(np.array(one)).min() < 0.05 for one in p]) < 0.05


def test_shifted_samples_are():
    rng = np.random.default_rng(7)
    assert distance_p(distance(counts(rng, 0.3), counts(rng)), 2000, 2000) < 1e-6
    assert stability_index(counts(rng, 0.6), counts(rng)) > 0.2


def test_nights_that_differ_have_a_larger_usual_distance():
    rng = np.random.default_rng(8)
    calm = usual_distance(np.array([counts(rng) for _ in range(20)]), 3)
    wild = usual_distance(np.array([counts(rng, rng.normal(0, 0.5)) for _ in range(20)]), 3)
    assert 0 < calm < 0.1 < wild
    assert usual_distance(np.zeros((3, 4), int), 3) == 0
    assert len(adjusted(np.array([]))) == 0
