import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from kernels.statistics.completeness import (
    LEAST,
    Logistic,
    Share,
    binned,
    binomial_interval,
    fit_completeness,
    half_point,
    share_above,
)


@settings(deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_ends_where_the_tails_are_2_5_percent(case):
    found, n = case
    low, high = binomial_interval(found, n)
    assert 0 <= low <= found / n <= high <= 1
    assert low == 0 if found == 0 else binom.sf(found - 1, n, low) == pytest.approx(0.025, rel=1e-6)
    assert high == 1 if found == n else binom.cdf(found, n, high) == pytest.approx(0.025, rel=1e-6)


def test_interval_agrees_with_scipys_test():
    from scipy.stats import binomtest

    for found, n in [(0, 10), (3, 10), (58, 60), (60, 60)]:
        exact = binomtest(found, n).proportion_ci(0.95, "exact")
        np.testing.assert_allclose(binomial_interval(found, n), (exact.low, exact.high), rtol=1e-9)


def test_interval_covers_what_it_promises():
    for p in (0.03, 0.5, 0.9):
        found = np.arange(31)
        covers = [low <= p <= high for low, high in (binomial_interval(int(k), 30) for k in found)]
        assert binom.pmf(found, 30, p)[covers].sum() >= 0.95


def test_nothing_has_no_share():
    assert Share(0, 0).value is None
    assert Share(0, 0).interval == (0.0, 1.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([2.9, 3.0, 4.9, 5.0, 49.0, 50.0, 50.1]), st.booleans()), max_size=30))
def test_bins_count_every_source_within_the_edges_once(rows):
    value = np.array([snr for snr, _ in rows], float)
    found = np.array([hit for _, hit in rows], bool)
    bins = binned(value, found, (3.0, 5.0, 50.0))
    assert [each.share.n for each in bins] == [
        sum(v in (3.0, 4.9) for v in value),
        sum(v in (5.0, 49.0, 50.0) for v in value),
    ]
    inside = (value >= 3) & (value <= 50)
    assert sum(each.share.found for each in bins) == found[inside].sum()
    assert share_above(value, found, 5.0) == Share(int(found[value >= 5].sum()), int((value >= 5).sum()))


@pytest.mark.parametrize("curve", [Logistic(0.95, 6.0, np.log(9.0)), Logistic(0.8, 15.0, np.log(7.0))])
def test_recovers_the_curve_that_made_the_data(curve):
    rng = np.random.default_rng(3)
    snr = np.exp(rng.uniform(np.log(3), np.log(50), 6000))
    found = rng.uniform(size=6000) < curve.at(snr)
    fit = fit_completeness(snr, found)
    assert fit.s50 == pytest.approx(curve.s50, rel=0.03)
    assert fit.ceiling == pytest.approx(curve.ceiling, abs=0.02)
    assert curve.at(np.array([curve.s50]))[0] == pytest.approx(0.5)


def test_likelihood_is_no_worse_than_that_of_the_true_curve():
    rng = np.random.default_rng(4)
    true = Logistic(0.9, 8.0, np.log(10.0))
    snr = rng.uniform(3, 50, 240)
    found = rng.uniform(size=240) < true.at(snr)

    def likelihood(curve):
        return np.log(np.where(found, curve.at(snr), 1 - curve.at(snr))).sum()

    assert likelihood(fit_completeness(snr, found)) >= likelihood(true)


@pytest.mark.parametrize(
    ("snr", "found"),
    [
        (np.linspace(3, 50, 19), np.arange(19) > 9),
        (np.linspace(3, 50, 60), np.zeros(60, bool)),
        (np.linspace(3, 50, 60), np.ones(60, bool)),
        (np.linspace(3, 50, 400), np.arange(400) % 5 == 0),  # a fifth everywhere: 50 % is never reached
        (np.linspace(20, 50, 400), np.arange(400) % 10 > 0),  # nine tenths everywhere: 50 % is below the range
    ],
    ids=["few", "none", "all", "low ceiling", "out of range"],
)
def test_no_s50_where_the_data_do_not_define_it(snr, found):
    assert fit_completeness(snr, found) is None


def test_a_curve_that_never_reaches_half_has_no_s50():
    assert Logistic(0.4, 5.0, 2.0).s50 is None


def test_a_step_is_found_where_it_is():
    snr = np.linspace(3, 50, 500)
    assert fit_completeness(snr, snr > 12).s50 == pytest.approx(12, rel=0.02)


def night(seed, n=400, half=9.0, slope=6.0, ceiling=0.97, low=4.0, high=25.0):
    """Sources log-uniform in brightness, found by a logistic that is 0.5 at ``half``."""
    rng = np.random.default_rng(seed)
    brightness = np.exp(rng.uniform(np.log(low), np.log(high), n))
    centre = np.log(half) + np.log(2 * ceiling - 1) / slope
    return brightness, rng.uniform(size=n) < ceiling * expit(slope * (np.log(brightness) - centre))


@pytest.mark.parametrize(("n", "slope"), [(60, 6.0), (400, 6.0), (400, 20.0)])
def test_the_interval_covers_what_it_promises(n, slope):
    points = [half_point(*night(seed, n, slope=slope)) for seed in range(100)]
    known = [point for point in points if point.value is not None]
    assert len(known) > 90
    covered = np.mean([point.low <= 9.0 <= point.high for point in known])
    assert covered >= 0.90  # 0.95 promised; 100 trials scatter by 0.02
    assert all(point.low < point.value < point.high for point in known)


def test_it_narrows_with_the_number():
    width = [np.log(point.high / point.low) for point in (half_point(*night(1, n)) for n in (80, 800, 8000))]
    assert width[0] > 2 * width[1] > 2 * width[2]


def test_it_agrees_with_the_fitted_curve():
    for seed in range(5):
        brightness, found = night(seed, 1000)
        point = half_point(brightness, found)
        assert point.low < fit_completeness(brightness, found).s50 < point.high
        assert point.value == pytest.approx(fit_completeness(brightness, found).s50, rel=0.03)


def test_units_of_brightness_do_not_matter():
    brightness, found = night(3)
    first, second = half_point(brightness, found), half_point(1e-3 * brightness, found)
    np.testing.assert_allclose(second[:3], 1e-3 * np.array(first[:3]), rtol=1e-9)


def test_says_nothing_of_what_was_not_tried():
    brightness, found = night(1, LEAST - 1)
    assert half_point(brightness, found)[3] == "fewer than 20 streaks"
    brightness, found = night(1)
    assert half_point(brightness, found & False)[3] == "none was recovered"
    assert half_point(brightness, found | True)[3] == "all were recovered"
    for half in (4.2, 24.0, 80.0):
        brightness, found = night(2, 60, half=half)
        point = half_point(brightness, found)
        assert (point.value, point.low, point.high) == (None, None, None)
        assert point.reason in ("its interval reaches beyond the streaks put in", "none was recovered")
