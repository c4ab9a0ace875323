import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.detection.veto_images import Picture, asteroid, blank, sky, trail
from benchmarks.measurement.pulls import correlated_noise
from kernels.image.noise import Noise
from kernels.image.pixel_state import usable_pixels
from kernels.measure.detection import (
    _fit_flags,
    _footprint_flags,
    confirmed_class,
    measure_candidate,
    measure_candidates,
)
from kernels.measure.photometry import Flux, point_or_trail
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import DetectedSegment, Segment
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


def measured(image, starts, widths, snr=1000.0):
    return measured_all(image, [DetectedSegment(*start, snr) for start in starts], widths)


def measured_all(image, trails, widths, flashes=False):
    return measure_candidates(image.scene(), image.mask, trails, widths, 3.45, [flashes] * len(trails))


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


def test_the_light_of_a_faint_line_stays_beneath_what_outshines_it():
    point = Segment(90.0, 80.0 + 10 * math.tan(math.radians(10)), 0.0, 0.0)
    image = Picture(sky() + trail(*LINE, 1500.0) + trail(*point, 3000.0), blank(), LINE)
    trails = [DetectedSegment(*LINE, 13.0), DetectedSegment(*point, 40.0), DetectedSegment(30.0, 130.0, 0.0, 0.0, 8.0)]
    _, found, _ = measured_all(image, trails, [9.0, 0.0, 0.0])
    assert found.fit.segment.distance(point.x, point.y) < 0.3
    assert found.trail.value == pytest.approx(3000, abs=5 * found.trail.error)
    assert found.flags & DetectionFlag.SATELLITE
    hidden = trails[1]._replace(snr=4.0)  # as it is said to be
    _, lost, _ = measured_all(image, [trails[0], hidden, trails[2]], [9.0, 0.0, 0.0])
    assert not lost.fit.converged or lost.snr < 8


def test_flashes_in_line_keep_to_it():
    """A line of one brightness fits them nowhere: where it wanders off, the first and the last flash are known."""
    line = Segment(80.0, 80.0, 128.0, 37.6)
    cosine, sine = math.cos(math.radians(37.6)), math.sin(math.radians(37.6))
    dashes = [(80 + at * cosine, 80 + at * sine, 6.0, 37.6, 3000.0) for at in (-61.0, 0.0, 61.0)]
    star = (80 - 55 * cosine + 12 * sine, 80 - 55 * sine - 12 * cosine, 0.0, 0.0, 12000.0)
    image = Picture(sky() + sum(trail(*place, flux) for *place, flux in (*dashes, star)), blank(), line)
    (free,), (kept,) = (measured_all(image, [DetectedSegment(*line, 60.0)], [9.0], one) for one in (False, True))
    assert free.snr < 0.1 * kept.snr
    assert kept.fit.segment == line
    assert DetectionFlag.FIT_FAILED in kept.flags
    steady = [measured_all(picture(), [DetectedSegment(*LINE, 60.0)], [9.0], one)[0] for one in (False, True)]
    assert steady[0].fit.segment == steady[1].fit.segment


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


EMPTY = Scene(np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool), PSF, 2.0, Noise(10.0, np.ones((1, 1))))


def footprint(segment, planes=(), usable=(), scene=EMPTY, margin=3.0):
    """Share of unusable pixels, and flags, for pixels (row, column) -> plane and others without a value."""
    mask, seen = np.zeros(SHAPE, np.uint16), scene.usable.copy()
    for (row, column), plane in dict(planes).items():
        mask[row, column] = plane
        seen[row, column] = False
    for row, column in usable:
        seen[row, column] = False
    return _footprint_flags(scene._replace(usable=seen), mask, segment, margin)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("far", [False, True])
def test_an_aperture_that_reaches_over_the_border_is_at_the_edge(turned, far):
    ny, nx = SHAPE
    size = ny if turned else nx
    for distance, flags in ((3.0, DetectionFlag(0)), (2.99, DetectionFlag.EDGE)):
        near = size - 1 - distance if far else distance
        place = Segment(50.0, near, 6.0, 0.0) if turned else Segment(near, 50.0, 6.0, 90.0)
        ends = near + (3.0 if not far else -3.0)
        along = Segment(50.0, ends, 6.0, 90.0) if turned else Segment(ends, 50.0, 6.0, 0.0)
        assert footprint(place)[1] == footprint(along)[1] == flags


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("far", [False, True])
def test_a_trail_that_ends_within_half_a_fwhm_of_the_border_crosses_it(turned, far):
    ny, nx = SHAPE
    size = ny if turned else nx
    for distance, length, crosses in ((0.99, 5.0, True), (1.0, 5.0, False), (0.5, 4.0, False), (0.99, 4.01, True)):
        middle = size - 1 - distance - length / 2 if far else distance + length / 2
        place = Segment(50.0, middle, length, 90.0) if turned else Segment(middle, 50.0, length, 0.0)
        assert (DetectionFlag.CROSSES_DETECTOR in footprint(place)[1]) == crosses


def test_a_trail_longer_than_a_quarter_of_the_shorter_side_crosses_the_detector():
    for length, flags in ((27.5, DetectionFlag(0)), (27.6, DetectionFlag.CROSSES_DETECTOR)):
        assert footprint(Segment(60.0, 55.0, length, 0.0))[1] == flags
        assert footprint(Segment(60.0, 55.0, length, 90.0))[1] == flags


def test_flags_of_a_footprint_are_those_of_the_pixels_within_the_aperture():
    point = Segment(60.0, 50.0, 0.0, 0.0)
    inside, outside = (53, 60), (54, 60)
    count = np.count_nonzero(np.hypot(*np.mgrid[-5:6, -5:6]) <= 3)
    for plane, flag in (
        (MaskPlane.EDGE, DetectionFlag.EDGE),
        (MaskPlane.SAT, DetectionFlag.SATURATED),
        (MaskPlane.BAD, DetectionFlag.MASKED),
    ):
        assert footprint(point, {inside: plane}) == (pytest.approx(1 / count), flag)
        assert footprint(point, {outside: plane}) == (0.0, DetectionFlag(0))
    assert footprint(point, usable=[inside]) == (pytest.approx(1 / count), DetectionFlag.MASKED)
    both = footprint(point, {inside: MaskPlane.SAT, (52, 60): MaskPlane.BAD})
    assert both == (pytest.approx(2 / count), DetectionFlag.SATURATED | DetectionFlag.MASKED)
    assert footprint(Segment(-50.0, -50.0, 0.0, 0.0))[0] == 1


def test_nine_inner_pixels_of_a_masked_area_nearby_are_a_bright_star():
    fit = replace(measure().fit, segment=Segment(60.0, 50.0, 0.0, 0.0), converged=True)
    assert _fit_flags(EMPTY, replace(fit, converged=False)) == DetectionFlag.FIT_FAILED
    for side, near in ((5, True), (4, False)):  # 3 by 3 or 2 by 2 with eight masked neighbours each
        usable = np.ones(SHAPE, bool)
        usable[50 : 50 + side, 66 : 66 + side] = False
        flags = _fit_flags(EMPTY._replace(usable=usable), fit)
        assert flags == (DetectionFlag.NEAR_BRIGHT_STAR if near else 0)
    for column, near in ((71, True), (72, False)):  # all of the nine within 10 px and 2.5 FWHM, or not
        usable = np.ones(SHAPE, bool)
        usable[48:53, column : column + 5] = False
        flags = _fit_flags(EMPTY._replace(usable=usable), fit)
        assert (DetectionFlag.NEAR_BRIGHT_STAR in flags) == near


def test_what_shines_is_bright_with_an_error_and_at_most_twice_as_dark():
    found = measure()
    flux = found.trail
    for value, error, dark, shines in (
        (1e-3, 1.0, 0.0, True),
        (0.0, 1.0, 0.0, False),
        (-1.0, 1.0, 0.0, False),
        (5.0, np.inf, 0.0, False),
        (5.0, np.nan, 0.0, False),
        (5.0, 1.0, 2.0, True),
        (5.0, 1.0, 2.01, False),
        (5.0, 1.0, np.nan, True),  # neither bright nor dark pixels
    ):
        one = replace(found, trail=flux._replace(value=value, error=error), negative_fraction=dark)
        assert one.shines == shines


def test_a_fit_has_failed_where_it_ends_shorter_than_it_must():
    pixels = 10 * NOISE + 3000 * trail_image(SHAPE, *TRAIL, PSF)
    scene = EMPTY._replace(pixels=pixels.astype(np.float32), fwhm_px=2.3)
    mask = np.zeros(SHAPE, np.uint16)
    length = measure_candidate(scene, mask, TRAIL, 3.45).fit.segment.length
    assert measure_candidate(scene, mask, TRAIL, 3.45, length).fit.converged
    failed = measure_candidate(scene, mask, TRAIL, 3.45, np.nextafter(length, 99))
    assert DetectionFlag.FIT_FAILED in failed.flags
    assert failed.fit.segment == TRAIL


def test_a_point_that_is_fitted_as_one_has_not_failed():
    point = Segment(60.0, 50.0, 0.0, 0.0)
    found = measure(((point, 20000.0),), start=point)
    assert found.fit.converged
    assert found.fit.segment.length < 1


@pytest.mark.parametrize(("share", "kept"), [(0.95, True), (0.4, False)])
def test_a_satellite_whose_fit_keeps_little_of_its_length_has_failed(share, kept):
    light = Segment(80.0, 80.0, 140.0 * share, 10.0)
    image = Picture(asteroid(*light, 60000.0).pixels, blank(), LINE)
    (found,) = measured(image, [LINE], [9.0])
    assert found.fit.converged is kept


def test_the_signal_is_the_larger_one_that_has_an_error():
    found, nothing = measure(), Flux(9.0, math.nan)
    for matched, psf, snr in (
        (Flux(9.0, 1.0), Flux(8.0, 2.0), 9.0),
        (Flux(9.0, 3.0), Flux(8.0, 2.0), 4.0),
        (Flux(9.0, 0.0), Flux(8.0, 2.0), 4.0),
        (nothing, Flux(8.0, 2.0), 4.0),
        (nothing, nothing, 0.0),
    ):
        assert replace(found, matched=matched, psf=psf).snr == snr


def test_the_light_is_that_of_point_or_trail_as_far_as_they_are_known():
    found = measure()
    assert found.light == point_or_trail(found.psf, found.trail)
    for error in (0.0, math.nan):
        assert replace(found, psf=found.psf._replace(error=error)).light == found.trail
    failed = replace(found, fit=replace(found.fit, converged=False)).light
    assert failed.value == found.trail.value
    assert math.isnan(failed.error)
