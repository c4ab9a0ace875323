import numpy as np
import pytest

from flows.training.boosted_fit import TreeFit, fit_trees
from kernels.cutout_features import FEATURES, MOMENTS
from kernels.moment_trees import MomentTrees, moments_of

SIZE = MOMENTS.index("size")


def measured(n, bands, seed=0):
    """Features in which a small size means a star, and labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    features = rng.normal(0, 1, (n, bands, len(FEATURES))).astype(np.float32)
    features[..., SIZE] -= 3 * label[:, None]
    return features, label


@pytest.mark.parametrize("bands", [1, 4])
def test_judges_any_number_of_bands(bands):
    features, label = measured(400, bands)
    has_psf = np.ones((400, bands), bool)
    trees = MomentTrees(fit_trees(moments_of(features, has_psf), label, TreeFit(trees=20, least=10), 1), bands)
    for other in (1, 3, 4, 6):
        given, truth = measured(200, other, 5)
        psf = np.ones((200, other), bool)
        odds = trees.log_odds(given, psf, psf)
        assert odds.shape == (200,)
        if other >= bands:
            assert ((odds > 0) == (truth == 1)).mean() > 0.85


def test_trees_of_one_band_do_not_depend_on_bands_that_cannot_be_used():
    features, label = measured(400, 1)
    one = np.ones((400, 1), bool)
    trees = MomentTrees(fit_trees(moments_of(features, one), label, TreeFit(trees=20, least=10), 1), 1)
    given, _ = measured(50, 3, 5)
    usable = np.tile([True, False, False], (50, 1))
    psf = np.ones((50, 3), bool)
    np.testing.assert_allclose(trees.log_odds(given, usable, psf), trees.log_odds(given[:, :1], psf[:, :1], psf[:, :1]))


def test_moments_of_a_band_without_psf_are_zero():
    features = np.ones((1, 2, len(FEATURES)), np.float32)
    flat = moments_of(features, np.array([[True, False]]))
    assert flat.shape == (1, 2 * len(MOMENTS))
    assert flat[0, MOMENTS.index("size_ratio")] == 1
    assert flat[0, len(MOMENTS) + MOMENTS.index("size_ratio")] == 0
    assert (features == 1).all()
