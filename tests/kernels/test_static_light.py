import numpy as np
import pytest

from kernels.footprint import Segment
from kernels.psf import moffat_mixture
from kernels.sandwich import Noise
from kernels.scene import Scene
from kernels.static_light import static_light
from kernels.trail_model import trail_image
from schemas.reliability import STATIC, UNKNOWN

SHAPE, FWHM, SIGMA = (120, 140), 2.4, 3.0
PSF = moffat_mixture(FWHM, 3.0)
POINT, TRAIL = Segment(40.3, 60.2, 0.0, 0.0), Segment(90.0, 50.0, 30.0, 20.0)


def light(flux, segment, psf=PSF):
    return flux * trail_image(SHAPE, *segment, psf)


def scene_of(difference, usable=None):
    whole = np.ones(SHAPE, bool) if usable is None else usable
    noise = Noise(SIGMA, np.ones((1, 1)))
    return Scene(difference.astype(np.float32), whole, PSF, FWHM, noise, background=1.5)


@pytest.fixture
def noise():
    return np.random.default_rng(3).normal(1.5, SIGMA, SHAPE)


def of(scene, science, segment):
    science = None if science is None else science.astype(np.float32)
    return dict(zip(STATIC, static_light(scene, science, [segment])[0].tolist(), strict=True))


@pytest.mark.parametrize("segment", [POINT, TRAIL], ids=["point", "trail"])
@pytest.mark.parametrize("sky", [0.0, 900.0])
def test_what_came_into_the_light_by_itself_has_none_beneath(noise, segment, sky):
    difference = noise + light(2000, segment)
    found = of(scene_of(difference), difference + sky, segment)
    assert found == {"log_static": 0.0, "log_static_peak": 0.0, "static_unknown": 0.0}


def test_a_science_image_of_another_sharpness_and_scale_is_granted(noise):
    difference = noise + light(3000, POINT)
    science = noise + 500 + 1.1 * light(3000, POINT, moffat_mixture(1.06 * FWHM, 3.0))
    assert of(scene_of(difference), science, POINT)["log_static"] < 0.5


@pytest.mark.parametrize("flux", [1e4, 3e5])
def test_a_star_beneath_is_told_in_units_of_the_noise(noise, flux):
    star, residual = light(flux, POINT), light(0.02 * flux, POINT)
    found = of(scene_of(noise + residual), noise + residual + star + 700, POINT)
    unit = light(1, POINT)
    mean = (1 - 0.3 * 0.02) * flux * (unit**2).sum() / SIGMA
    assert np.expm1(found["log_static"]) == pytest.approx(mean, rel=0.1)
    assert np.expm1(found["log_static_peak"]) == pytest.approx(flux * unit.max() / SIGMA, rel=0.05)


def test_a_star_beneath_a_part_of_a_trail_shows_in_the_peak(noise):
    star = light(20000, Segment(100.0, 53.5, 0.0, 0.0))
    found = of(scene_of(noise + light(3000, TRAIL)), noise + light(3000, TRAIL) + star, TRAIL)
    assert found["log_static_peak"] > found["log_static"] + 1 > 1


def test_unknown_where_nothing_tells(noise):
    unknown = dict(zip(STATIC, UNKNOWN, strict=True))
    science = noise + 100
    assert of(scene_of(noise), None, POINT) == unknown
    science[50:70, 40:] = np.nan
    assert of(scene_of(noise), science, POINT) == unknown
    hidden = np.ones(SHAPE, bool)
    hidden[:, 40:] = False
    assert of(scene_of(noise, hidden), noise + 100, POINT) == unknown
    assert of(scene_of(noise), noise, Segment(-60.0, -60.0, 0.0, 0.0)) == unknown
    assert static_light(scene_of(noise), noise.astype(np.float32), []).shape == (0, len(STATIC))
