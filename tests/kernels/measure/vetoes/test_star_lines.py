import math

import numpy as np
import pytest

from benchmarks.detection.veto_images import SIDE, Picture, X, Y, asteroid, blank, bleed, masked_star, sky, spike, trail
from kernels.image.noise import Noise
from kernels.measure.vetoes import star_lines
from kernels.measure.vetoes.star_lines import bleed_evidence, spike_evidence, star_on_axis
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.pixels import MaskPlane


def evidence(mask, trail, light=0.0):
    on_line = (np.abs(Y - trail.y) <= 1) & (X > 40)
    picture = Picture(sky() + np.where(on_line, light, 0), mask, trail)
    return star_on_axis(picture.scene(), mask, trail, 0.3, 0.0)


def disc(x, y, radius):
    return np.where(np.hypot(X - x, Y - y) <= radius, np.uint16(MaskPlane.SAT), np.uint16(0))


def test_falls_with_the_distance_from_the_middle():
    offsets = [0.0, 2.0, 3.0, 5.0, 8.0]
    found = [evidence(disc(40, 80 + offset, 10), Segment(75.0, 80.0, 20.0, 0.0), 50.0) for offset in offsets]
    assert found == sorted(found, reverse=True)
    assert found[0] == 2
    assert found[-1] < 0.6


def test_light_must_lead_up_to_the_mask():
    trail = Segment(75.0, 80.0, 20.0, 0.0)
    assert evidence(disc(40, 80, 10), trail, 50.0) >= 1
    assert evidence(disc(40, 80, 10), trail, 0.0) < 0.5


def test_a_trail_that_runs_into_the_mask_needs_no_bridge():
    assert evidence(disc(60, 80, 10), Segment(66.0, 80.0, 30.0, 0.0), 0.0) >= 1


@pytest.mark.parametrize("radius", [1.0, 1.5])
def test_thin_areas_are_no_stars(radius):
    assert evidence(disc(60, 80, radius), Segment(75.0, 80.0, 20.0, 0.0), 50.0) == 0


def test_areas_at_the_border_are_no_stars():
    assert evidence(disc(2, 80, 10), Segment(24.0, 80.0, 20.0, 0.0), 50.0) == 0
    mask = disc(40, 80, 10) | np.where(X < 38, np.uint16(MaskPlane.EDGE), np.uint16(0))
    assert evidence(mask, Segment(75.0, 80.0, 20.0, 0.0), 50.0) == 0


def test_far_areas_do_not_count():
    assert evidence(disc(15, 80, 5), Segment(140.0, 80.0, 20.0, 0.0), 50.0) == 0
    assert SIDE > 150


def evidence_bleed(picture):
    return bleed_evidence(picture.scene(), picture.mask, picture.trail, 0.0)


def test_charge_on_the_column_of_a_star():
    assert evidence_bleed(bleed()) >= 1


def test_a_knot_of_it_counts_whatever_its_angle():
    assert evidence_bleed(bleed()._replace(trail=Segment(61.0, 104.0, 2.0, 10.0))) >= 1


def test_an_asteroid_across_the_column_is_none():
    picture = Picture(sky() + trail(61, 112, 30, 20, 4000), masked_star(), Segment(61.0, 112.0, 30.0, 20.0))
    assert evidence_bleed(picture) == 0


def test_an_asteroid_along_the_column_with_empty_sky_below_is_none():
    picture = Picture(sky() + trail(60, 130, 20, 90, 4000), masked_star(), Segment(60.0, 130.0, 20.0, 90.0))
    assert evidence_bleed(picture) < 1


def test_an_asteroid_along_another_column_is_none():
    picture = Picture(sky() + trail(78, 80, 25, 90, 4000), masked_star(), Segment(78.0, 80.0, 25.0, 90.0))
    assert evidence_bleed(picture) == 0


def test_a_masked_bad_column_and_the_border_are_no_stars():
    column, border = blank(), blank()
    column[:60, 80] = MaskPlane.BAD
    border[:60] = MaskPlane.EDGE
    pixels = sky() + trail(80, 72, 22, 90, 4000)
    for mask in (column, border):
        assert evidence_bleed(Picture(pixels, np.asarray(mask), Segment(80.0, 72.0, 22.0, 90.0))) == 0


def evidence_spike(picture):
    return spike_evidence(picture.scene(), picture.mask, picture.trail, 0.0)


@pytest.mark.parametrize("angle", [0.0, 25.0, 45.0, 77.0])
def test_spikes_of_any_direction(angle):
    assert evidence_spike(spike(angle)) >= 1


def test_a_knot_further_out_on_a_spike_counts_because_light_leads_up_to_the_star():
    picture = spike(25.0)
    far = picture._replace(trail=Segment(60 + 45 * 0.906, 80 + 45 * 0.423, 12.0, 25.0))
    assert evidence_spike(far) >= 1


def test_an_asteroid_that_points_at_a_star_from_afar_is_none():
    x = 60 + 12 + 14 + 10  # 14 px of empty sky between the mask and its near end
    picture = Picture(sky() + trail(x, 80, 20, 0, 4000), masked_star(), Segment(x, 80.0, 20.0, 0.0))
    assert evidence_spike(picture) < 1


@pytest.mark.parametrize("angle", [60.0, 90.0, 120.0])
def test_an_asteroid_beside_a_star_that_does_not_point_at_it_is_none(angle):
    picture = Picture(sky() + trail(84, 80, 25, angle, 4000), masked_star(), Segment(84.0, 80.0, 25.0, angle))
    assert evidence_spike(picture) == 0


def test_no_star_no_spike():
    assert evidence_spike(asteroid()) == 0


def test_a_point_has_no_direction():
    assert evidence_spike(spike()._replace(trail=Segment(80.0, 89.0, 1.0, 25.0))) == 0


def block(columns, rows, plane=MaskPlane.SAT):
    """Mask of a rectangle: first and last column, first and last row."""
    inside = (columns[0] <= X) & (columns[1] >= X) & (rows[0] <= Y) & (rows[1] >= Y)
    return np.where(inside, np.uint16(plane), np.uint16(0))


LINE = Segment(75.0, 80.0, 20.0, 0.0)  # from x = 65 to 85


def seen_from_all_sides(mask, pixels=None, axis=LINE, slack=0.3, fwhm=2.0):
    """Evidence, which is the same in whichever of four directions the star lies, and in a mirror."""
    pixels = np.where(abs(Y - 80) <= 1, 50, 0) if pixels is None else pixels
    found = []
    for mirrored in (False, True):
        for turns in range(4):
            turned = [np.rot90(one[::-1] if mirrored else one, turns).copy() for one in (pixels, mask)]
            place = (axis.x - 80 + (80 - axis.y if mirrored else axis.y - 80) * 1j) * (-1j) ** turns
            angle = (-axis.angle if mirrored else axis.angle) - 90 * turns
            there = Segment(place.real + 80, place.imag + 80, axis.length, angle)
            usable = turned[1] == 0
            scene = Scene(turned[0].astype(np.float32), usable, moffat_mixture(fwhm, 3.0), fwhm, Noise(10.0, np.eye(1)))
            found.append(star_on_axis(scene, turned[1], there, slack, 0.0))
    assert found == pytest.approx([found[0]] * 8)
    return found[0]


@pytest.mark.parametrize(
    ("columns", "rows", "expected"),
    [
        ((56, 60), (76, 84), 2.0),
        ((57, 60), (76, 84), 0.0),  # 4 px deep
        ((52, 60), (78, 82), 2.0),
        ((52, 60), (79, 82), 0.0),  # 4 px wide
    ],
)
def test_a_star_is_at_least_5_px_thick_both_ways(columns, rows, expected):
    assert seen_from_all_sides(block(columns, rows)) == expected


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 8])
def test_evidence_falls_with_the_distance_from_the_middle_of_the_star(offset):
    # 21 px wide: 0.3 of its half width is allowed, and twice that over the offset is given.
    assert seen_from_all_sides(block((40, 60), (70 + offset, 90 + offset))) == pytest.approx(
        min(2, 3.15 / max(offset, 1))
    )


def test_small_stars_may_be_a_fwhm_beside_the_line():
    assert seen_from_all_sides(block((52, 60), (76, 90)), slack=0.1, fwhm=3.0) == pytest.approx(1)  # 3 px beside it


@pytest.mark.parametrize(
    ("columns", "rows", "fwhm", "found"),
    [
        ((40, 53), (76, 84), 3.0, True),  # 12 px from the line: 4 FWHM
        ((46, 52), (77, 83), 3.0, False),
        ((37, 47), (77, 83), 2.0, False),  # 18 px: more than 15, which are 1.5 times its depth
        ((35, 47), (77, 83), 2.0, True),
        ((41, 47), (74, 86), 2.0, True),  # and its width
        ((41, 47), (75, 86), 2.0, False),
    ],
)
def test_a_star_is_as_near_as_one_and_a_half_times_its_width_or_4_fwhm(columns, rows, fwhm, found):
    assert (seen_from_all_sides(block(columns, rows), fwhm=fwhm) > 0) == found


@pytest.mark.parametrize("between", [0.0, 5.0, 10.0, 20.0, 45.0])
def test_light_between_line_and_star_counts_above_its_noise_as_a_share_of_the_line(between):
    bright = np.where(X < 65, between, 100) * (abs(Y - 80) <= 1)
    count = 3 * 11  # from half a FWHM beyond the line, 64 to 54, to the mask at 53
    expected = min(max(between - 10 / math.sqrt(count), 0) / 40, 1)
    assert seen_from_all_sides(block((33, 53), (70, 90)), bright) == pytest.approx(2 * expected)


def test_of_a_line_that_leaves_the_image_the_pixels_inside_count():
    bright = np.where(X < 70, 20, 100) * (abs(Y - 80) <= 1)
    bright[:, -1] *= 10
    mean = (90 * 100 + 1000) / 91
    expected = (20 - 10 / math.sqrt(3 * 16)) / mean / 0.4  # of 16 columns between the line and the mask
    found = seen_from_all_sides(block((33, 53), (70, 90)), bright, Segment(120.0, 80.0, 100.0, 0.0))
    assert found == pytest.approx(2 * expected)


def test_no_light_is_needed_within_one_and_a_half_fwhm_and_none_means_nothing():
    bright = np.where(X >= 65, 100, 0) * (abs(Y - 80) <= 1)
    assert seen_from_all_sides(block((42, 62), (70, 90)), bright) == 2  # 3 px away
    assert seen_from_all_sides(block((41, 61), (70, 90)), bright) == 0
    assert seen_from_all_sides(block((41, 61), (70, 90)), 0 * bright) == 0
    assert seen_from_all_sides(block((41, 61), (70, 90)), np.where(X >= 65, 0, 100)) == 0
    assert seen_from_all_sides(block((42, 62), (70, 90)), 0 * bright) == 2


@pytest.mark.parametrize("columns", [(60, 62), (61, 61)])
def test_a_second_star_behind_one_that_is_none_counts(columns):
    both = block(columns, (70, 90)) | block((36, 56), (70, 90))
    assert seen_from_all_sides(both) == 2


def test_a_line_may_pass_along_the_outermost_pixels_of_a_star():
    assert seen_from_all_sides(block((50, 60), (80, 90))) == pytest.approx(2 / 5)  # 5 px beside its middle


@pytest.mark.parametrize("columns", [(76, 86), (64, 74), (60, 90)])
def test_a_star_may_lie_on_the_line_itself(columns):
    assert seen_from_all_sides(block(columns, (75, 85))) == 2


def test_a_star_that_touches_the_border_is_none():
    axis = Segment(25.0, 80.0, 20.0, 0.0)
    assert seen_from_all_sides(block((1, 12), (74, 86)), axis=axis) == 2
    assert seen_from_all_sides(block((0, 12), (74, 86)), axis=axis) == 0
    beside = Segment(25.0, 6.0, 20.0, 0.0)
    light = np.full(X.shape, 50)
    assert seen_from_all_sides(block((2, 12), (1, 11)), light, beside) == 2
    assert seen_from_all_sides(block((2, 12), (0, 12)), light, beside) == 0


def test_nothing_is_sought_behind_a_border_beyond_the_end_of_the_line():
    star, edge = block((43, 63), (70, 90)), MaskPlane.EDGE
    assert seen_from_all_sides(star | block((65, 65), (0, 160), edge)) == 2  # the last pixel of the line
    assert seen_from_all_sides(star | block((64, 64), (0, 160), edge)) == 0


@pytest.mark.parametrize(("gap", "found"), [(300, True), (301, False)])
def test_a_star_is_sought_300_px_beyond_the_line(gap, found):
    mask, pixels = np.zeros((240, 570), np.uint16), np.full((240, 570), 50, np.float32)
    mask[10:230, 20 + gap : 230 + gap] = MaskPlane.SAT
    scene = Scene(pixels, mask == 0, moffat_mixture(2.0, 3.0), 2.0, Noise(10.0, np.eye(1)))
    assert (star_on_axis(scene, mask, Segment(10.0, 120.0, 20.0, 0.0), 0.3, 0.0) == 2) == found


def column_of_charge(length, angle):
    scene = Picture(np.where(abs(X - 80) <= 1, 50, 0), block((70, 90), (40, 60)), LINE).scene(2.0)
    mask = block((70, 90), (40, 60))
    return bleed_evidence(scene, mask, Segment(80.0, 75.0, length, angle), 0.0)


@pytest.mark.parametrize(
    ("length", "off", "found"),
    [(30.0, 4.0, True), (30.0, 4.01, False), (20.0, 5.7, True), (20.0, 5.8, False), (1.9, 90.0, True)],
)
def test_a_bleed_is_4_degrees_off_its_column_at_most_unless_it_is_within_a_fwhm_of_it(length, off, found):
    for angle in (90 + off, 90 - off, 270 + off):
        assert (column_of_charge(length, angle) > 0) == found


def test_a_spike_is_at_least_one_and_a_half_fwhm_long():
    scene = Picture(np.where(abs(Y - 80) <= 1, 50, 0), block((50, 70), (70, 90)), LINE).scene(2.0)
    mask = block((50, 70), (70, 90))
    assert spike_evidence(scene, mask, Segment(75.0, 80.0, 3.0, 0.0), 0.0) == 2
    assert spike_evidence(scene, mask, Segment(75.0, 80.0, 2.99, 0.0), 0.0) == 0


MASKED = star_lines._UNUSABLE & ~star_lines._BORDER


def test_a_place_is_of_the_nearest_pixel_and_there_is_none_beyond_the_border():
    mask = np.zeros((3, 4), np.uint16)
    mask[1, 2], mask[2, 3] = MASKED, star_lines._BORDER
    for row, y in ((-1, -0.51), (0, -0.5), (0, 0.49), (1, 0.5), (1, 1.49), (2, 1.5), (2, 2.49), (3, 2.5)):
        for column, x in ((-1, -0.51), (0, -0.5), (1, 1.0), (2, 1.5), (2, 2.49), (3, 3.49), (4, 3.5)):
            inside = 0 <= row < 3 and 0 <= column < 4
            expected = 2 if not inside or (row, column) == (2, 3) else int((row, column) == (1, 2))
            assert star_lines._state(mask, x, y) == expected, (x, y)


@pytest.mark.parametrize(
    ("masked", "most", "steps"), [(0, 5, 0), (1, 5, 1), (3, 5, 3), (4, 5, 4), (5, 5, -1), (3, 3, -1)]
)
def test_masked_pixels_are_counted_to_the_first_that_is_usable(masked, most, steps):
    mask = np.zeros((3, 12), np.uint16)
    mask[1, 3 : 3 + masked] = MASKED
    assert star_lines._walk(mask, 2.0, 1.0, 1.0, 0.0, most) == steps
    assert star_lines._walk(mask[:, : 3 + masked], 2.0, 1.0, 1.0, 0.0, most) == -1  # they end at the border
