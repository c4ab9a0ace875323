from dataclasses import replace

import pytest

from benchmarks.veto_images import Picture, asteroid, blank, sky, trail
from kernels.detection import measure_candidate
from kernels.detection_set import confirmed_class, measure_candidates
from kernels.footprint import Segment
from schemas.dia_source import DetectionFlag

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
