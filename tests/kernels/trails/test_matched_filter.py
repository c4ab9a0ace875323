import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter
from scipy.signal import fftconvolve
from scipy.stats import kstest, norm

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.matched_filter import false_alarms, oracle_snr, oracle_threshold, template_snr
from kernels.trails.trail_model import trail_image

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


PSF = moffat_mixture(2.4, 3.0)
SHAPE = (61, 61)
PLACE, LENGTH, ANGLE = (30.3, 29.8), 12.0, 35.0


def correlated(rng, shape, smoothing=0.7):
    """Noise of standard deviation 1 and its autocorrelation, from the kernel that made it."""
    kernel = np.zeros((11, 11))
    kernel[5, 5] = 1.0
    kernel = gaussian_filter(kernel, smoothing, truncate=6)
    field = gaussian_filter(rng.standard_normal((shape[0] + 20, shape[1] + 20)), smoothing)[10:-10, 10:-10]
    rho = np.real(np.fft.ifft2(np.abs(np.fft.fft2(kernel, (32, 32))) ** 2))
    lags = np.arange(-4, 5)
    return field / np.sqrt(np.square(kernel).sum()), rho[np.ix_(lags, lags)] / rho[0, 0]


def snr(image, usable=None, place=PLACE, correlation=((1.0,),)):
    usable = np.ones(image.shape, bool) if usable is None else usable
    return oracle_snr(image, usable, place, LENGTH, ANGLE, PSF, 1.0, np.array(correlation))


def template():
    return trail_image(SHAPE, *PLACE, LENGTH, ANGLE, PSF)


def test_is_the_signal_to_noise_of_the_truth_where_there_is_no_noise():
    expected = template_snr(40.0, template(), 1.0, np.ones((1, 1)))
    assert snr(40.0 * template()) == pytest.approx(expected, rel=1e-6)


def test_a_place_one_pixel_off_costs_nothing():
    off = snr(40.0 * template(), place=(PLACE[0] + 1, PLACE[1] - 1))
    assert off == pytest.approx(snr(40.0 * template()), rel=1e-4)


def test_single_positions_are_standard_normal_on_correlated_noise(monkeypatch):
    monkeypatch.setattr("kernels.trails.matched_filter._SHIFTS", (0.0,))
    rng = np.random.default_rng(1)
    fields = [correlated(rng, SHAPE) for _ in range(400)]
    values = [snr(field, correlation=rho) for field, rho in fields]
    assert kstest(values, "norm").pvalue > 0.01
    assert np.std(values) == pytest.approx(1.0, abs=0.08)


def test_white_noise_formula_would_flatter():
    _, rho = correlated(np.random.default_rng(0), (5, 5))
    assert filtered_noise(template(), 1.0, rho) > 1.3 * filtered_noise(template(), 1.0, np.ones((1, 1)))


def test_completeness_is_that_of_a_gaussian(monkeypatch):
    monkeypatch.setattr("kernels.trails.matched_filter._SHIFTS", (0.0,))
    rng = np.random.default_rng(2)
    threshold, true = 5.9, 6.5
    fields = [correlated(rng, SHAPE) for _ in range(400)]
    flux = true / template_snr(1.0, template(), 1.0, fields[0][1])
    found = [snr(field + flux * template(), correlation=rho) > threshold for field, rho in fields]
    assert np.mean(found) == pytest.approx(norm.cdf(true - threshold), abs=0.07)


def test_masked_pixels_do_not_matter():
    image, usable = 40.0 * template(), np.ones(SHAPE, bool)
    usable[:, 33:] = False
    clean = snr(image, usable)
    image[:, 33:] = np.nan
    assert snr(image, usable) == clean
    assert 0 < clean < snr(40.0 * template())


def test_nothing_usable_is_nothing_seen():
    assert snr(np.full(SHAPE, np.nan), np.zeros(SHAPE, bool)) == -np.inf


@pytest.mark.parametrize("rate", [0.02, 1.0, 30.0])
def test_threshold_gives_the_rate(rate):
    area = 3080 * 3072
    assert false_alarms(oracle_threshold(rate, area), area) == pytest.approx(rate, rel=1e-6)


def test_more_area_or_fewer_false_alarms_ask_for_more():
    assert oracle_threshold(1.0, 4e7) > oracle_threshold(1.0, 1e7) > oracle_threshold(10.0, 1e7)


def test_threshold_stays_within_4_and_12():
    assert oracle_threshold(1e9, 1e6) == 4.0
    assert oracle_threshold(1e-60, 1e6) == 12.0


def test_threshold_of_one_false_alarm_on_a_ztf_quadrant():
    # `python -m benchmarks.detection.oracle_threshold`: 65 peaks above 5.7 and 33 above 5.8 on 500 fields of 1024 px.
    assert 5.7 < oracle_threshold(1.0, 3080 * 3072) < 5.8
    assert false_alarms(5.0, 500 * 1024**2) == pytest.approx(2114, rel=0.05)


def test_false_alarms_by_hand():
    """density times area times t^power exp(-t^2 / 2)."""
    assert false_alarms(5.0, 1e6) == pytest.approx(0.004828e6 * np.exp(3.382 * np.log(5) - 12.5))
    assert false_alarms(6.0, 2e6) == pytest.approx(0.009656e6 * np.exp(3.382 * np.log(6) - 18))


def test_just_within_the_limits_a_threshold_is_solved_for():
    area = 1e6
    low, high = false_alarms(4.0, area), false_alarms(12.0, area)
    assert oracle_threshold(low * 0.999, area) == pytest.approx(4.0003, abs=2e-4)
    assert oracle_threshold(high * 1.001, area) == pytest.approx(11.9999, abs=2e-4)
    assert (oracle_threshold(low, area), oracle_threshold(high, area)) == (4.0, 12.0)


def test_the_oracle_takes_the_best_of_nine_places():
    rng = np.random.default_rng(3)
    image, usable = rng.normal(size=SHAPE), rng.random(SHAPE) < 0.8
    values = {}
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            m = np.where(usable, trail_image(SHAPE, PLACE[0] + dx, PLACE[1] + dy, LENGTH, ANGLE, PSF), 0)
            values[dy, dx] = (m * image)[usable].sum() / np.sqrt((m**2).sum())
    assert snr(image, usable) == pytest.approx(max(values.values()))
    for dy, dx in values:
        away = np.where(usable, trail_image(SHAPE, PLACE[0] + dx, PLACE[1] + dy, LENGTH, ANGLE, PSF), 0)
        assert snr(40 * away, usable) == pytest.approx(40 * np.sqrt((away**2).sum()))
