import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.image.noise import background_and_noise
from kernels.psf.seeing import estimate_psf, fit_moffat, fit_stars


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


def star(fwhm, beta, flux=1.0, shift=(0.0, 0.0), side=25):
    drawn = galsim.Moffat(beta=beta, fwhm=fwhm, flux=flux).shift(*shift).drawImage(nx=side, ny=side, scale=1.0)
    return drawn.array


@settings(deadline=None, max_examples=25)
@given(
    fwhm=st.floats(1.5, 5),
    beta=st.floats(2, 4.5),
    flux=st.floats(1e-3, 1e5),
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
)
def test_recovers_what_galsim_drew(fwhm, beta, flux, dx, dy):
    found = fit_moffat(star(fwhm, beta, flux, (dx, dy)))
    assert found[0] == pytest.approx(fwhm, rel=0.02)
    assert found[1] == pytest.approx(beta, rel=0.15)


def test_noise_background_and_missing_pixels_are_borne():
    stamp = star(2.4, 3.0, 5000.0) + np.random.default_rng(1).normal(40, 5, (25, 25))
    stamp[3:5, 7:9] = np.nan
    fwhm, _ = fit_moffat(stamp)
    assert fwhm == pytest.approx(2.4, rel=0.05)


@pytest.mark.parametrize(
    ("stamp", "message"),
    [
        (np.zeros((25, 25)), "no peak"),
        (np.zeros((4, 25)), "too small"),
        (np.full((25, 25), np.nan), "too small"),
    ],
)
def test_says_what_is_no_star(stamp, message):
    with pytest.raises(ValueError, match=message):
        fit_moffat(stamp)


def scene(*sources, seed=1, side=63):
    """Noise of 5 about 200, with sources of (profile, x, y), drawn by GalSim."""
    image = galsim.ImageF(side, side, init_value=0.0)
    for profile, x, y in sources:
        profile.drawImage(image, center=(x + 1, y + 1), add_to_image=True, scale=1.0)
    noisy = image.array + np.random.default_rng(seed).normal(200, 5, (side, side))
    return noisy.astype(np.float32), np.ones((side, side), bool)


def star_stamp_stars(fwhm, flux=20000.0, beta=3.0):
    return galsim.Moffat(beta=beta, fwhm=fwhm, flux=flux)


@pytest.mark.parametrize(("fwhm", "beta"), [(1.7, 2.3), (2.2, 3.0), (3.7, 8.0)])
def test_finds_place_and_width(fwhm, beta):
    image, usable = scene((star_stamp_stars(fwhm, 60000.0, beta), 20.3, 41.6))
    ((x, y, width, slope),) = fit_stars(image, usable, 200.0, 5.0)
    assert (x, y) == (pytest.approx(20.3, abs=0.1), pytest.approx(41.6, abs=0.1))
    assert width == pytest.approx(fwhm, rel=0.03)
    assert slope == pytest.approx(beta, rel=0.25)


def test_brightest_first():
    image, usable = scene((star_stamp_stars(2.0), 12, 12), (star_stamp_stars(2.0, 40000.0), 45, 40))
    assert [round(x) for x, *_ in fit_stars(image, usable, 200.0, 5.0)] == [45, 12]


@pytest.mark.parametrize(
    "sources",
    [
        [],
        [(star_stamp_stars(2.0, 400.0), 30, 30)],  # faint
        [(star_stamp_stars(2.0), 3, 30)],  # cut by the edge
        [(star_stamp_stars(2.0).shear(g1=0.4, g2=0.0), 30, 30)],  # a trail or a galaxy
        [(star_stamp_stars(2.0), 30, 30), (star_stamp_stars(2.0, 15000.0), 37, 30)],  # two that touch
        [(star_stamp_stars(8.5, 200000.0), 30, 30)],  # wide
        [(star_stamp_stars(2.0, -20000.0), 30, 30)],  # a hole
    ],
    ids=["none", "faint", "edge", "long", "double", "wide", "hole"],
)
def test_leaves_out_what_is_no_star(sources):
    image, usable = scene(*sources)
    assert fit_stars(image, usable, 200.0, 5.0).shape == (0, 4)


def test_leaves_out_a_cosmic_ray():
    image, usable = scene()
    image[30, 30] += 5000
    image[30, 31] += 3000
    assert len(fit_stars(image, usable, 200.0, 5.0)) == 0


def test_leaves_out_a_star_with_an_unusable_pixel():
    image, usable = scene((star_stamp_stars(2.0), 30, 30))
    usable[33, 30] = False
    assert len(fit_stars(image, usable, 200.0, 5.0)) == 0
