import math

import numpy as np
import pytest
from scipy.stats import halfnorm, ks_2samp, kstwobign, norm

from kernels.statistics.drift import (
    FEATURES,
    Bins,
    adjusted,
    departure,
    distance_p,
    distribution_distance,
    least_distance,
    stability_index,
    usual_distance,
)


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
    found = distribution_distance(np.bincount(a, minlength=31), np.bincount(b, minlength=31))
    assert found == pytest.approx(known.statistic)
    assert distance_p(found, 800, 4000) == pytest.approx(known.pvalue, rel=0.1)
    assert distribution_distance(np.zeros(3, int), np.ones(3, int)) == 0
    assert distance_p(0.5, 0, 10) == 1


def test_equal_samples_are_hardly_called_different():
    rng = np.random.default_rng(6)
    p = [
        [
            distance_p(distribution_distance(counts(rng), (b := counts(rng, n=9000))), 2000, int(b.sum()))
            for _ in range(5)
        ]
        for _ in range(300)
    ]
    assert np.mean([adjusted(np.array(one)).min() < 0.05 for one in p]) < 0.05


def test_shifted_samples_are():
    rng = np.random.default_rng(7)
    assert distance_p(distribution_distance(counts(rng, 0.3), counts(rng)), 2000, 2000) < 1e-6
    assert stability_index(counts(rng, 0.6), counts(rng)) > 0.2


def test_nights_that_differ_have_a_larger_usual_distance():
    rng = np.random.default_rng(8)
    calm = usual_distance(np.array([counts(rng) for _ in range(20)]), 2000, 3, 0.05)
    wild = usual_distance(np.array([counts(rng, rng.normal(0, 0.5)) for _ in range(20)]), 2000, 3, 0.05)
    assert 0.05 <= calm < 0.15 < wild < 1
    assert len(adjusted(np.array([]))) == 0


def test_what_nights_differ_by_is_found_whatever_the_number_of_their_values():
    """Centres scatter by 0.3: 3 sigma is a distance of 2 Phi(0.45) - 1 = 0.35, to which chance adds in quadrature."""
    rng = np.random.default_rng(9)
    for n in (100, 2000):
        found = [
            usual_distance(np.array([counts(rng, rng.normal(0, 0.3), n) for _ in range(30)]), n, 3, 1e-3)
            for _ in range(60)
        ]
        assert np.median(found) == pytest.approx(0.35, abs=0.04)


@pytest.mark.parametrize("n", [10, 20, 40])
def test_of_equal_nights_with_few_values_hardly_more_is_usual_than_chance(n):
    rng = np.random.default_rng(10)
    least = least_distance(0.01, 7, n)
    found = [usual_distance(np.array([counts(rng, n=n) for _ in range(30)]), n, 5, least) for _ in range(100)]
    assert np.median(found) < min(1.1 * least, 0.7)
    assert np.quantile(found, 0.95) < 0.95


def test_a_night_of_more_values_than_the_reference_is_allowed_what_that_does_not_resolve():
    rng = np.random.default_rng(11)
    few = np.array([counts(rng, n=20) for _ in range(30)])
    assert usual_distance(few, 100_000, 5, least_distance(0.01, 7, 600)) > 0.35


def test_nights_without_values_do_not_count():
    rng = np.random.default_rng(12)
    some = np.array([counts(rng, n=30) for _ in range(15)])
    with_empty = np.concatenate([some, np.zeros((15, some.shape[1]), int)])
    assert usual_distance(with_empty, 30, 5, 0.3) == usual_distance(some, 30, 5, 0.3)


def test_least_distance_is_that_of_the_adjusted_level():
    least = least_distance(0.01, 4, 25)
    p = distance_p(least, 50, 50)
    assert adjusted(np.array([p, 1, 1, 1])).min() == pytest.approx(0.01)
    assert least_distance(0.01, 7, 3) == 1


def test_scatter_of_one_more_gaussian_value_is_right():
    rng = np.random.default_rng(3)
    found = [departure(rng.normal(), 0.0, rng.normal(size=400)) for _ in range(400)]
    assert np.mean([one.sigma for one in found]) == pytest.approx(1.0, abs=0.01)
    assert np.std([one.score for one in found]) == pytest.approx(1.0, abs=0.1)


def test_outliers_hardly_matter():
    earlier = np.r_[np.random.default_rng(4).normal(20, 0.1, 30), [15.0, 16.0, 30.0]]
    found = departure(19.0, 0.0, earlier)
    assert found.median == pytest.approx(20, abs=0.06)
    assert found.score < -5


def test_error_adds_to_the_scatter_in_quadrature():
    assert departure(3.0, 0.5, [2.0] * 10).score == 2.0
    earlier = [1.0, 2.0, 3.0] * 10
    scatter = departure(2.0, 0.0, earlier).sigma
    assert departure(2.0, 0.5, earlier).sigma == pytest.approx(math.hypot(scatter, 0.5))


def test_sigma_is_no_less_than_its_floor():
    assert departure(27.0001, 0.0, [27.0] * 30, 0.01).score == pytest.approx(0.01)
    assert departure(27.0, 0.2, [27.0] * 30, 0.01).sigma == 0.2


def test_values_that_do_not_scatter():
    assert departure(2.0, 0.0, [2.0] * 10).score == 0
    assert departure(1.0, 0.0, [2.0] * 10).score == -math.inf


@pytest.mark.parametrize("name", FEATURES)
def test_each_finite_value_is_counted_once(name):
    values = np.r_[np.random.default_rng(1).lognormal(0, 3, 1000), -5.0, 0.0, np.nan, np.inf]
    counts = FEATURES[name].histogram(values)
    assert len(counts) == FEATURES[name].count
    assert counts.sum() == 1002


def test_bins_are_those_of_numpy():
    values = np.random.default_rng(2).uniform(0, 1, 5000)
    np.testing.assert_array_equal(Bins(0, 1, 50).histogram(values), np.histogram(values, np.linspace(0, 1, 51))[0])
    values = np.exp(np.random.default_rng(3).uniform(np.log(3), np.log(300), 5000))
    np.testing.assert_array_equal(
        Bins(3, 300, 80, log=True).histogram(values),
        np.histogram(np.log(values), np.linspace(np.log(3), np.log(300), 81))[0],
    )


def test_what_lies_beyond_is_in_the_end_bins():
    assert Bins(0, 1, 4).histogram([-3, 0.1, 7, 8]).tolist() == [2, 0, 0, 2]
    assert Bins(0, 1, 4).histogram([-1e300, 1e20, 1e300]).tolist() == [1, 0, 0, 2]


def test_one_empty_histogram_is_no_difference_of_distributions():
    some, none = np.array([3, 4, 5]), np.zeros(3, int)
    assert distribution_distance(some, none) == distribution_distance(none, some) == 0
    assert distance_p(0.5, 10, 0) == distance_p(0.5, 0, 10) == 1
    assert distance_p(1.0, 1, 1) == pytest.approx(kstwobign.sf(math.sqrt(0.5)))


def test_a_value_above_others_that_do_not_scatter_is_infinitely_far():
    assert departure(3.0, 0.0, [2.0] * 10).score == math.inf
    assert departure(2.0, 0.0, [2.0] * 10).sigma == 0


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_scatter_of_few_values_is_enlarged_as_published(n):
    """Croux & Rousseeuw 1992: n / (n - 0.8); and the scatter of a median of n values, sqrt(pi / 2n)."""
    values = np.random.default_rng(n).normal(size=n)
    mad = 1.482602 * np.median(np.abs(values - np.median(values)))
    expected = mad * n / (n - 0.8) * math.sqrt(1 + math.pi / (2 * n))
    assert departure(0.0, 0.0, values).sigma == pytest.approx(expected, rel=1e-6)
    assert departure(0.0, 0.0, values).score == pytest.approx(-np.median(values) / expected, rel=1e-6)


def test_a_value_at_the_limit_of_two_bins_belongs_to_the_upper():
    assert Bins(0, 1, 4).histogram([0.0, 0.25, 0.5, 0.75, 1.0]).tolist() == [1, 1, 1, 2]
    assert Bins(1, 16, 4, log=True).histogram([1e-9, 0.5, 1, 3, 9, 16, 99]).tolist() == [3, 1, 0, 3]
    assert Bins(-2, 2, 2).histogram([-1.9, -0.1, 0.1, np.nan, -np.inf]).tolist() == [2, 1]


@pytest.mark.parametrize("seed", range(6))
def test_index_is_taken_over_ten_groups_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    night, reference = counts(rng, 0.4, 300), counts(rng, n=[1000, 37, 5][seed % 3])
    groups = {}
    for n in range(40):
        tenth = min(10 * int(reference[:n].sum()) // int(reference.sum()), 9)
        groups.setdefault(tenth, []).append(n)
    p, q = (np.array([some[own].sum() + 0.5 for own in groups.values()]) for some in (night, reference))
    p, q = p / p.sum(), q / q.sum()
    assert stability_index(night, reference) == pytest.approx(np.sum((p - q) * np.log(p / q)))
    assert stability_index(night, 0 * reference) == 0


def usual_by_formula(nights, n, sigmas, least):
    """Largest usual distance as the notes of the function have it, night by night."""

    def apart(distance):
        return 2 * norm.ppf((1 + min(distance, 1 - 1e-6)) / 2)

    nights = [night for night in nights if night.sum()]
    total, excess, effective = sum(nights), [], []
    for night in nights:
        rest = total - night
        one, other = int(night.sum()), int(rest.sum())
        effective.append(one * other / (one + other))
        distance = max(abs(np.cumsum(night) / one - np.cumsum(rest) / other))
        excess.append(apart(distance) ** 2 - 2 * np.pi * kstwobign.ppf(0.75) ** 2 / effective[-1])
    sigma = math.sqrt(max(np.quantile(excess, 0.75), 0)) / halfnorm.ppf(0.75)
    coarser = max(1, math.sqrt(n * total.sum() / (n + total.sum()) / np.median(effective)))
    return 2 * norm.cdf(math.hypot(sigmas * sigma, coarser * apart(least)) / 2) - 1


@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(("n", "least"), [(50, 0.3), (5000, 0.02), (200, 1.0), (3, 0.5)])
def test_usual_distance_is_that_of_its_formula(scatter, n, least):
    rng = np.random.default_rng(13)
    nights = np.array([counts(rng, rng.normal(0, scatter), size) for size in (0, 20, 80, 150, 300, 1000, 40)])
    for sigmas in (1.0, 5.0):
        expected = usual_by_formula(nights, n, sigmas, least)
        assert usual_distance(nights, n, sigmas, least) == pytest.approx(expected, rel=1e-9)


def test_nights_that_have_nothing_in_common_may_be_as_far_apart_as_any():
    found = usual_distance(np.array([[50, 0], [0, 50]]), 50, 1.0, 0.1)
    assert found == pytest.approx(usual_by_formula(np.array([[50, 0], [0, 50]]), 50, 1.0, 0.1), rel=1e-9)


@pytest.mark.parametrize(("alpha", "features", "n"), [(0.01, 4, 25.0), (0.05, 1, 400.0), (0.001, 7, 60.0)])
def test_least_distance_is_the_quantile_of_kolmogorov(alpha, features, n):
    level = alpha / (features * sum(1 / k for k in range(1, features + 1)))
    assert least_distance(alpha, features, n) == pytest.approx(kstwobign.isf(level) / math.sqrt(n))


def test_p_values_of_distances_by_hand():
    assert distance_p(0.2, 30, 70) == pytest.approx(kstwobign.sf(0.2 * math.sqrt(21)))
    assert distance_p(0.4, 2, 1) == pytest.approx(kstwobign.sf(0.4 * math.sqrt(2 / 3)))
    assert distance_p(0.4, 0, 3) == distance_p(0.4, 3, 0) == distance_p(0.0, 0, 0) == 1.0
    assert adjusted(np.array([0.02])).tolist() == [0.02]


def test_bins_of_the_features():
    told = {name: (one.low, one.high, one.count, one.log) for name, one in FEATURES.items()}
    assert told == {
        "reliability": (0, 1, 50, False),
        "logitPeak": (-10, 30, 80, False),
        "snr": (3, 300, 80, True),
        "trailLengthPx": (0.1, 1000, 80, True),
        "sharpness": (0, 3, 60, False),
        "negativeFraction": (0, 2, 40, False),
        "reducedChi2": (0.1, 100, 80, True),
    }
