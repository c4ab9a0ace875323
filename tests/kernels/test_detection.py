import numpy as np
import pytest

from benchmarks.pulls import correlated_noise
from kernels.detection import measure_candidate
from kernels.footprint import Segment
from kernels.psf import moffat_mixture
from kernels.sandwich import Noise
from kernels.scene import Scene
from kernels.trail_model import trail_image
from kernels.usable import usable_pixels
from schemas.dia_source import DetectionFlag
from schemas.mask import MaskPlane

PSF = moffat_mixture(2.3, 3.0)
SHAPE = (110, 120)
NOISE, CORRELATION = correlated_noise(np.random.default_rng(9), SHAPE)
TRAIL = Segment(60.2, 50.7, 14.0, 30.0)


def measure(trails=((TRAIL, 3000.0),), mask=None, start=TRAIL):
    mask = np.zeros(SHAPE, np.uint16) if mask is None else mask
    pixels = 10 * NOISE + sum(flux * trail_image(SHAPE, *segment, PSF) for segment, flux in trails)
    pixels = pixels.astype(np.float32)
    scene = Scene(pixels, usable_pixels(pixels, mask), PSF, 2.3, Noise(10.0, CORRELATION))
    return measure_candidate(scene, mask, start, 3.45)


def disc(x, y, radius, plane):
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.where(np.hypot(column - x, row - y) < radius, np.uint16(plane), np.uint16(0))


def test_a_clean_trail_has_no_flags_and_three_fluxes_that_agree_with_what_it_is():
    found = measure()
    assert found.flags == 0
    assert found.trail.value == pytest.approx(3000, abs=4 * found.trail.error)
    assert found.aperture.value == pytest.approx(0.93 * 3000, abs=4 * found.aperture.error)
    assert found.psf.value < 0.5 * found.trail.value
    assert found.psf.chi2 > found.trail.chi2 + 50
    assert found.sharpness == pytest.approx(1, abs=0.15)
    assert found.negative_fraction < 0.1
    assert found.masked_fraction == 0


def test_a_point_is_the_same_by_either_fit():
    point = Segment(60.2, 50.7, 0.0, 0.0)
    found = measure(((point, 2500.0),), start=point)
    assert found.psf.value == pytest.approx(2500, abs=4 * found.psf.error)
    assert found.trail.value == pytest.approx(found.psf.value, rel=0.15)
    assert found.flags == 0


def test_dipole():
    other = TRAIL._replace(x=62.0, y=52.5, length=0.0)
    found = measure(((other._replace(x=60, y=50.5), 3000.0), (other, -3000.0)))
    assert found.flags & DetectionFlag.DIPOLE


@pytest.mark.parametrize(
    ("plane", "flag"),
    [
        (MaskPlane.SAT, DetectionFlag.SATURATED),
        (MaskPlane.BAD, DetectionFlag.MASKED),
        (MaskPlane.NO_DATA, DetectionFlag.MASKED),
        (MaskPlane.EDGE, DetectionFlag.EDGE),
    ],
)
def test_masked_pixels_in_the_footprint(plane, flag):
    mask = np.zeros(SHAPE, np.uint16)
    mask[50:52, 63] = plane
    found = measure(mask=mask)
    assert found.flags == flag
    assert 0 < found.masked_fraction < 0.05


def test_planes_that_say_something_but_not_of_a_fault_raise_no_flag():
    mask = np.full(SHAPE, MaskPlane.DETECTED | MaskPlane.SUSPECT | MaskPlane.STREAK, np.uint16)
    assert measure(mask=mask).flags == 0


def test_near_a_bright_star_and_not_near_a_bad_column():
    assert measure(mask=disc(66, 66, 6, MaskPlane.SAT)).flags == DetectionFlag.NEAR_BRIGHT_STAR
    assert measure(mask=disc(20, 100, 6, MaskPlane.SAT)).flags == 0
    column = np.zeros(SHAPE, np.uint16)
    column[:, 72:74] = MaskPlane.BAD
    assert not measure(mask=column).flags & DetectionFlag.NEAR_BRIGHT_STAR


def test_at_the_edge():
    corner = Segment(6.0, 50.0, 8.0, 0.0)
    assert measure(((corner, 3000.0),), start=corner).flags == DetectionFlag.EDGE


def test_across_the_image():
    long = Segment(60, 50, 200, 20)
    found = measure(((long, 30000.0),), start=long._replace(length=80))
    assert found.flags & DetectionFlag.CROSSES_DETECTOR
    assert found.flags & DetectionFlag.EDGE


def test_where_nothing_can_be_fitted_the_first_estimate_stays():
    found = measure(mask=np.full(SHAPE, MaskPlane.NO_DATA, np.uint16))
    assert found.flags & DetectionFlag.FIT_FAILED
    assert found.fit.segment == TRAIL
    assert np.isnan(found.trail.value)
    assert found.masked_fraction == 1
