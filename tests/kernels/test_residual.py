import math

import galsim
import numpy as np
import pytest

from kernels.footprint import Segment
from kernels.psf import moffat_mixture
from kernels.residual import residual_features
from kernels.sandwich import Noise
from kernels.scene import Scene, view
from kernels.trail_fit import TrailFit
from kernels.trail_model import trail_image
from schemas.reliability import RESIDUALS

SHAPE = (61, 71)
FWHM = 2.4
PSF = moffat_mixture(FWHM, 3.0)
POINT = Segment(35.3, 30.2, 0.0, 0.0)
TRAIL = Segment(35.3, 30.2, 14.0, 30.0)
SIGMA = 2.0
FLUX = 2000.0
MISFITS = [name for name in RESIDUALS if name.endswith("misfit")]
AMPLITUDES = [name for name in RESIDUALS if not name.endswith("misfit")]


def of(pixels, segment=POINT, flux=FLUX, usable=None):
    """Features of the residual of a fit that gave this trail, on a level of 0."""
    usable = np.ones(SHAPE, bool) if usable is None else usable
    scene = Scene(pixels.astype(np.float32), usable, PSF, FWHM, Noise(SIGMA, np.ones((1, 1)), np.inf))
    seen = view(scene, segment, 3.5 * FWHM)
    fit = TrailFit(flux, segment, 0.0, np.full((5, 5), np.nan), np.nan, 0.0, 0, True, seen)
    found = residual_features(scene, fit, flux)
    assert found.dtype == np.float32
    return dict(zip(RESIDUALS, found.tolist(), strict=True))


def modelled(segment):
    return trail_image(SHAPE, *segment[:4], PSF)


def star(fwhm=FWHM, dx=0.0):
    """Draw the point source by GalSim."""
    profile = galsim.Moffat(beta=3.0, fwhm=fwhm, flux=FLUX)
    offset = galsim.PositionD(POINT.x + dx - (SHAPE[1] - 1) / 2, POINT.y - (SHAPE[0] - 1) / 2)
    return profile.drawImage(nx=SHAPE[1], ny=SHAPE[0], scale=1.0, offset=offset).array.astype(np.float64)


def noise(seed=0):
    return np.random.default_rng(seed).normal(0, SIGMA, SHAPE)


@pytest.mark.parametrize("segment", [POINT, TRAIL], ids=["point", "trail"])
def test_a_perfect_model_leaves_white_noise(segment):
    light = FLUX * modelled(segment)
    drawn = [of(light + noise(seed), segment) for seed in range(300)]
    for name in MISFITS:
        if name == "dark_misfit":  # half of the noise is dark
            assert np.mean([math.expm1(one[name]) for one in drawn]) == pytest.approx(0.5, abs=0.03)
        else:
            assert np.mean([math.exp(one[name]) for one in drawn]) == pytest.approx(1, abs=0.08)
    for name in AMPLITUDES:
        if name == "hollowness" and not segment.length:
            continue  # of a point: its two sides of a pixel or two
        assert np.mean([one[name] ** 2 for one in drawn]) == pytest.approx(1, abs=0.33)


def test_a_star_with_the_right_psf_is_no_misfit():
    found = of(star() + noise())
    assert max(abs(found[name]) for name in MISFITS) < 0.6
    assert max(abs(found[name]) for name in AMPLITUDES) < 4


@pytest.mark.parametrize(("width", "sign"), [(1.35, 1), (0.75, -1)])
def test_a_star_of_another_width_is_broad_or_narrow(width, sign):
    found = of(star(width * FWHM) + noise())
    assert sign * found["broadness"] > 10
    assert found["core_misfit"] > 2
    assert found["far_misfit"] < 1


def test_a_shifted_star_is_brighter_on_one_side():
    found = of(star(dx=0.4) + noise())
    assert found["imbalance"] > 10
    assert found["near_misfit"] > 1.5
    assert abs(found["broadness"]) < 0.5 * found["imbalance"]


@pytest.mark.parametrize(("name", "other", "axis"), [("ringing_x", "ringing_y", 1), ("ringing_y", "ringing_x", 0)])
def test_ringing_goes_by_columns_or_by_rows(name, other, axis):
    signs = 1 - 2 * (np.indices(SHAPE)[axis] % 2)
    found = of(star() * (1 + 0.3 * signs) + noise())
    assert found[name] > 15
    assert found[other] < 5


def test_light_that_was_subtracted_has_left_its_noise():
    rng = np.random.default_rng(5)
    light = star()
    spread = np.sqrt(SIGMA**2 + light / light.max() * (6 * SIGMA) ** 2)
    drawn = [of(light + rng.normal(0, spread)) for _ in range(20)]
    peak, near, far = (np.mean([one[f"{name}_misfit"] for one in drawn]) for name in ("peak", "near", "far"))
    assert min(one["peak_misfit"] for one in drawn) > 0.7
    assert peak > near > 1 > 0.5 > far


def test_a_halo_and_a_dark_ring():
    wide = galsim.Gaussian(fwhm=3 * FWHM, flux=0.4 * FLUX).drawImage(
        nx=SHAPE[1], ny=SHAPE[0], scale=1.0, offset=galsim.PositionD(0.3, 0.2)
    )
    assert of(star() + wide.array + noise())["halo"] > 10
    dark = of(star() - wide.array + noise())
    assert dark["halo"] < -10
    assert dark["dark_misfit"] > of(star() + noise())["dark_misfit"] + 1


def test_a_trail_that_is_two_points_is_hollow():
    along = np.cos(np.radians(30)), np.sin(np.radians(30))
    ends = [Segment(TRAIL.x + s * along[0], TRAIL.y + s * along[1], 0.0, 0.0) for s in (-6, 6)]
    found = of(FLUX / 2 * sum(modelled(end) for end in ends) + noise(), TRAIL)
    assert found["hollowness"] > 10
    assert found["imbalance"] < 4


def test_without_a_usable_pixel_there_is_nothing_to_say():
    found = of(noise(), usable=np.zeros(SHAPE, bool))
    assert set(found.values()) == {0.0}


def test_what_is_unusable_does_not_count():
    usable = np.random.default_rng(1).random(SHAPE) > 0.2
    pixels = star() + noise()
    spoilt = np.where(usable, pixels, 1e6)
    assert of(spoilt, usable=usable) == of(np.where(usable, pixels, 0), usable=usable)
