import numpy as np
import pytest
from scipy.ndimage import convolve
from scipy.signal import fftconvolve

from kernels.matched_filter import filtered_noise, template_snr

KERNEL = np.array([[0.1, 0.3, 0.1], [0.2, 1.0, 0.4], [0.0, 0.3, 0.1]])
TEMPLATE = np.outer([0.2, 1.0, 0.5, 0.1], [0.3, 1.0, 0.7])


def autocorrelation(kernel, reach):
    padded = np.pad(kernel, reach)
    full = np.array(
        [
            [np.sum(padded * np.roll(padded, (dy, dx), (0, 1))) for dx in range(-reach, reach + 1)]
            for dy in range(-reach, reach + 1)
        ]
    )
    return full / np.sum(np.square(kernel))


def test_white_noise():
    assert filtered_noise(TEMPLATE, 3.0, np.ones((1, 1))) == pytest.approx(3.0 * np.linalg.norm(TEMPLATE))


def test_direct_double_sum():
    rho = autocorrelation(KERNEL, 2)
    covariance = 0.0
    for (y, x), a in np.ndenumerate(TEMPLATE):
        for (v, u), b in np.ndenumerate(TEMPLATE):
            if abs(y - v) <= 2 and abs(x - u) <= 2:
                covariance += a * b * rho[y - v + 2, x - u + 2]
    assert filtered_noise(TEMPLATE, 1.0, rho) == pytest.approx(np.sqrt(covariance))


def test_spread_of_filtered_noise():
    rng = np.random.default_rng(5)
    noise = convolve(rng.standard_normal((1500, 1500)), KERNEL, mode="wrap")
    filtered = fftconvolve(noise, TEMPLATE[::-1, ::-1], mode="valid")
    expected = filtered_noise(TEMPLATE, float(np.linalg.norm(KERNEL)), autocorrelation(KERNEL, 2))
    assert filtered.std() == pytest.approx(expected, rel=0.01)


def test_scale_of_the_template_does_not_matter():
    rho = autocorrelation(KERNEL, 2)
    assert template_snr(10.0, TEMPLATE, 2.0, rho) == pytest.approx(template_snr(1.0, 10 * TEMPLATE, 2.0, rho))


def test_snr_of_a_source_in_white_noise():
    assert template_snr(6.0, TEMPLATE, 2.0, np.ones((1, 1))) == pytest.approx(3.0 * np.linalg.norm(TEMPLATE))
