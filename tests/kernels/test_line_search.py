import numba
import numpy as np
import pytest
from scipy.signal import correlate2d

from kernels.line_bank import FRAMES, LENGTHS, REACH, STEPS, line_bank, middle_pixels
from kernels.line_search import best_lines, point_map
from kernels.matched_filter import filtered_noise, template_snr
from kernels.psf import GaussianMixture
from kernels.trail_model import trail_image

NEAR = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])
FWHM = 2.3
SIGMA = np.sqrt((FWHM / np.sqrt(8 * np.log(2))) ** 2 + 1 / 12)
PSF = GaussianMixture(np.array([1.0]), np.array([SIGMA]))


def noise(shape, seed=1):
    return np.random.default_rng(seed).normal(10, 5, shape).astype(np.float32)


def test_point_map_is_the_plain_matched_filter():
    bank, image = line_bank(FWHM, NEAR), noise((150, 143))
    usable = np.random.default_rng(2).uniform(size=image.shape) > 0.02
    image[3, 5] = np.nan
    stamp = np.outer(bank.taps, bank.taps)
    clean = np.where(usable & np.isfinite(image), (image - 10) / 5, 0)
    expected = correlate2d(clean, stamp, mode="same") / filtered_noise(stamp, 1.0, NEAR)
    np.testing.assert_allclose(point_map(image, usable, 10.0, 5.0, bank), expected, atol=3e-5)


def test_best_line_is_the_best_of_all_sums():
    bank, rng = line_bank(FWHM, NEAR), np.random.default_rng(3)
    snr = rng.normal(size=(140, 150)).astype(np.float32)
    value, code = best_lines(snr, bank, 2.0)
    padded = np.pad(np.clip(snr, -2, 2).astype(float), 50)
    sums = {}
    for frame, (low, high) in enumerate(FRAMES):
        for rise in range(low, high + 1):
            for n, length in enumerate(LENGTHS.tolist()):
                steps = zip(*middle_pixels(frame, rise, length), strict=True)
                total = sum(padded[50 + dy : 190 + dy, 50 + dx : 200 + dx] for dx, dy in steps)
                sums[(frame * (STEPS + 1) + rise) * len(LENGTHS) + n] = total * bank.scale[frame, rise, n]
    np.testing.assert_allclose(value, np.max(list(sums.values()), 0), atol=1e-5)
    claimed = np.array([sums[value] for value in sorted(sums)])[
        np.searchsorted(sorted(sums), code)[None], *np.indices(code.shape)[:, None]
    ]
    np.testing.assert_allclose(claimed[0], value, atol=1e-5)


@pytest.mark.parametrize("length", [0.0, 5.0, 10.0, 23.0, 40.0, 58.0])
@pytest.mark.parametrize("angle", [0.0, 20.0, 48.0, 92.0, 161.0])
def test_keeps_most_of_the_signal_that_the_true_template_has(length, angle):
    template = trail_image((160, 160), 79.3, 80.6, length, angle, PSF)
    true = template_snr(1.0, template, 1.0, NEAR)
    image = (20 / true * template).astype(np.float32)
    bank = line_bank(FWHM, NEAR)
    value, _ = best_lines(point_map(image, np.ones(image.shape, bool), 0.0, 1.0, bank), bank, 1e9)
    assert 20 * 0.86 < value[76:86, 74:85].max() <= 20.05


def test_same_bits_wherever_the_image_is_cut_and_on_any_number_of_threads():
    bank, image = line_bank(FWHM, NEAR), noise((330, 350))
    usable = np.random.default_rng(2).uniform(size=image.shape) > 0.02
    threads = numba.get_num_threads()

    def both(box):
        return best_lines(point_map(image[box], usable[box], 10.0, 5.0, bank), bank, 6.0)

    whole = both(np.s_[:, :])
    numba.set_num_threads(1)
    try:
        part = both(np.s_[37:300, 61:333])
    finally:
        numba.set_num_threads(threads)
    inner = np.s_[37 + REACH : 300 - REACH, 61 + REACH : 333 - REACH]
    for first, second in zip(whole, part, strict=True):
        np.testing.assert_array_equal(first[inner], second[REACH:-REACH, REACH:-REACH])
