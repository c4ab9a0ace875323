import math

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from kernels.psf import moffat_mixture
from kernels.trail_model import trail_image
from kernels.trail_strip import OFFSET_STEP, cross_filtered, half_width, sky_level, straighten

RNG = np.random.default_rng(8)


def test_strip_is_the_image_along_the_line():
    image = RNG.normal(size=(80, 90)).astype(np.float32)
    theta = math.radians(25)
    ours = straighten(image, np.ones(image.shape, bool), (44.3, 39.6), (math.cos(theta), math.sin(theta)), (5, 20))
    s, t = np.mgrid[-5:6, -20:21]
    x = 44.3 + t * math.cos(theta) - s * math.sin(theta)
    y = 39.6 + t * math.sin(theta) + s * math.cos(theta)
    np.testing.assert_allclose(ours, map_coordinates(image.astype(float), [y, x], order=1), atol=1e-5)


def test_what_is_unusable_or_outside_is_unknown():
    image, usable = np.ones((40, 40), np.float32), np.ones((40, 40), bool)
    usable[20, 25] = False
    strip = straighten(image, usable, (20.0, 20.0), (1.0, 0.0), (2, 30))
    assert np.isnan(strip[:, :10]).all()
    assert np.isnan(strip[2, 35])
    assert strip[2, 33] == 1


def test_sky_is_found_beside_the_trail():
    strip = RNG.normal(0, 1, (31, 100)).astype(np.float32) + np.linspace(50, 60, 100, dtype=np.float32)
    strip[13:18] += 200
    strip[:, 40:44] = np.nan
    np.testing.assert_allclose(sky_level(strip, 4), np.linspace(50, 60, 100), atol=2.0)
    assert (sky_level(np.full((31, 40), np.nan, np.float32), 4) == 0).all()


def test_noise_keeps_its_deviation_and_gaps_do_not_matter():
    strip = RNG.normal(0, 1, (31, 4000)).astype(np.float32)
    strip[10:13, ::2] = np.nan
    filtered = cross_filtered(strip, 2.5, 4.0)
    assert filtered.shape == (17, 4000)
    np.testing.assert_allclose(np.nanstd(filtered, 1), 1, atol=0.06)


def test_brightness_peaks_at_the_offset_of_the_trail():
    across = np.arange(-15, 16)
    strip = np.exp(-4 * math.log(2) * np.square((across - 2.5) / 2.5))[:, None] * np.ones(10)
    filtered = cross_filtered(strip.astype(np.float32), 2.5, 4.0)
    assert (filtered.argmax(0) - 8) * OFFSET_STEP == pytest.approx(2.5)


def test_cross_section_that_is_mostly_unusable_is_unknown():
    strip = np.ones((31, 5), np.float32)
    strip[:16] = np.nan
    filtered = cross_filtered(strip, 2.5, 4.0)
    assert np.isnan(filtered[:7]).all()
    assert np.isfinite(filtered[10:]).all()


@pytest.mark.parametrize(("gap", "least", "most"), [(40, 3, 10), (10, 3, 7)])
def test_width_reaches_over_the_wings_but_not_to_the_neighbour(gap, least, most):
    psf = moffat_mixture(2.3, 3.0)
    image = trail_image((91, 60), 30.0, 45.0, 200.0, 0.0, psf) + trail_image(
        (91, 60), 30.0, 45.0 + gap, 200.0, 0.0, psf
    )
    strip = (1e5 * image).astype(np.float32)
    assert least <= half_width(strip, np.zeros(60), 10.0, 1.0) <= most
