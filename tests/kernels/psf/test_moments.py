import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.psf.moments import adaptive_moments

SIDE = 26


def drawn(profile, x=0.0, y=0.0):
    return (
        profile.drawImage(nx=SIDE, ny=SIDE, scale=1.0, offset=(x, y), method="no_pixel").array[None].astype(np.float32)
    )


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(1.0, 3.5), x=st.floats(-1.5, 1.5), y=st.floats(-1.5, 1.5), flux=st.floats(1, 1e5))
def test_finds_a_gaussian(sigma, x, y, flux):
    found = adaptive_moments(drawn(flux * galsim.Gaussian(sigma=sigma), x, y))
    assert found.sigma[0] == pytest.approx(sigma, rel=0.01)
    assert (found.x[0], found.y[0]) == pytest.approx((x, y), abs=0.02)
    assert found.flux[0] == pytest.approx(flux / 2, rel=0.02)  # a Gaussian under its own weight
    assert found.fourth[0] == pytest.approx(2, abs=0.03)
    assert (found.e1[0], found.e2[0]) == pytest.approx((0, 0), abs=0.01)


@pytest.mark.parametrize(("g1", "g2"), [(0.2, 0.0), (0.0, 0.2), (-0.1, 0.1)])
def test_shape_points_as_the_profile_does(g1, g2):
    image = drawn(galsim.Gaussian(sigma=2.0).shear(g1=g1, g2=g2))
    found = adaptive_moments(image)
    assert np.sign(np.round([found.e1[0], found.e2[0]], 3)).tolist() == np.sign([g1, g2]).tolist()
    theirs = galsim.hsm.FindAdaptiveMom(galsim.Image(image[0]))
    assert found.sigma[0] == pytest.approx(theirs.moments_sigma, rel=0.05)


def test_wings_raise_the_fourth_moment():
    peaked = adaptive_moments(drawn(galsim.Moffat(beta=2.2, fwhm=4.0)))
    assert peaked.fourth[0] > 2.1


def test_nothing_has_no_flux():
    found = adaptive_moments(np.stack([np.zeros((SIDE, SIDE)), -np.ones((SIDE, SIDE))]).astype(np.float32))
    assert (found.flux <= 0).all()
    assert all(np.isfinite(one).all() for one in found)


def test_a_neighbour_at_the_edge_does_not_move_it():
    alone = drawn(galsim.Gaussian(sigma=1.5))
    beside = alone + drawn(galsim.Gaussian(sigma=1.5), 9, 9)
    one, other = adaptive_moments(alone), adaptive_moments(beside)
    assert other.sigma[0] == pytest.approx(one.sigma[0], rel=0.02)
