from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label

from flows.simulation.canvas import Canvas, blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.defects import (
    DISC_STEPS,
    _mask_disc,
    add_bad_pixels,
    add_border,
    add_cosmic_rays,
    add_islands,
    add_saturated,
)
from flows.simulation.detector import splat
from flows.simulation.presets import find_preset
from flows.simulation.stars import Stars
from schemas.pixels import MaskPlane
from tests.support.summary import summary

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
    splat(image, np.array([5.25]), np.array([3.6]), np.array([100.0]))
    rows, columns = np.mgrid[:12, :15]
    assert image.sum() == pytest.approx(100)
    assert (image * columns).sum() / 100 == pytest.approx(5.25)
    assert (image * rows).sum() / 100 == pytest.approx(3.6)
    assert (image > 0).sum() == 4


TALL = find_preset("rubin", shape=(170, 120))


def test_a_seed_stands_for_its_cosmic_rays() -> None:
    found = []
    for preset, seed in ((FLAT, 3), (TALL, 4), (replace(TALL, gain=4.0), 4)):
        canvas = blank_canvas(preset.shape)
        add_cosmic_rays(
            canvas, conditions_of(replace(preset, cosmic_rays=(150 / preset.area, 250 / preset.area)), seed, 1, 2)
        )
        found += [summary(canvas.sharp), summary(canvas.mask)]
    np.testing.assert_allclose(
        found,
        [
            [1434, 308969.899, 0, 313989747, 10049060, 40490482.2],
            [4996, 39968, 0, 319744, 1582160, 4372376],
            [1307, 1132850.38, 0, 5.39524613e09, 102147760, 65121562.5],
            [1686, 13488, 0, 107904, 1373696, 847680],
            [1307, 481461.408, 0, 974516317, 43412797.9, 27676663.9],
            [1686, 13488, 0, 107904, 1373696, 847680],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_bad_columns_and_hot_pixels() -> None:
    found = []
    for preset, seed in ((FLAT, 3), (TALL, 4), (find_preset("ztf", shape=(1000, 70)), 5)):
        columns, pixels = 20 / np.sqrt(preset.area), 80 / preset.area
        many = replace(preset, bad_columns=(columns, 2 * columns), hot_pixels=(pixels, 2 * pixels))
        canvas = blank_canvas(preset.shape)
        add_bad_pixels(canvas, conditions_of(many, seed, 1, 2))
        found += [summary(canvas.sharp), summary(canvas.mask)]
    np.testing.assert_allclose(
        found,
        [
            [442, 5324.14668, -2278.98729, 322760.395, 294915.679, 1285673.81],
            [1058, 1058, 0, 1058, 44740, 102137],
            [700, 9987.7159, -39811.6612, 5453866.8, 5358341.4, 1709684.84],
            [2581, 2581, 0, 2581, 276705, 146939],
            [6136, 99435.4699, -46844.5385, 8250893.25, 77097651.7, 3967851.17],
            [4581, 4581, 0, 4581, 3195910, 90950],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_border() -> None:
    found = []
    for preset in (find_preset("ztf", shape=(64, 90)), TALL, find_preset("ztf", shape=(700, 900))):
        for seed in range(4):
            canvas = blank_canvas(preset.shape)
            add_border(canvas, conditions_of(preset, seed, 0, 0))
            found.append(summary(canvas.mask))
    np.testing.assert_allclose(
        found,
        [
            [1425, 68400, 0, 3283200, 2674128, 2398608],
            [1652, 79296, 0, 3806208, 2691264, 3360528],
            [1650, 79200, 0, 3801600, 2788704, 3587040],
            [1088, 52224, 0, 2506752, 1618176, 1908720],
            [1895, 90960, 0, 4366080, 7725024, 7889904],
            [2608, 125184, 0, 6008832, 11298816, 8313360],
            [2737, 131376, 0, 6306048, 11357088, 8813520],
            [2701, 129648, 0, 6223104, 13127808, 7641360],
            [32643, 1566864, 0, 75209472, 690516000, 670598400],
            [14951, 717648, 0, 34447104, 266863680, 292479072],
            [37179, 1784592, 0, 85660416, 897656976, 741289872],
            [20297, 974256, 0, 46764288, 466582320, 385893984],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_saturated_stars() -> None:
    """Of every brightness, in the middle and at the edges, under a narrow and a wide PSF."""
    found = []
    x, y = (
        np.array([100.2, 118.7, 0.4, 30.5, 90.1, 10.6, 60.4, 25.3]),
        np.array([150.4, 3.2, 100.8, 169.0, 140.5, 20.1, 60.6, 20.7]),
    )
    above = np.array([0.1, 0.5, 0.9, 1.2, 1.7, 2.4, 3.5, 6.3])
    for preset, seed in ((TALL, 1), (TALL, 2), (find_preset("ztf", shape=(170, 120)), 3)):
        for order in (slice(None), slice(None, None, -1)):
            canvas = blank_canvas(preset.shape)
            stars = Stars(x, y, preset.saturated_magnitude - above[order], np.full(8, 1e6))
            add_saturated(canvas, stars, conditions_of(preset, seed, 1, 2))
            found += [summary(canvas.signal), summary(canvas.mask)]
    np.testing.assert_allclose(
        found,
        [
            [7203, 323828.371, -73274.0865, 66153952, 29893032.9, 19454359.6],
            [18227, 36454, 0, 72908, 3175198, 2042196],
            [7327, 518847.183, -133198.955, 637746430, 33042904.5, 24824240],
            [17186, 34372, 0, 68744, 3144286, 2197410],
            [7272, 197919.406, -205909.865, 112909326, 39254140.2, 22180507.3],
            [17649, 35298, 0, 70596, 3030826, 1961774],
            [6996, 79840.4385, -109716.594, 19351025.1, 18446525.1, 11187271.8],
            [16165, 32330, 0, 64660, 2924566, 2066400],
            [5409, 29942.8429, -33926.1077, 2098852.53, 4657754.45, 2961264.53],
            [12097, 24194, 0, 48388, 1949818, 1169988],
            [5560, 34128.0752, -17879.5319, 2282989.29, 5186435.02, 3576158.33],
            [11143, 22286, 0, 44572, 2048302, 1507156],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_unmasked_cores() -> None:
    found = []
    for seed in range(12):
        canvas = blank_canvas(TALL.shape)
        stars = Stars(np.array([50.4]), np.array([70.6]), np.array([TALL.saturated_magnitude - 0.6]), np.array([1e6]))
        add_saturated(canvas, stars, conditions_of(TALL, seed, 0, 0))
        if not canvas.mask.any():
            found.append(summary(canvas.signal))
    np.testing.assert_allclose(
        found,
        [
            [1188, 70672.1562, -280929.01, 883538511, 25308244.2, 17956420.1],
            [1248, 27065.5973, -118234.154, 107106752, 10490971.7, 7401738.81],
        ],
        rtol=1e-6,
    )


MIDDLE = np.array([300.0])


def exactly(above: float, x: NDArray[np.float64] = MIDDLE, y: NDArray[np.float64] = MIDDLE) -> NDArray[np.uint16]:
    """Return the mask of stars exactly as many magnitudes above saturation: a difference from 0 is not rounded."""
    preset = replace(PRESET_SATURATION, saturated_magnitude=above)
    conditions = conditions_of(preset, 1, 0, 0)
    conditions = replace(conditions, psf=replace(conditions.psf, fwhm=4.0))
    canvas = blank_canvas(preset.shape)
    add_saturated(canvas, Stars(x, y, np.zeros(len(x)), x), conditions)
    return canvas.mask


@pytest.mark.parametrize("above", [0.8, 1.5, DISC_STEPS])
def test_what_begins_above_a_brightness_is_not_there_at_it(above: float) -> None:
    """Bars of a core's mask above 0.8 and 1.5 mag, the disc above 5.7: there, the mask grows at once."""
    below, at, beyond = (
        np.count_nonzero(exactly(one)) for one in (np.nextafter(above, 0), above, np.nextafter(above, 9))
    )
    assert below == at < beyond


def test_a_star_exactly_2_mag_above_saturation_may_be_left_unmasked() -> None:
    x, y = (part.ravel() for part in np.mgrid[50:600:100, 50:600:100].astype(float))
    for above, some in ((2.0, True), (np.nextafter(2.0, 9), False)):
        assert (exactly(above, x, y)[y.astype(int), x.astype(int)] == 0).any() == some


def test_light_at_the_edges_of_an_image_is_cut_off_there() -> None:
    image = np.zeros((5, 7), np.float32)
    corners = [(-0.5, -0.5), (6.5, -0.5), (-0.5, 4.5), (6.5, 4.5), (-1.0, 2.0), (7.0, 2.0), (3.0, -1.0), (3.0, 5.0)]
    x, y = np.array(corners).T
    splat(image, x, y, np.full(8, 100.0))
    expected = np.zeros((5, 7))
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] = 25
    np.testing.assert_allclose(image, expected)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (12.0, 9.0),
        (12.4, 9.3),
        (0.0, 0.0),
        (29.0, 19.0),
        (-3.0, 9.0),
        (12.0, 23.0),
        (-30.0, 9.0),
        (12.0, -30.0),
        (12.0, 60.0),
        (70.0, 9.0),
        (-30.0, 60.0),
    ],
)
def test_a_disc_has_the_pixels_up_to_its_radius_that_are_on_the_image(x: float, y: float) -> None:
    canvas = blank_canvas((20, 30))
    _mask_disc(canvas, x, y, 5.0)
    rows, columns = np.indices((20, 30))
    assert np.array_equal(canvas.mask == MaskPlane.SAT, (columns - x) ** 2 + (rows - y) ** 2 <= 25)


def test_between_islands_of_sky_all_is_masked() -> None:
    canvas = blank_canvas((400, 500))
    add_islands(canvas, conditions_of(PRESET, 3, 0, 0))
    assert not canvas.mask.any()
    add_islands(canvas, conditions_of(replace(PRESET, islands=63), 3, 0, 0))
    places, count = label(canvas.mask == 0)
    sizes = np.bincount(places.ravel())[1:]
    assert count >= 16
    assert sizes.max() == 63**2
    assert np.count_nonzero(sizes == 63**2) >= 9
    assert set(np.unique(canvas.mask)) == {0, MaskPlane.NO_DATA}
