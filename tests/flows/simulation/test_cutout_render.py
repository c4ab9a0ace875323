import galsim
import numpy as np
import pytest

from flows.simulation.cutout_render import pixel_waves, render, waves


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.3, -0.4), (-5.2, 6.7)])
@pytest.mark.parametrize("side", [20, 26])
def test_draws_what_galsim_draws(side, x, y):
    psf = galsim.Moffat(beta=3.0, fwhm=0.7).shear(g1=0.03, g2=-0.02)
    profile = galsim.Convolve(galsim.Exponential(scale_radius=0.4).shear(g1=0.3, g2=0.1), psf)
    ours = render(waves(profile, 0.2) * pixel_waves(0.2), side, x, y)
    theirs = profile.drawImage(nx=side, ny=side, scale=0.2, offset=(x + 0.5, y + 0.5)).array
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_transforms_of_psf_and_galaxy_multiply():
    psf, disc = galsim.Kolmogorov(fwhm=0.8), galsim.Exponential(scale_radius=0.5)
    apart = waves(psf, 0.2) * waves(disc, 0.2)
    np.testing.assert_allclose(apart, waves(galsim.Convolve(psf, disc), 0.2), atol=1e-4)
