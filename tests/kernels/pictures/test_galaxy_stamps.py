import numpy as np
import pyarrow as pa
import pytest

from kernels.image.science_image import ScienceImage
from kernels.pictures import galaxy_stamps
from kernels.pictures.galaxy_stamps import CROP_RADII, coloured, size_over_psf, stamp


def gaussian(side, sigma, x, y, flux=1000.0):
    rows, columns = np.mgrid[:side, :side]
    light = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return (flux * light / (2 * np.pi * sigma**2)).astype(np.float32)


def science(pixels, bad=None, noise=1.0):
    bad = np.zeros(pixels.shape, np.bool_) if bad is None else bad
    return ScienceImage(pixels, bad, np.full(pixels.shape, noise, np.float32))


def test_the_size_is_that_before_the_seeing_in_units_of_the_band_that_gave_the_shape():
    table = pa.table({
        "refBand": ["g", "r", "r", "z"], "halfLightRadius": [2.0, 5.0, 1.0, 3.0],
        **{f"{band}_fwhm": pa.array([1.0, 2.0, 2.4, None], pa.float32()) for band in "ugrizy"},
        "g_fwhm": [3.0, 9.0, 9.0, 9.0],
    })  # fmt: skip
    expected = [np.sqrt(2**2 - 1.5**2) / 3, np.sqrt(5**2 - 1) / 2, 0.0, np.nan]
    assert size_over_psf(table) == pytest.approx(expected, nan_ok=True, rel=1e-6)


@pytest.mark.parametrize("radius", [6.0, 14.0])
def test_a_stamp_shows_so_many_half_light_radii_with_the_galaxy_in_the_middle(radius):
    sigma = radius / 1.1774
    found = stamp(science(gaussian(201, sigma, 90, 110)), 90, 110, radius, 64).pixels
    y, x = np.mgrid[:64, :64]
    total = found.sum()
    assert [(found * x).sum() / total, (found * y).sum() / total] == pytest.approx([32, 32], abs=0.6)
    wide = np.sqrt((found * ((x - 32) ** 2 + (y - 32) ** 2)).sum() / total / 2)
    assert wide == pytest.approx(sigma * 64 / (CROP_RADII * radius), rel=0.08)


def test_pixels_without_a_value_are_nothing_and_too_many_of_them_leave_no_stamp():
    image, bad = gaussian(101, 4.0, 50, 50) + 5, np.zeros((101, 101), np.bool_)
    bad[:46] = True
    assert stamp(science(image, bad), 50, 50, 5.0, 32) is None
    bad[:] = False
    bad[38:60, 34:38] = True
    image[38:60, 34:38] = np.nan
    found = stamp(science(image, bad), 50, 50, 5.0, 38)
    assert np.isfinite(found.pixels).all()
    assert (found.pixels == 0).any()
    assert stamp(science(image, bad), 96, 50, 5.0, 38) is None
    assert stamp(science(image, bad), 89, 50, 5.0, 38) is not None
    bad[48:53, 47:54] = True
    assert stamp(science(image, bad), 50, 50, 5.0, 38) is None


def test_the_snr_is_that_of_a_pixel_within_the_half_light_radius():
    found = stamp(science(gaussian(101, 6.0, 50, 50), noise=0.25), 50, 50, 1.1774 * 6, 32)
    mean = 500 / (np.pi * (1.1774 * 6) ** 2)
    assert found.snr == pytest.approx(mean / 0.25, rel=0.03)


def test_a_galaxy_as_large_as_the_image_is_cut_at_its_borders():
    assert stamp(science(np.ones((60, 60), np.float32)), 30, 30, 1e6, 16) is None


def noisy(rng, peak, shape=(64, 64)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = peak * np.exp(-((x - 31.5) ** 2 + (y - 31.5) ** 2) / (2 * 6.0**2))
    return (light + rng.normal(0, 1, shape)).astype(np.float32)


@pytest.mark.parametrize("peak", [60.0, 300.0, 3000.0])
def test_sky_noise_and_peak_look_alike_however_bright_a_galaxy_is(peak):
    found = coloured(noisy(np.random.default_rng(1), peak)[None])
    assert found.shape == (64, 64, 3)
    assert (found == found[..., :1]).all()
    assert found[30:34, 30:34].max() == pytest.approx(156, abs=3)
    assert found[:8].mean() == pytest.approx(4, abs=1.0)
    assert 2.0 < found[:8].std() < 4.0


def test_the_unit_does_not_matter_and_colours_are_kept():
    rng = np.random.default_rng(2)
    one = noisy(rng, 500.0)
    red = np.stack([1.5 * one, one, 0.5 * one])
    found = coloured(red)
    assert np.array_equal(coloured(1000 * red), found)
    middle = found[28:36, 28:36].astype(float) - 4
    assert (middle[..., 0] / middle[..., 2]).mean() == pytest.approx(3, rel=0.05)
    two = coloured(red[[0, 2]])
    assert np.abs(two.astype(int) - found).max() <= 1


def test_nothing_but_zeros_is_no_picture():
    assert not coloured(np.zeros((2, 64, 64), np.float32)).any()


@pytest.mark.parametrize(("usable", "cut"), [(722, True), (721, False)])
def test_the_least_share_of_pixels_is_enough(usable, cut):
    """A radius of 5 px is cut out with 38 x 38 px."""
    bad = np.ones((61, 61), np.bool_)
    y, x = np.mgrid[11:49, 11:49]
    nearest = np.argsort((y - 30).ravel() ** 2 + (x - 30).ravel() ** 2, kind="stable")[:usable]
    bad[y.ravel()[nearest], x.ravel()[nearest]] = False
    assert (stamp(science(np.ones((61, 61), np.float32), bad), 30, 30, 5.0, 16, 0.5) is not None) == cut


def test_four_fifths_of_the_middle_are_enough():
    bad = np.zeros((61, 61), np.bool_)
    bad[30, 31] = True  # of five pixels within 1 px
    assert stamp(science(np.ones((61, 61), np.float32), bad), 30, 30, 1.0, 16, 0.5) is not None
    bad[31, 30] = True
    assert stamp(science(np.ones((61, 61), np.float32), bad), 30, 30, 1.0, 16, 0.5) is None


def test_pixels_at_the_half_light_radius_are_within_it():
    """A circle of radius 5 about a point of a lattice holds 81 points (Gauss)."""
    image = np.zeros((61, 61), np.float32)
    image[30, 35] = image[34, 33] = 81.0
    assert stamp(science(image), 30, 30, 5.0, 16).snr == pytest.approx(2)


@pytest.mark.parametrize(("largest", "cut"), [(38, True), (37, False)])
def test_a_galaxy_is_cut_out_up_to_the_largest_side(largest, cut, monkeypatch):
    monkeypatch.setattr(galaxy_stamps, "LARGEST", largest)
    assert (stamp(science(np.ones((61, 61), np.float32)), 30, 30, 5.0, 16) is not None) == cut


def test_a_smaller_picture_lies_at_the_same_place_and_is_a_mean():
    """76 px to 19: a slope keeps its values at the middles of pixels, and noise becomes less."""
    slope = np.broadcast_to(np.arange(101, dtype=np.float32), (101, 101)).copy()
    found = stamp(science(slope), 50, 50, 10.0, 19).pixels
    np.testing.assert_allclose(found[:, 2:-2], np.broadcast_to(12 + 4 * np.arange(2, 17) + 1.5, (19, 15)), atol=1e-3)
    noise = np.random.default_rng(3).normal(size=(101, 101)).astype(np.float32)
    assert stamp(science(noise), 50, 50, 10.0, 19).pixels.std() < 0.3
