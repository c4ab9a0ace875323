import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.simulation.noise import NoiseField, resampling_taps


def field(shift: float = 0.4, smoothing: float = 0.1, slope: tuple[float, float] = (0, 0)) -> NoiseField:
    taps = tuple(resampling_taps(shift, smoothing))
    return NoiseField(5.0, slope, (500, 400), taps, tuple(resampling_taps(0.1, smoothing)))


@given(st.floats(0, 0.5), st.floats(0, 0.15))
def test_resampling_keeps_the_variance(shift: float, smoothing: float) -> None:
    assert np.sum(resampling_taps(shift, smoothing) ** 2) == pytest.approx(1)


def test_resampling_by_nothing_is_nothing() -> None:
    taps = resampling_taps(0.0, 0.0)
    assert np.max(np.abs(taps)) == pytest.approx(1)
    assert np.sum(np.abs(taps) > 1e-12) == 1


def test_noise_has_the_correlation_it_says() -> None:
    noise = field()
    image = noise.draw(np.zeros(noise.shape, np.float32), np.random.default_rng(1)).astype(float)
    # Wiener-Khinchin: the autocorrelation is the transform of the power; the noise wraps around.
    power = np.abs(np.fft.fft2(image)) ** 2
    measured = np.fft.fftshift(np.fft.ifft2(power).real) / image.size / 25
    middle_y, middle_x, reach = 250, 200, noise.correlation.shape[0] // 2
    cut = measured[middle_y - reach : middle_y + reach + 1, middle_x - reach : middle_x + reach + 1]
    assert cut == pytest.approx(noise.correlation, abs=0.015)
    assert noise.correlation[reach, reach] == pytest.approx(1)


def test_noise_is_larger_where_the_sky_is_and_under_sources() -> None:
    noise = field(slope=(0.2, -0.1))
    excess = np.zeros(noise.shape, np.float32)
    excess[200:300, 150:250] = 400
    image = noise.draw(excess, np.random.default_rng(2))
    assert image[:150, :100].std() == pytest.approx(noise.sigma_at(50, 75), rel=0.03)
    assert image[-150:, -100:].std() == pytest.approx(noise.sigma_at(350, 425), rel=0.03)
    assert image[210:290, 160:240].std() == pytest.approx(np.sqrt(425), rel=0.05)
    assert noise.sigma_map()[10, 20] == pytest.approx(noise.sigma_at(20, 10), rel=1e-6)
