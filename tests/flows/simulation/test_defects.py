from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label

from flows.simulation.canvas import Canvas, blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.defects import (
    DISC_STEPS,
    _splat,
    add_bad_pixels,
    add_border,
    add_cosmic_rays,
    add_saturated,
)
from flows.simulation.presets import find_preset
from flows.simulation.stars import Stars
from schemas.pixels import MaskPlane

PRESET = find_preset("ztf")


def test_cosmic_rays_are_as_many_as_they_should_be_and_sharp() -> None:
    counts = []
    for detector in range(4):
        canvas = blank_canvas(PRESET.shape)
        add_cosmic_rays(canvas, conditions_of(PRESET, 3, 0, detector))
        _, count = label(canvas.sharp, structure=np.ones((3, 3)))
        counts.append(count)
        assert not canvas.signal.any()
        assert canvas.sharp.min() >= 0
        found = np.count_nonzero(canvas.mask & np.uint16(MaskPlane.CR))
        assert 0 < found < 20_000
    assert 25 < min(counts) <= max(counts) < 160


def test_bad_columns_belong_to_the_detector() -> None:
    canvases = []
    for index in (0, 2):
        canvas = blank_canvas(PRESET.shape)
        add_bad_pixels(canvas, conditions_of(PRESET, 3, index, 1))
        canvases.append(canvas)
    assert np.array_equal(canvases[0].mask, canvases[1].mask)
    assert set(np.unique(canvases[0].mask)) == {0, MaskPlane.BAD}
    per_column = np.count_nonzero(canvases[0].mask | (canvases[0].sharp != 0), axis=0)
    assert per_column.max() > 20


@pytest.mark.parametrize("seed", range(4))
def test_border_is_masked_from_the_outside_in(seed: int) -> None:
    canvas = blank_canvas(PRESET.shape)
    add_border(canvas, conditions_of(PRESET, seed, 0, 0))
    masked = canvas.mask != 0
    assert not masked[200:-200, 200:-200].any()
    assert set(np.unique(canvas.mask)) <= {0, MaskPlane.EDGE | MaskPlane.NO_DATA}
    # No hole behind the border: a masked pixel in the upper half is masked all the way to some edge.
    rows, columns = np.nonzero(masked)
    for row, column in list(zip(rows, columns, strict=True))[:: max(1, len(rows) // 50)]:
        ways = (masked[:row, column], masked[row:, column], masked[row, :column], masked[row, column:])
        assert any(way.all() for way in ways)


def test_a_small_image_has_a_small_border() -> None:
    small = find_preset("ztf", shape=(300, 300))
    for seed in range(8):
        canvas = blank_canvas(small.shape)
        add_border(canvas, conditions_of(small, seed, 0, 0))
        assert np.mean(canvas.mask != 0) < 0.4


PRESET_SATURATION = find_preset("ztf", shape=(600, 600))


def star(above: float, seed: int = 1) -> Canvas:
    canvas = blank_canvas(PRESET_SATURATION.shape)
    magnitude = PRESET_SATURATION.saturated_magnitude - above
    stars = Stars(np.array([300.2]), np.array([310.7]), np.array([magnitude]), np.array([1e6]))
    add_saturated(canvas, stars, conditions_of(PRESET_SATURATION, seed, 0, 0))
    return canvas


def test_the_core_is_masked_and_the_column_bleeds_further_than_the_row() -> None:
    canvas = star(2.5)
    rows, columns = np.nonzero(canvas.mask & np.uint16(MaskPlane.SAT))
    assert canvas.mask[311, 300] == MaskPlane.SAT
    assert np.ptp(rows) > np.ptp(columns) > 10


def test_brighter_stars_have_larger_masks() -> None:
    areas = [np.count_nonzero(star(above).mask) for above in (1.0, 2.5, 4.0, DISC_STEPS + 0.1)]
    assert areas == sorted(areas)
    assert areas[-1] > np.pi * 60**2 * 0.9


def test_spikes_and_bleed_show_beside_the_mask() -> None:
    canvas = star(3.0)
    outside = np.where(canvas.mask == 0, np.abs(canvas.signal), 0)
    sigma = conditions_of(PRESET_SATURATION, 1, 0, 0).noise.sigma
    along_row = outside[309:313, 330:400].max()
    along_column = outside[340:420, 298:303].max()
    elsewhere = outside[400:, 400:].max()
    assert max(along_row, along_column) > sigma
    assert elsewhere == 0


def test_cores_of_stars_2_mag_above_saturation_are_all_masked_and_a_share_of_fainter_ones_is_not() -> None:
    rows, columns = (place.ravel() for place in np.mgrid[30:1200:60, 30:1200:60].astype(float))
    preset = find_preset("ztf", shape=(1200, 1200))
    for above, low, high in ((1.9, 0.06, 0.18), (2.1, 0.0, 0.0)):  # 12 %, of 400 stars
        canvas = blank_canvas(preset.shape)
        magnitude = np.full(rows.size, preset.saturated_magnitude - above)
        add_saturated(canvas, Stars(columns, rows, magnitude, np.full(rows.size, 1e5)), conditions_of(preset, 1, 0, 0))
        assert low <= np.mean(canvas.mask[rows.astype(int), columns.astype(int)] == 0) <= high


def test_some_cores_are_left_unmasked() -> None:
    masked = [bool(star(0.5, seed).mask.any()) for seed in range(60)]
    assert 0 < masked.count(False) < 20
    bare = star(0.5, masked.index(False))
    assert bare.signal.max() > 0 > bare.signal.min()


FLAT = find_preset("ztf", shape=(64, 240))
FULL = 1 / FLAT.area


def test_cosmic_rays_fall_on_every_row_and_column_of_an_image_that_is_no_square() -> None:
    canvas = blank_canvas(FLAT.shape)
    add_cosmic_rays(canvas, conditions_of(replace(FLAT, cosmic_rays=(4000 * FULL, 4000 * FULL)), 1, 0, 0))
    assert (canvas.sharp != 0).any(axis=0).all()
    assert (canvas.sharp != 0).any(axis=1).all()


def test_a_quarter_of_the_cosmic_rays_are_masked_with_a_pixel_around_them() -> None:
    wide = find_preset("ztf", shape=(1000, 1200))
    canvas = blank_canvas(wide.shape)
    add_cosmic_rays(canvas, conditions_of(replace(wide, cosmic_rays=(250 / wide.area, 250 / wide.area)), 1, 0, 0))
    tracks, count = label(canvas.sharp != 0, structure=np.ones((3, 3)))
    masked = np.unique(tracks[canvas.mask == MaskPlane.CR])
    assert 0.17 < (len(masked) - 1) / count < 0.33
    assert np.unique(canvas.mask).tolist() == [0, MaskPlane.CR]
    blocks, found = label(canvas.mask != 0, structure=np.ones((3, 3)))
    inner = [np.argwhere((blocks == n) & (canvas.sharp != 0)) for n in range(1, min(found, 12) + 1)]
    for n, lit in enumerate(inner, 1):
        block = np.argwhere(blocks == n)
        low, high = np.maximum(lit.min(axis=0) - 1, 0), np.minimum(lit.max(axis=0) + 1, np.subtract(wide.shape, 1))
        assert (block.min(axis=0) == low).all()
        assert (block.max(axis=0) == high).all()


def test_three_of_four_hot_pixels_are_masked_and_the_others_shine() -> None:
    canvas = blank_canvas(FLAT.shape)
    preset = replace(FLAT, bad_columns=(0.0, 0.0), hot_pixels=(600 * FULL, 600 * FULL))
    conditions = conditions_of(preset, 1, 0, 0)
    add_bad_pixels(canvas, conditions)
    masked, bright = np.count_nonzero(canvas.mask == MaskPlane.BAD), np.count_nonzero(canvas.sharp)
    assert 520 < masked + bright < 680
    assert masked / (masked + bright) == pytest.approx(0.75, abs=0.06)
    assert canvas.sharp[canvas.sharp != 0].std() == pytest.approx(12 * conditions.noise.sigma, rel=0.2)
    anything = (canvas.mask != 0) | (canvas.sharp != 0)
    assert anything[:, 200:].any()


def test_half_of_the_bad_columns_are_masked_and_each_is_20_px_long_or_goes_to_the_end() -> None:
    preset = find_preset("ztf", shape=(300, 500))
    columns = 5 / np.sqrt(preset.area)
    many = replace(preset, bad_columns=(columns, columns), hot_pixels=(0.0, 0.0))
    masked, bright, ends = 0, 0, 0
    for detector in range(25):
        canvas, conditions = blank_canvas(preset.shape), conditions_of(many, 1, 0, detector)
        add_bad_pixels(canvas, conditions)
        for place, widest in ((canvas.mask != 0, 2), (canvas.sharp != 0, 1)):
            blocks, count = label(place, structure=np.ones((3, 3)))
            for n in range(1, count + 1):
                rows, across = np.nonzero(blocks == n)
                assert np.ptp(across) < widest
                assert np.ptp(rows) >= 19 or rows.max() == 299
                ends += rows.max() == 299
        masked, bright = masked + label(canvas.mask)[1], bright + label(canvas.sharp)[1]
    assert 0.3 < masked / (masked + bright) < 0.7
    assert 0.7 < ends / (masked + bright) < 0.97


def broad_star(above: float, place: tuple[float, float] = (500.0, 450.0)) -> tuple[int, int, int, int]:
    """Return how far the mask of a star reaches to the left, the right, down and up, px, under a PSF 20 px wide."""
    preset = find_preset("ztf", shape=(1000, 1100))
    conditions = conditions_of(preset, 1, 0, 0)
    conditions = replace(conditions, psf=replace(conditions.psf, fwhm=20.0))
    canvas = blank_canvas(preset.shape)
    magnitude = np.array([preset.saturated_magnitude - above])
    add_saturated(canvas, Stars(*(np.array([one]) for one in place), magnitude, np.array([1e6])), conditions)
    rows, columns = np.nonzero(canvas.mask == MaskPlane.SAT)
    left, right = int(place[0] - columns.min()), int(columns.max() - place[0])
    return left, right, int(place[1] - rows.min()), int(rows.max() - place[1])


def test_the_mask_of_a_core_gets_a_bar_along_the_column_above_0_8_mag_and_along_the_row_above_1_5() -> None:
    """Without bars it is 1.2 times as high as wide; that along the row is longer on the right."""
    for above, bar in ((0.3, False), (0.79, False), (0.81, True), (1.49, True)):
        left, right, down, up = broad_star(above)
        assert (left, down) == (right, up)
        assert (up / right > 1.22) == bar
        assert up / right > 1.17
    left, right, _, _ = broad_star(1.51)
    assert right / left == pytest.approx(2.0 / 1.6, rel=0.02)
    narrow = broad_star(1.49)[1]
    assert left / narrow == pytest.approx(1.6, rel=0.03)


@pytest.mark.parametrize("place", [(0.0, 0.0), (1099.0, 0.0), (0.0, 999.0), (1099.0, 999.0), (1050.0, 20.0)])
def test_the_mask_of_the_brightest_stars_ends_with_the_image(place: tuple[float, float]) -> None:
    left, right, down, up = broad_star(DISC_STEPS + 1, place)
    assert min(left, right, down, up) >= 0
    assert (left, right) != (0, 0)
    assert left <= place[0]
    assert right <= 1099 - place[0]
    assert (down, up) != (0, 0)


def test_a_star_just_too_faint_has_no_disc() -> None:
    def area(above: float) -> float:
        return np.count_nonzero(star(above, seed=3).mask)

    faint, bright = area(DISC_STEPS - 0.01), area(DISC_STEPS + 0.01)
    assert bright > 1.2 * faint


def test_light_between_pixels_keeps_its_sum_and_its_centre() -> None:
    image = np.zeros((12, 15), np.float32)
    _splat(image, np.array([5.25]), np.array([3.6]), np.array([100.0]))
    rows, columns = np.mgrid[:12, :15]
    assert image.sum() == pytest.approx(100)
    assert (image * columns).sum() / 100 == pytest.approx(5.25)
    assert (image * rows).sum() / 100 == pytest.approx(3.6)
    assert (image > 0).sum() == 4
