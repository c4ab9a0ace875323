import numpy as np

from flows.simulation.canvas import Canvas, blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.saturation import DISC_STEPS, add_saturated
from flows.simulation.stars import Stars
from schemas.mask import MaskPlane

PRESET = find_preset("ztf", shape=(600, 600))


def star(above: float, seed: int = 1) -> Canvas:
    canvas = blank_canvas(PRESET.shape)
    magnitude = PRESET.saturated_magnitude - above
    stars = Stars(np.array([300.2]), np.array([310.7]), np.array([magnitude]), np.array([1e6]))
    add_saturated(canvas, stars, conditions_of(PRESET, seed, 0, 0))
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
    sigma = conditions_of(PRESET, 1, 0, 0).noise.sigma
    along_row = outside[309:313, 330:400].max()
    along_column = outside[340:420, 298:303].max()
    elsewhere = outside[400:, 400:].max()
    assert max(along_row, along_column) > sigma
    assert elsewhere == 0


def test_some_cores_are_left_unmasked() -> None:
    masked = [bool(star(0.5, seed).mask.any()) for seed in range(60)]
    assert 0 < masked.count(False) < 20
    bare = star(0.5, masked.index(False))
    assert bare.signal.max() > 0 > bare.signal.min()
