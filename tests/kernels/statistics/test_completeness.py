import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, chi2

from kernels.statistics.completeness import (
    LEAST,
    LENGTH_EDGES,
    SNR_EDGES,
    Logistic,
    Share,
    _logistic,
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
    assert Logistic(0.5 + 1e-7, 2e-7, 3.0).s50 is None  # at a S/N beyond any number
    assert Logistic(1.0, 1.0, float(np.log(1e300))).s50 == pytest.approx(1e300)
    assert Logistic(1.0, 1.0, float(np.log(1.001e300))).s50 is None


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


def test_an_interval_may_end_at_the_faintest_or_the_brightest():
    """Two lost there are as likely as a quarter: no surprise. Three, an eighth, are beyond 2 (ln 8 > 1.92)."""
    ends = np.array([9.0, 9 * np.e])
    for lost, found in ((2, 30), (30, 2)):
        assert half_point(np.repeat(ends, [lost, found]), np.repeat([False, True], [lost, found])).value is None
    assert half_point(np.repeat(ends, [3, 30]), np.repeat([False, True], [3, 30])).low == pytest.approx(ends[0])
    assert half_point(np.repeat(ends, [30, 3]), np.repeat([False, True], [30, 3])).high == pytest.approx(ends[1])


@pytest.mark.parametrize("curve", [Logistic(0.9, 4.0, 2.0), Logistic(1.0, 10.0, 1.5), Logistic(0.6, 2.0, 2.5)])
def test_completeness_is_the_logistic_of_ln_snr(curve):
    snr = np.array([1.0, 3.0, 9.0, 40.0])
    expected = curve.ceiling / (1 + np.exp(-curve.slope * (np.log(snr) - curve.centre)))
    np.testing.assert_allclose(curve.at(snr), expected, rtol=1e-12)
    assert curve.at(np.array([curve.s50]))[0] == pytest.approx(0.5, rel=1e-12)


def test_a_ceiling_of_one_half_is_never_reached():
    assert Logistic(0.5, 5.0, 2.0).s50 is None
    assert Logistic(np.nextafter(0.5, 1), 500.0, 2.0).s50 is not None


def test_unbounded_parameters_are_the_logit_of_the_ceiling_and_the_log_of_the_slope():
    found = _logistic(np.array([1.5, 2.0, 0.7]))
    assert (found.ceiling, found.slope, found.centre) == pytest.approx((1 / (1 + np.exp(-1.5)), np.exp(2.0), 0.7))
    assert _logistic(np.array([0.0, 5.0, 0.7])).slope == _logistic(np.array([0.0, 9.0, 0.7])).slope == np.exp(5.0)


def test_twenty_sources_make_a_curve_and_those_without_signal_do_not_count():
    snr = np.geomspace(4, 30, 20)
    found = np.arange(20) % 20 > 9
    found[[8, 11]] = True, False
    curve = fit_completeness(snr, found)
    assert curve is not None
    assert fit_completeness(snr[1:], found[1:]) is None
    nothing = np.array([0.0, -3.0])
    assert fit_completeness(np.append(nothing, snr), np.append([True, False], found)) == curve
    assert fit_completeness(np.append(nothing, snr[1:]), np.append([True, False], found[1:])) is None


def test_a_curve_whose_half_lies_above_the_sources_is_none():
    snr = np.linspace(3, 9, 300)
    assert fit_completeness(snr, np.arange(300) % 60 == 59) is None


def half_point_by_loops(brightness, found):
    """Half point and interval from the likelihood at each point, slope and ceiling of the grid."""
    log = np.log(brightness)
    edges = np.linspace(log.min(), log.max(), 65)
    place = np.array([min(np.searchsorted(edges, one, "right") - 1, 63) for one in log])
    bins = [(log[place == n].mean(), found[place == n].sum(), (~found[place == n]).sum()) for n in np.unique(place)]
    middle, hits, lost = np.array(bins, float).T
    points, profile = np.linspace(log.min(), log.max(), 241), []
    slopes, ceilings = np.geomspace(1, 60, 12)[:, None, None], np.array([0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0])
    ceilings = ceilings[:, None]
    for point in points:
        centre = point + np.log(2 * ceilings - 1) / slopes
        chance = np.clip(ceilings / (1 + np.exp(-slopes * (middle - centre))), 1e-6, 1 - 1e-6)
        profile.append((hits * np.log(chance) + lost * np.log(1 - chance)).sum(-1).max())
    inside = [n for n, value in enumerate(profile) if value >= max(profile) - chi2.ppf(0.95, 1) / 2]
    low, high = inside[0] - 1, inside[-1] + 1
    if low < 0 or high > 240:
        return None, None, None
    return tuple(np.exp(points[[int(np.argmax(profile)), low, high]]))


@pytest.mark.parametrize(
    ("n", "half", "slope", "ceiling"),
    [(400, 9.0, 6.0, 0.97), (60, 9.0, 30.0, 1.0), (25, 9.0, 4.0, 0.8), (30, 5.0, 8.0, 0.9), (30, 20.0, 8.0, 1.0)],
)
def test_half_point_and_interval_are_those_of_the_likelihood_on_the_grid(n, half, slope, ceiling):
    for seed in range(4):
        brightness, found = night(seed, n, half, slope, ceiling)
        if seed == 3:
            found[brightness.argmax()] = False  # against all expectation
        point = half_point(brightness, found)
        expected = half_point_by_loops(brightness, found)
        assert (point.value is None) == (expected[0] is None)
        assert (point.reason == "") == (point.value is not None)
        if point.value is not None:
            assert tuple(point[:3]) == pytest.approx(expected, rel=1e-9)


def test_twenty_sources_have_a_half_point():
    brightness, found = np.geomspace(4, 30, LEAST), np.arange(LEAST) > 9
    assert LEAST == 20
    assert half_point(brightness, found).value == pytest.approx(np.sqrt(brightness[9] * brightness[10]), rel=0.1)


def test_bins_of_the_reports():
    assert SNR_EDGES == (3, 5, 7, 10, 15, 25, 50)
    assert LENGTH_EDGES == (0, 2, 5, 10, 20, 35, 60)
