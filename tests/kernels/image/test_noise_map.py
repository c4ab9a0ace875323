import numpy as np
import pytest

from kernels.image.noise_map import noise_variation

SHAPE = (256, 768)  # three cells


def noisy(*sigmas):
    """Image of cells whose noise has these standard deviations."""
    rng = np.random.default_rng(3)
    return (rng.normal(size=SHAPE) * np.repeat(sigmas, 256)).astype(np.float32)


def cells(image, usable=None, variance=None):
    """The noise of each cell, by that of an image with a noise of 1; None where it is even."""
    usable = np.ones(SHAPE, np.bool_) if usable is None else usable
    found = noise_variation(image, usable, 1.0, variance)
    return None if found is None else found.values[0][0]


def test_ratios_are_those_of_the_variances_that_are_told():
    variance = np.broadcast_to(np.repeat(np.array([1, 4, 9], np.float32), 256), SHAPE)
    assert cells(noisy(1, 1, 1)) is None
    first, second, third = cells(noisy(1, 1, 1), variance=variance)
    assert (second / first, third / first) == pytest.approx((2, 3), abs=1e-3)
    assert second == pytest.approx(1, rel=0.03)  # the size is that of the noise, by the median of the cells


@pytest.mark.parametrize("told", [0.0, -1.0, np.nan])
def test_a_cell_of_which_no_variance_is_told_has_that_of_its_neighbour(told):
    variance = np.array(np.broadcast_to(np.repeat(np.array([4, 4, 1], np.float32), 256), SHAPE))
    variance[:, :256] = told
    found = cells(noisy(2, 2, 1), variance=variance)
    assert found[0] == found[1] == pytest.approx(2, rel=0.03)


def test_a_cell_without_noise_has_that_of_its_neighbour():
    found = cells(noisy(0, 2, 1))
    assert found[0] == found[1] == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize("step", [1.0, 1.6])
@pytest.mark.parametrize("sigma", [2.2, 3.7])
def test_even_noise_of_counts_is_even(sigma, step):
    """The MAD of whole numbers is 1 or 2 at a deviation of 2.2, 2 or 3 at one of 3.7."""
    counts = np.rint(np.random.default_rng(3).normal(0.3, sigma, (1024, 1024))) * step
    usable = np.ones(counts.shape, np.bool_)
    assert noise_variation(counts.astype(np.float32), usable, sigma * step) is None


@pytest.mark.parametrize(("seen", "known"), [(1000, True), (999, False)])
def test_a_thousand_pixels_tell_the_noise_of_a_cell(seen, known):
    usable = np.ones(SHAPE, np.bool_)
    usable[:, 512:] = False
    usable[: seen // 250, 512 : 512 + 250] = True
    usable[seen // 250, 512 : 512 + seen % 250] = True
    found = cells(noisy(1, 1, 3), usable)
    assert (found is not None) == known
    if known:
        assert found[2] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(("most", "varies"), [(1.2, True), (1.04, False)])
def test_noise_that_varies_by_less_than_a_tenth_is_even(most, varies):
    assert (cells(noisy(1, 1, most)) is not None) == varies
