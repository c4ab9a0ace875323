import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal import correlate2d

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_bank import ANGLES, HALVES, TrailBank, best_trail, longest_only, point_snr, trail_bank
from kernels.trails.trail_model import trail_image

PSF = moffat_mixture(2.3, 3.0)
WHITE = np.array([[1.0]])
NEAR = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])


@pytest.mark.parametrize("correlation", [WHITE, NEAR])
def test_point_filter_is_the_plain_matched_filter(correlation):
    bank = trail_bank(PSF, 2.3, 5.0, correlation)
    image = np.random.default_rng(1).normal(0, 5, (40, 50)).astype(np.float32)
    plain = correlate2d(image, bank.stamp, mode="same") / filtered_noise(bank.stamp, 5.0, correlation)
    np.testing.assert_allclose(point_snr(image, bank), plain, atol=2e-4)


@pytest.mark.parametrize("correlation", [WHITE, NEAR])
@pytest.mark.parametrize("half", [0, 4, 11, 30])
def test_noise_of_each_trail_is_that_of_its_template(correlation, half):
    bank = trail_bank(PSF, 2.3, 5.0, correlation)
    index = list(HALVES).index(half)
    angle = ANGLES // 4 if half else 0
    template = np.zeros((121, 121))
    for dy, dx in np.concatenate([bank.offsets[angle, :half], [[0, 0]], -bank.offsets[angle, :half]]):
        radius = bank.stamp.shape[0] // 2
        template[60 + dy - radius : 61 + dy + radius, 60 + dx - radius : 61 + dx + radius] += bank.stamp
    expected = bank.noise / filtered_noise(template, 5.0, correlation)
    assert bank.scale[angle, index] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("length", [0, 8, 22, 44, 60])
@pytest.mark.parametrize("angle", [3.0, 48.0, 120.0])
def test_finds_a_trail_where_it_is_with_nearly_its_whole_signal(length, angle):
    bank = trail_bank(PSF, 2.3, 1.0, WHITE)
    template = trail_image((140, 140), 71.0, 68.0, length, angle, PSF)
    allowed = np.zeros((140, 140), bool)
    allowed[50:90, 50:90] = True
    found = best_trail(point_snr((1000 * template).astype(np.float32), bank), allowed, bank)
    assert found.snr > 0.86 * template_snr(1000, template, 1.0, WHITE)
    assert np.hypot(found.x - 71, found.y - 68) <= 2
    assert abs(found.length - length) <= 0.3 * length + 2
    if length > 8:
        assert abs((found.angle - angle + 90) % 180 - 90) <= 8


def test_noise_has_the_significance_that_it_should():
    bank = trail_bank(PSF, 2.3, 1.0, WHITE)
    noise = np.random.default_rng(3).normal(size=(300, 300)).astype(np.float32)
    snr = point_snr(noise, bank)[20:-20, 20:-20]
    assert snr.std() == pytest.approx(1, abs=0.05)


def test_negative_image_gives_nothing_positive():
    bank = trail_bank(PSF, 2.3, 1.0, WHITE)
    image = -100 * trail_image((120, 120), 60.0, 60.0, 20.0, 30.0, PSF)
    snr = np.minimum(point_snr(image.astype(np.float32), bank), 0)
    allowed = np.zeros(snr.shape, bool)
    allowed[40:80, 40:80] = True
    assert best_trail(snr, allowed, bank).snr <= 0


def test_nothing_allowed_gives_nothing():
    bank = trail_bank(PSF, 2.3, 1.0, WHITE)
    assert best_trail(np.ones((80, 80), np.float32), np.zeros((80, 80), bool), bank).snr == 0


def test_longest_only_sees_lines_not_points():
    bank = longest_only(trail_bank(PSF, 2.3, 1.0, WHITE))
    image = gaussian_filter(np.eye(130, dtype=np.float32), 1.0)
    allowed = np.zeros(image.shape, bool)
    allowed[50:80, 50:80] = True
    found = best_trail(image, allowed, bank)
    assert found.length == 2 * HALVES[-1]
    assert found.angle == pytest.approx(45)


@pytest.mark.parametrize("fwhm", [1.9, 2.4])
def test_the_bank_holds_the_trails_of_its_description(fwhm):
    bank = trail_bank(moffat_mixture(fwhm, 3.0), fwhm, 5.0, NEAR)
    assert HALVES.tolist() == [0, 2, 4, 7, 11, 16, 22, 30]
    radius = {1.9: 6, 2.4: 7}[fwhm]  # 2.5 FWHM, rounded up, and one more
    expected = trail_image((2 * radius + 1,) * 2, radius, radius, 0.0, 0.0, moffat_mixture(fwhm, 3.0))
    np.testing.assert_allclose(bank.stamp, expected, rtol=1e-6)
    assert bank.noise == pytest.approx(filtered_noise(expected, 5.0, NEAR))
    assert bank.reach == 30 + radius
    angle, far = np.radians(7.5 * np.arange(24))[:, None], np.arange(1, 31)
    steps = np.stack([far * np.sin(angle), far * np.cos(angle)], -1)
    assert bank.offsets.shape == steps.shape
    assert np.abs(bank.offsets - steps).max() < 0.5 + 1e-9
    # Ends of neighbouring angles are a pixel or so apart: of the short ones there are fewer.
    assert (bank.scale > 0).sum(0).tolist() == [1, 6, 12, 24, 24, 24, 24, 24]
    assert (bank.scale[::4, 1] > 0).all()
    assert (bank.scale[::2, 2] > 0).all()


def test_lags_are_the_correlation_of_the_filtered_noise():
    bank = trail_bank(PSF, 2.3, 5.0, NEAR)
    stamp = bank.stamp.astype(float)
    full = correlate2d(correlate2d(stamp, stamp), NEAR)
    np.testing.assert_allclose(bank.lags, full / full.max(), atol=1e-6)
    assert bank.lags.max() == bank.lags[len(bank.lags) // 2, len(bank.lags) // 2] == pytest.approx(1)


def test_only_the_longest_are_left_as_they_were():
    bank = trail_bank(PSF, 2.3, 1.0, WHITE)
    longest = longest_only(bank)
    assert (longest.scale[:, :-1] == 0).all()
    np.testing.assert_array_equal(longest.scale[:, -1], bank.scale[:, -1])
    assert (bank.scale[:, 0] > 0).any()


def test_the_best_trail_is_that_of_all_places_angles_and_lengths():
    rng = np.random.default_rng(9)
    whole = trail_bank(PSF, 2.3, 1.0, WHITE)
    scale = np.where(rng.random((24, 8)) < 0.15, whole.scale, 0)
    bank = TrailBank(whole.stamp, whole.noise, whole.lags, whole.offsets, scale.astype(np.float32))
    for seed in range(12):
        snr = np.random.default_rng(seed).normal(size=(70, 72)).astype(np.float32)
        allowed = np.zeros(snr.shape, bool)
        y0, x0 = np.random.default_rng(seed + 50).integers(30, 37, 2)
        allowed[y0 : y0 + 3, x0 : x0 + 4] = np.random.default_rng(seed + 90).random((3, 4)) < 0.5
        found = best_trail(snr, allowed, bank)
        sums = []
        for y, x in np.argwhere(allowed):
            for angle, i in np.argwhere(scale > 0):
                steps = whole.offsets[angle, : HALVES[i]]
                places = np.array([y, x]) + np.concatenate([[[0, 0]], steps, -steps])
                total = snr[places[:, 0], places[:, 1]].astype(float).sum() * scale[angle, i]
                sums.append((total, x, y, 2.0 * HALVES[i], 7.5 * angle))
        best = max(sums)
        assert (found.x, found.y, found.length, found.angle) == best[1:]
        assert found.snr == pytest.approx(best[0], rel=1e-5)


def test_centres_may_lie_as_near_to_the_border_as_the_longest_half():
    bank = longest_only(trail_bank(PSF, 2.3, 1.0, WHITE))
    snr = np.zeros((61, 61), np.float32)
    snr[30] = 1.0
    allowed = np.zeros(snr.shape, bool)
    allowed[30, 30] = True
    assert best_trail(snr, allowed, bank)[:4] == (30.0, 30.0, 60.0, 0.0)
    assert best_trail(snr.T.copy(), allowed, bank)[:4] == (30.0, 30.0, 60.0, 90.0)
    assert best_trail(-snr - 1, allowed, bank).snr == 0


def test_a_correlation_of_no_process_still_leaves_noise_in_every_trail():
    impossible = np.array([[0.0, -0.4, 0.0], [-0.4, 1.0, -0.4], [0.0, -0.4, 0.0]])
    scale = trail_bank(moffat_mixture(4.5, 3.0), 4.5, 2.0, impossible).scale
    assert np.isfinite(scale).all()
    assert 0 < scale.max() <= 1.001 / np.sqrt(0.1)
