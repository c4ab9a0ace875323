from dataclasses import replace

import numpy as np
import pytest

from benchmarks.pulls import correlated_noise
from benchmarks.veto_images import Picture, asteroid, blank, sky, trail
from kernels.image.noise import Noise
from kernels.image.pixel_state import usable_pixels
from kernels.measure.detection import confirmed_class, measure_candidate, measure_candidates
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from kernels.trails.trail_model import trail_image
from schemas.dia_source import DetectionFlag
from schemas.pixels import MaskPlane

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


LINE = Segment(80.0, 80.0, 140.0, 10.0)


def picture(*sources):
    pixels = asteroid(*LINE, 60000.0).pixels + sum(trail(*place, flux) for *place, flux in sources)
    return Picture(pixels, blank(), LINE)


def measured(image, starts, widths):
    return measure_candidates(image.scene(), image.mask, starts, widths, 3.45)


def test_without_satellites_each_is_measured_by_itself():
    image, starts = picture((60.0, 130.0, 12.0, 40.0, 3000.0)), [LINE, Segment(60.0, 130.0, 12.0, 40.0)]
    for found, start in zip(measured(image, starts, [0.0, 0.0]), starts, strict=True):
        alone = measure_candidate(image.scene(), image.mask, start, 3.45)
        assert found.fit.segment == alone.fit.segment
        assert found.flags == alone.flags


def test_the_light_of_a_satellite_is_no_part_of_what_crosses_it():
    crossing = Segment(80.0, 80.0, 50.0, 95.0)
    image = picture((*crossing, 6000.0))
    across, satellite = measured(image, [crossing, LINE], [0.0, 9.0])
    assert across.flags & DetectionFlag.SATELLITE
    assert across.trail.value == pytest.approx(6000, abs=5 * across.trail.error)
    assert across.fit.segment.length == pytest.approx(50, abs=2)
    assert satellite.fit.segment.length == pytest.approx(140, abs=2)
    assert not satellite.flags & DetectionFlag.SATELLITE


def test_what_is_far_from_it_has_no_flag():
    far, _ = measured(picture((60.0, 120.0, 12.0, 40.0, 3000.0)), [Segment(60.0, 120.0, 12.0, 40.0), LINE], [0.0, 9.0])
    assert not far.flags & DetectionFlag.SATELLITE
    assert far.trail.value == pytest.approx(3000, abs=5 * far.trail.error)


def test_a_fit_that_settles_on_one_flash_has_failed_and_the_line_stays():
    flash = Picture(sky() + trail(50.0, 80.0, 40.0, 0.0, 8000.0), blank(), LINE)
    line = Segment(60.0, 80.0, 75.0, 0.0)
    assert measured(flash, [line], [0.0])[0].fit.segment.length < 45
    (found,) = measured(flash, [line], [4.6])
    assert found.flags & DetectionFlag.FIT_FAILED
    assert found.fit.segment == line


@pytest.mark.parametrize(
    ("cause", "satellite", "flashes"),
    [
        ({}, True, True),
        ({"ghost": 1.2}, False, True),
        ({"cosmic_ray": 1.0}, False, False),
        ({"spike": 2.0}, True, True),
    ],
)
def test_what_is_something_else_loses_its_class(cause, satellite, flashes):
    (found,) = measured(picture(), [LINE], [9.0])
    clear = found.evidence._replace(**dict.fromkeys(found.evidence._fields, 0.0))
    found = replace(found, evidence=clear._replace(**cause))
    assert bool(confirmed_class(found, "satellite")) == satellite
    assert bool(confirmed_class(found, "glint_trail")) == flashes
    assert confirmed_class(found, "") == ""
