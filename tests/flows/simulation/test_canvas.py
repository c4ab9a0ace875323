import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flows.simulation.canvas import add_stamp, blank_canvas, source_row, stamp_footprint, visible_share
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.psf import PsfStamp, SimulatedPsfField, moffat
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


@given(st.integers(-4, 13), st.integers(-4, 13), st.integers(0, 14), st.integers(0, 14))
def test_a_block_holds_its_first_and_last_row_and_column(y0: int, x0: int, height: int, width: int) -> None:
    canvas = blank_canvas((9, 11))
    canvas.block(y0, y0 + height, x0, x0 + width, MaskPlane.SAT)
    rows, columns = np.indices((9, 11))
    inside = (rows >= y0) & (rows <= y0 + height) & (columns >= x0) & (columns <= x0 + width)
    assert np.array_equal(canvas.mask == MaskPlane.SAT, inside)


@given(st.integers(-12, 30), st.integers(-12, 30))
def test_a_footprint_has_the_pixels_on_the_image_and_all_the_light(y0: int, x0: int) -> None:
    """The light on an image that the stamp is added to, pixel by pixel; what is masked of it is not seen."""
    pixels, image = np.arange(1.0, 36.0).reshape(5, 7), np.zeros((20, 24))
    add_stamp(image, pixels, y0, x0)
    found = stamp_footprint(PsfStamp(pixels, y0, x0), image.shape)
    drawn = np.zeros(image.shape)
    drawn[found.rows, found.columns] = found.light
    assert np.array_equal(drawn, image)
    assert len(found.rows) == np.count_nonzero(image)
    assert found.total == pixels.sum()
    mask = np.zeros(image.shape, np.uint16)
    mask[:, 12:] = MaskPlane.SAT
    assert visible_share(mask, found) == pytest.approx(image[:, :12].sum() / pixels.sum())
    mask[:, 12:] = MaskPlane.STREAK  # says what lies there, and spoils nothing
    assert visible_share(mask, found) == pytest.approx(image.sum() / pixels.sum())


def test_the_box_of_a_source_reaches_two_widths_beyond_its_trail_and_ends_with_the_image() -> None:
    conditions = conditions_of(find_preset("ztf", shape=(300, 420)), 1, 0, 0)

    def box(x: float, y: float, flux: float = 100.0, trail: tuple[float, float] = (40.0, 30.0)) -> dict:
        return source_row("streak", "a", conditions, (x, y), flux, 9.0, trail)

    row = box(200.25, 150.5)
    reach_x, reach_y = 20 * np.sqrt(3) / 2 + 2 * row["fwhm_px"], 20 / 2 + 2 * row["fwhm_px"]
    assert [row[f"box_{name}"] for name in ("xmin", "xmax", "ymin", "ymax")] == [
        np.floor(200.25 - reach_x), np.ceil(200.25 + reach_x), np.floor(150.5 - reach_y), np.ceil(150.5 + reach_y),
    ]  # fmt: skip
    corner = box(1.0, 1.0)
    assert (corner["box_xmin"], corner["box_ymin"]) == (0, 0)
    corner = box(418.0, 298.0)
    assert (corner["box_xmax"], corner["box_ymax"]) == (419, 299)
    assert row["fwhm_px"] == pytest.approx(float(conditions.psf.fwhm_at(np.array(200.25), np.array(150.5))))
    assert row["magnitude"] == pytest.approx(conditions.zero_point - 5)
    assert [box(9, 9, flux)["magnitude"] for flux in (0.5, 0.0, -1.0)] == [
        pytest.approx(conditions.zero_point - 2.5 * np.log10(0.5)), None, None,
    ]  # fmt: skip
    point = source_row("point", "", conditions, (9, 9), 1.0, 9.0)
    assert (point["length_px"], point["angle_deg"]) == (0, 0)
    for x, y, ends in ((-90.0, -80.0, (0, 0, 0, 0)), (600.0, 500.0, (419, 419, 299, 299))):
        row = box(x, y)
        assert tuple(row[f"box_{name}"] for name in ("xmin", "xmax", "ymin", "ymax")) == ends
    assert [box(9, 9, trail=(5.0, angle))["angle_deg"] for angle in (-30.0, 180.0, 190.0)] == [150.0, 0.0, 10.0]


@given(st.integers(0, 40), st.integers(0, 60))
def test_the_width_of_the_psf_and_its_shape_vary_as_they_say(row: int, column: int) -> None:
    """From the centre, u to the right and v upwards are 1 at the edge."""
    psf = SimulatedPsfField(2.0, 2.7, (0.05, -0.04), 0.06, (0.03, -0.02), (0.03, 0.02), (41, 61))
    u, v = (column - 30) / 30, (row - 20) / 20
    x, y = np.array(float(column)), np.array(float(row))
    assert psf.fwhm_at(x, y) == pytest.approx(2 * (1 + 0.05 * u - 0.04 * v + 0.03 * (u**2 + v**2)), rel=1e-12)
    assert psf.shear_at(x, y) == pytest.approx((0.03 + 0.03 * u, -0.02 + 0.02 * v))
