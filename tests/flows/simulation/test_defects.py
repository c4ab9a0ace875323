import numpy as np
import pytest

from flows.simulation.canvas import blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.defects import add_bad_pixels, add_border, add_cosmic_rays
from flows.simulation.presets import find_preset
from schemas.mask import MaskPlane

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
