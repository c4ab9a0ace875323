import numpy as np
import pytest

from flows.training.boosted import TreeFit, fit_trees
from kernels.objects.cutout_features import FEATURES, MOMENTS, OF_PSF
from kernels.objects.star_galaxy_baselines import SETS, LocusCut, MomentTrees, fit_locus, locus, moments_of

SIZE, RATIO = MOMENTS.index("size"), MOMENTS.index("size_ratio")
COUNT = len(MOMENTS)


def measured(n, bands, seed=0):
    """Features in which a small size means a star, and labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    features = rng.normal(0, 1, (n, bands, len(FEATURES))).astype(np.float32)
    features[..., SIZE] -= 3 * label[:, None]
    return features, label


def whole(features):
    there = np.ones(features.shape[:2], bool)
    return moments_of(features, there, there)


@pytest.mark.parametrize("bands", [1, 4])
def test_judges_any_number_of_bands(bands):
    features, label = measured(400, bands)
    trees = MomentTrees(fit_trees(whole(features), label, TreeFit(trees=20, least=10), 1))
    for other in (1, 3, 4, 6):
        given, truth = measured(200, other, 5)
        there = np.ones((200, other), bool)
        odds = trees.log_odds(given, there, there)
        assert odds.shape == (200,)
        assert ((odds > 0) == (truth == 1)).mean() > 0.85


def test_neither_order_nor_bands_that_are_not_there_matter():
    rng = np.random.default_rng(2)
    features, _ = measured(60, 4, 5)
    usable = rng.random((60, 4)) < 0.6
    has_psf = rng.random((60, 4)) < 0.7
    found = moments_of(features, usable, has_psf)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(moments_of(features[:, order], usable[:, order], has_psf[:, order]), found, rtol=1e-5)
    other = np.where(usable[..., None], features, 99)
    np.testing.assert_array_equal(moments_of(other, usable, has_psf), found)
    for n in np.flatnonzero(usable.any(1)):
        alone = moments_of(features[n : n + 1, usable[n]], usable[n : n + 1, usable[n]], has_psf[n : n + 1, usable[n]])
        np.testing.assert_allclose(alone[0], found[n], rtol=1e-5)
    assert not found[~usable.any(1)].any()


def test_gives_the_best_band_the_weighted_mean_the_edges_and_the_numbers():
    features, _ = measured(50, 3, 7)
    features[..., 0] = np.arcsinh([2.0, 10.0, 5.0])
    there = np.ones((50, 3), bool)
    found = moments_of(features, there, there)
    assert found.shape == (50, len(SETS) * COUNT + 2)
    best, mean, least, greatest = (found[:, n * COUNT : (n + 1) * COUNT] for n in range(4))
    np.testing.assert_array_equal(best, features[:, 1, :COUNT])
    np.testing.assert_array_equal(least, features[..., :COUNT].min(1))
    np.testing.assert_array_equal(greatest, features[..., :COUNT].max(1))
    weight = np.array([4.0, 100.0, 25.0])
    np.testing.assert_allclose(mean, np.average(features[..., :COUNT], 1, weight), rtol=1e-4, atol=1e-4)
    assert (found[:, -2:] == 3).all()


def test_what_needs_a_psf_is_zero_without_and_the_mean_leaves_it_out():
    features, _ = measured(1, 2)
    both = np.array([[True, True]])
    found = moments_of(features, both, np.array([[False, True]]))[0]
    assert found[COUNT + RATIO] == pytest.approx(features[0, 1, RATIO], rel=1e-5)
    assert found[-1] == 1
    none = moments_of(features, both, ~both)[0]
    assert not none[OF_PSF:COUNT].any()
    assert not none[COUNT + OF_PSF : 2 * COUNT].any()


def features(signal, size, ratio):
    made = np.zeros((len(signal), 2, len(FEATURES)), np.float32)
    made[..., MOMENTS.index("signal")] = signal
    made[..., MOMENTS.index("size")] = size
    made[..., MOMENTS.index("size_ratio")] = ratio
    return made


def test_takes_the_band_of_the_highest_signal_and_the_psf_where_there_is_one():
    made = features([[1.0, 3.0], [5.0, 2.0]], [[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.6], [0.7, 0.8]])
    signal, size = locus(made, np.array([[True, True], [False, True]]))
    np.testing.assert_allclose(signal, [3.0, 5.0])
    np.testing.assert_allclose(size, [0.6, 0.3], rtol=1e-6)


def test_finds_the_line_between_the_classes():
    rng = np.random.default_rng(1)
    signal = rng.uniform(1, 8, 400)
    star = rng.random(400) < 0.5
    size = 0.3 - 0.05 * signal + np.where(star, -1, 1) * rng.uniform(0.05, 0.3, 400)
    cut = fit_locus(signal, size, star)
    assert (((cut.level + cut.slope * signal) > size) == star).mean() > 0.99
    assert cut.slope == pytest.approx(-0.05, abs=0.03)


def test_smaller_is_more_like_a_star():
    made = features([[3.0, 1.0]] * 3, [[-0.2, 0], [0.1, 0], [0.4, 0]], np.zeros((3, 2)))
    odds = LocusCut(0.1, 0.0).log_odds(made, np.zeros((3, 2), bool))
    assert (np.diff(odds) < 0).all()
    assert odds[0] > 0 > odds[2]
