import numpy as np

from flows.simulation.canvas import blank_canvas
from schemas.mask import MaskPlane


def test_blank_canvas_is_blank() -> None:
    canvas = blank_canvas((4, 6))
    assert canvas.shape == (4, 6)
    assert not any(layer.any() for layer in (canvas.signal, canvas.excess, canvas.sharp, canvas.mask))
    canvas.signal += 1
    assert not canvas.excess.any()


def test_block_is_cut_at_the_border_and_keeps_other_bits() -> None:
    canvas = blank_canvas((10, 10))
    canvas.block(-5, 2, 8, 30, MaskPlane.SAT)
    canvas.block(0, 0, 9, 9, MaskPlane.BAD)
    canvas.block(20, 30, 0, 3, MaskPlane.BAD)
    expected = np.zeros((10, 10), np.uint16)
    expected[:3, 8:] = MaskPlane.SAT
    expected[0, 9] |= MaskPlane.BAD
    assert np.array_equal(canvas.mask, expected)
