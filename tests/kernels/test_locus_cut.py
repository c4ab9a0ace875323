import numpy as np
import pytest

from kernels.cutout_features import FEATURES, MOMENTS
from kernels.locus_cut import LocusCut, fit_locus, locus


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
