import galsim
import numpy as np
import pytest

from kernels.stamp_stars import fit_stars


def scene(*sources, seed=1, side=63):
    """Noise of 5 about 200, with sources of (profile, x, y), drawn by GalSim."""
    image = galsim.ImageF(side, side, init_value=0.0)
    for profile, x, y in sources:
        profile.drawImage(image, center=(x + 1, y + 1), add_to_image=True, scale=1.0)
    noisy = image.array + np.random.default_rng(seed).normal(200, 5, (side, side))
    return noisy.astype(np.float32), np.ones((side, side), bool)


def star(fwhm, flux=20000.0, beta=3.0):
    return galsim.Moffat(beta=beta, fwhm=fwhm, flux=flux)


@pytest.mark.parametrize(("fwhm", "beta"), [(1.7, 2.3), (2.2, 3.0), (3.7, 8.0)])
def test_finds_place_and_width(fwhm, beta):
    image, usable = scene((star(fwhm, 60000.0, beta), 20.3, 41.6))
    ((x, y, width, slope),) = fit_stars(image, usable, 200.0, 5.0)
    assert (x, y) == (pytest.approx(20.3, abs=0.1), pytest.approx(41.6, abs=0.1))
    assert width == pytest.approx(fwhm, rel=0.03)
    assert slope == pytest.approx(beta, rel=0.25)


def test_brightest_first():
    image, usable = scene((star(2.0), 12, 12), (star(2.0, 40000.0), 45, 40))
    assert [round(x) for x, *_ in fit_stars(image, usable, 200.0, 5.0)] == [45, 12]


@pytest.mark.parametrize(
    "sources",
    [
        [],
        [(star(2.0, 400.0), 30, 30)],  # faint
        [(star(2.0), 3, 30)],  # cut by the edge
        [(star(2.0).shear(g1=0.4, g2=0.0), 30, 30)],  # a trail or a galaxy
        [(star(2.0), 30, 30), (star(2.0, 15000.0), 37, 30)],  # two that touch
        [(star(8.5, 200000.0), 30, 30)],  # wide
        [(star(2.0, -20000.0), 30, 30)],  # a hole
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
    image, usable = scene((star(2.0), 30, 30))
    usable[33, 30] = False
    assert len(fit_stars(image, usable, 200.0, 5.0)) == 0
