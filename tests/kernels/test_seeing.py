import galsim
import numpy as np
import pytest

from kernels.noise import background_and_noise
from kernels.seeing import estimate_psf


def field(fwhm, beta, *, stars=60, dipoles=0, rays=0, seed=1, side=500):
    rng = np.random.default_rng(seed)
    image = galsim.Image(side, side, scale=1.0)
    for x, y in rng.uniform(10, side - 10, (stars, 2)):
        psf = galsim.Moffat(beta=beta, fwhm=fwhm, flux=float(rng.uniform(2e3, 2e4)))
        psf.drawImage(image, center=galsim.PositionD(x, y), add_to_image=True)
    pixels = image.array + rng.normal(100, 5, (side, side))
    for x, y in rng.integers(20, side - 20, (dipoles, 2)):
        pixels[y : y + 3, x : x + 3] += 800
        pixels[y : y + 3, x + 3 : x + 6] -= 800
    for x, y in rng.integers(20, side - 20, (rays, 2)):
        pixels[y, x : x + 6] += 3000
    return pixels.astype(np.float32)


def estimate(image, **given):
    usable = np.ones(image.shape, bool)
    return estimate_psf(image, usable, *background_and_noise(image, usable), **given)


@pytest.mark.parametrize(("fwhm", "beta"), [(1.8, 3.0), (2.6, 2.5), (4.2, 4.0)])
def test_finds_the_width_of_stars(fwhm, beta):
    found = estimate(field(fwhm, beta))
    assert found[0] == pytest.approx(fwhm, rel=0.05)


def test_residuals_and_cosmic_rays_do_not_pass_for_stars():
    found = estimate(field(2.4, 3.0, stars=20, dipoles=60, rays=60))
    assert found[0] == pytest.approx(2.4, rel=0.1)


def test_saturated_stars_are_left_out():
    image = np.minimum(field(3.0, 3.0), 600)  # flat tops look wide
    assert estimate(image, saturation=600.0)[0] == pytest.approx(3.0, rel=0.1)


def test_an_empty_sky_gives_none():
    assert estimate(field(2.0, 3.0, stars=0)) is None


def test_two_stars_are_not_enough():
    assert estimate(field(2.0, 3.0, stars=2)) is None
