import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flows.simulation.canvas import add_stamp, blank_canvas
from flows.simulation.psf import SimulatedPsfField, moffat
from schemas.pixels import MaskPlane


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


ROUND = SimulatedPsfField(2.4, 3.0, (0.0, 0.0), 0.0, (0.0, 0.0), (0.0, 0.0), (200, 200))
BENT = SimulatedPsfField(2.0, 2.7, (0.05, -0.04), 0.06, (0.03, -0.02), (0.03, 0.02), (200, 200))


def by_quadrature(
    psf: SimulatedPsfField, x: float, y: float, length: float, angle: float, grid: tuple
) -> NDArray[np.float64]:
    """Line of many Moffat profiles, written out without GalSim."""
    rows, columns = grid
    fwhm = psf.fwhm_at(np.array(x), np.array(y))
    g1, g2 = psf.shear_at(np.array(x), np.array(y))
    alpha2 = fwhm**2 / (4 * (2 ** (1 / psf.beta) - 1))
    inverse = np.array([[1 - g1, -g2], [-g2, 1 + g1]]) / np.sqrt(1 - g1**2 - g2**2)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    total = np.zeros(rows.shape)
    for node, weight in zip(nodes, weights / 2, strict=True):
        dx = columns - x - node * length / 2 * np.cos(np.deg2rad(angle))
        dy = rows - y - node * length / 2 * np.sin(np.deg2rad(angle))
        u, v = inverse[0, 0] * dx + inverse[0, 1] * dy, inverse[1, 0] * dx + inverse[1, 1] * dy
        total += weight * (psf.beta - 1) / (np.pi * alpha2) * (1 + (u**2 + v**2) / alpha2) ** -psf.beta
    return total


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([ROUND, BENT]), st.floats(60, 140), st.floats(60, 140), st.floats(0.5, 40), st.floats(0, 360))
def test_trail_is_a_line_of_moffats(psf: SimulatedPsfField, x: float, y: float, length: float, angle: float) -> None:
    stamp = psf.trail(x, y, length, angle)
    grid = np.mgrid[stamp.y0 : stamp.y0 + stamp.pixels.shape[0], stamp.x0 : stamp.x0 + stamp.pixels.shape[1]].astype(
        float
    )
    expected = by_quadrature(psf, x, y, length, angle, tuple(grid))
    # GalSim folds the far wings, which its default accuracy puts at some 0.5 % of the flux.
    assert stamp.pixels == pytest.approx(expected, abs=0.02 * expected.max())
    assert stamp.pixels.sum() == pytest.approx(1, abs=0.02)


def test_point_and_our_own_moffat_agree() -> None:
    stamp = BENT.trail(50.3, 60.8, 0.0, 0.0)
    rows, columns = np.mgrid[: stamp.pixels.shape[0], : stamp.pixels.shape[1]]
    g1, g2 = BENT.shear_at(np.array(50.3), np.array(60.8))
    fwhm = BENT.fwhm_at(np.array(50.3), np.array(60.8))
    ours = moffat(columns + stamp.x0 - 50.3, rows + stamp.y0 - 60.8, fwhm, BENT.beta, g1, g2)
    assert ours == pytest.approx(stamp.pixels, abs=1e-5)


def test_half_the_peak_at_half_the_width() -> None:
    zero = np.zeros(1)
    ratio = moffat(np.array([1.2]), zero, np.array([2.4]), 3.0, zero, zero) / moffat(
        zero, zero, np.array([2.4]), 3.0, zero, zero
    )
    assert ratio == pytest.approx(0.5, rel=1e-5)


@given(st.integers(-12, 30), st.integers(-12, 30))
def test_stamp_is_added_where_it_belongs_and_cut_at_the_border(y0: int, x0: int) -> None:
    pixels = np.arange(1.0, 36.0).reshape(5, 7)
    image, padded = np.zeros((20, 24)), np.zeros((60, 64))
    add_stamp(image, pixels, y0, x0)
    padded[y0 + 20 : y0 + 25, x0 + 20 : x0 + 27] = pixels
    assert np.array_equal(image, padded[20:40, 20:44])
