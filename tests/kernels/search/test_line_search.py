import numba
import numpy as np
import pytest
from scipy.signal import correlate2d

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import RADIUS, GaussianMixture, filter_taps
from kernels.search import line_search as module
from kernels.search.line_search import (
    FRAMES,
    HALF,
    LENGTHS,
    REACH,
    STEPS,
    best_lines,
    every_line,
    line_bank,
    line_pixels,
    middle_pixels,
    point_map,
)
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_model import trail_image

WHITE = np.array([[1.0]])
NEAR = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])


@pytest.mark.parametrize("correlation", [WHITE, NEAR])
@pytest.mark.parametrize(("frame", "rise", "length"), [(0, 0, 4), (0, 5, 48), (1, 3, 16), (2, 7, 24), (3, 1, 32)])
def test_noise_of_each_line_is_that_of_its_template(correlation, frame, rise, length):
    bank = line_bank(2.3, correlation)
    stamp = np.outer(bank.taps, bank.taps).astype(float)
    template = np.zeros((91, 91))
    for dx, dy in zip(*middle_pixels(frame, rise, length), strict=True):
        template[45 + dy - RADIUS : 46 + dy + RADIUS, 45 + dx - RADIUS : 46 + dx + RADIUS] += stamp
    expected = filtered_noise(stamp, 1.0, correlation) / filtered_noise(template, 1.0, correlation)
    assert bank.scale[frame, rise, list(LENGTHS).index(length)] == pytest.approx(expected, rel=1e-5)


def test_a_line_has_noise_where_lags_cut_off_leave_it_none():
    """Noise that alternates from pixel to pixel: its lags -5..5 alone leave sums along rows a negative variance."""
    along = (-0.9) ** np.abs(np.arange(-5, 6))
    scale = line_bank(1.3, np.outer(along, along)).scale
    most = 1 / np.sqrt(0.1 * LENGTHS)
    assert (scale <= most * (1 + 1e-6)).all()
    assert np.isclose(scale[0, 0], most)[2:].all()


def test_a_point_has_the_gain_of_its_filter():
    taps = filter_taps(2.3)
    assert line_bank(2.3, NEAR).gain == pytest.approx(1 / filtered_noise(np.outer(taps, taps), 1.0, NEAR))


@pytest.mark.parametrize("rise", range(STEPS + 1))
def test_pixels_follow_the_line(rise):
    along, across = line_pixels(48, rise)
    np.testing.assert_array_equal(along, np.arange(48))
    assert np.abs(across - along * rise / STEPS).max() <= 0.5


def test_directions_are_spread_over_the_half_circle():
    lines = every_line().reshape(len(FRAMES), STEPS + 1, len(LENGTHS), 4)
    angles = np.sort([lines[f, r, -1, 3] for f, (low, high) in enumerate(FRAMES) for r in range(low, high + 1)])
    gaps = np.diff(np.append(angles, angles[0] + 180))
    assert len(angles) == 32
    assert 3.5 < gaps.min() <= gaps.max() < 7.2


@pytest.mark.parametrize(("frame", "rise", "length"), [(0, 3, 48), (1, 8, 12), (2, 5, 32), (3, 7, 48)])
def test_a_line_is_where_its_pixels_are(frame, rise, length):
    dx, dy = middle_pixels(frame, rise, length)
    code = (frame * (STEPS + 1) + rise) * len(LENGTHS) + list(LENGTHS).index(length)
    x, y, extent, angle = every_line()[code]
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    places = np.stack([dx - x, dy - y], 1)
    across = places @ [-direction[1], direction[0]]
    along = places @ direction
    assert np.abs(across).max() < 0.8
    assert extent == pytest.approx(np.ptp(along) * length / (length - 1), rel=0.03)
    assert max(np.abs(dx).max(), np.abs(dy).max()) <= HALF


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


def test_every_line_rises_as_its_code_says():
    """8 px along the axis of its frame and so many across: the image, upside down, transposed, and both."""
    turned = ((1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, 1, 0))
    lines = every_line().reshape(4, 9, 8, 4)
    for frame, (a, b, c, d) in enumerate(turned):
        for rise in range(9):
            across, down = 8 * a + rise * b, 8 * c + rise * d
            for length, (x, y, extent, angle) in zip((1, 4, 8, 12, 16, 24, 32, 48), lines[frame, rise], strict=True):
                assert angle == pytest.approx(np.degrees(np.arctan2(down, across)) % 180)
                assert extent == pytest.approx(length * np.hypot(8, rise) / 8 if length > 1 else 0)
                dx, dy = middle_pixels(frame, rise, length)
                assert (x, y) == (dx.mean(), dy.mean())
                assert (dx[length // 2], dy[length // 2]) == (0, 0)
                assert max(dx[-1] - dx[0], abs(dy[-1] - dy[0])) == length - 1 or frame >= 2 or length == 1
                assert [len(dx), len(dy)] == [length, length]


def test_each_direction_belongs_to_one_frame_and_a_point_is_1():
    scale = line_bank(FWHM, NEAR).scale
    own = np.array([[low <= rise <= high for rise in range(9)] for low, high in ((0, 8), (1, 8), (0, 7), (1, 7))])
    np.testing.assert_array_equal(scale > 0, np.repeat(own[:, :, None], 8, 2))
    np.testing.assert_allclose(scale[..., 0][own], 1, rtol=1e-6)
    assert (np.diff(scale[own], axis=1) < 0).all()  # a longer sum of noise is larger


def test_of_equals_the_point_is_the_best_line():
    value, code = best_lines(np.zeros((20, 150), np.float32), line_bank(FWHM, WHITE), 6.0)
    assert not value.any()
    assert not code.any()


def test_what_is_not_a_number_or_beyond_all_measure_counts_as_0():
    image = np.ones((30, 40), np.float32)
    usable = np.ones(image.shape, bool)
    bank = line_bank(FWHM, WHITE)
    image[10, 20] = 0
    expected = point_map(image, usable, 0.0, 0.5, bank)
    for value in (np.nan, np.inf, -np.inf, 0.75e30, -0.75e30, 3e38):
        image[10, 20] = value
        np.testing.assert_array_equal(point_map(image, usable, 0.0, 0.5, bank), expected)
    image[10, 20] = 0.45e30
    assert point_map(image, usable, 0.0, 0.5, bank)[10, 20] > 1e28


def test_blocks_read_nothing_beyond_their_maps(monkeypatch):
    """As plain Python, which checks bounds, in small blocks."""
    bank, rng = line_bank(FWHM, NEAR), np.random.default_rng(5)
    image, usable = rng.normal(10, 5, (13, 11)).astype(np.float32), rng.random((13, 11)) > 0.1
    snr = rng.normal(size=(4, 6)).astype(np.float32)
    points, (value, code) = point_map(image, usable, 10.0, 5.0, bank), best_lines(snr, bank, 1.5)
    for name, size in (("_CORE", 4), ("_SIDE", 4 + 2 * HALF)):
        monkeypatch.setattr(module, name, size)
    for name in ("_filter", "_all_blocks", "_one_frame", "_compare"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    np.testing.assert_allclose(point_map(image, usable, 10.0, 5.0, bank), points, atol=1e-5)
    plain, same = best_lines(snr, bank, 1.5)
    np.testing.assert_allclose(plain, value, rtol=1e-5)
    np.testing.assert_array_equal(same, code)
