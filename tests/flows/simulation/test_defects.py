import numpy as np
import pytest

from flows.simulation.canvas import Canvas, blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.defects import DISC_STEPS, add_bad_pixels, add_border, add_cosmic_rays, add_saturated
from flows.simulation.presets import find_preset
from flows.simulation.stars import Stars
from schemas.pixels import MaskPlane

PRESET = find_preset("ztf")


def test_cosmic_rays_are_as_many_as_they_should_be_and_sharp() -> None:
    from scipy.ndimage import label

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
