import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.moffat_fit import fit_moffat


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
