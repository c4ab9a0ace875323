import numpy as np
import pytest

from flows.simulation.presets import find_preset
from flows.simulation.psf import SimulatedPsfField, draw_psf_field, moffat
from tests.support.summary import summary


def test_a_seed_stands_for_its_psf() -> None:
    found = []
    for name in ("ztf", "rubin"):
        one = draw_psf_field(find_preset(name, shape=(90, 140)), 2.5, np.random.default_rng(3))
        found.append([one.fwhm, one.beta, *one.slope, one.bowl, *one.shear, *one.shear_slope, *one.shape])
    np.testing.assert_allclose(
        found,
        2 * [[
            2.5, 3.21857695, -0.0414350833, -0.0263189493, 0.0127791132, 0.0180764679, 0.00492972216, -0.0324697086,
            -0.00534984478, 90, 140,
        ]],
        rtol=1e-6,
    )  # fmt: skip


BENT = SimulatedPsfField(2.4, 2.7, (0.05, -0.04), 0.06, (0.03, -0.02), (0.03, 0.02), (101, 201))


def test_the_psf_changes_no_further_than_a_tenth_beyond_the_edges() -> None:
    """u and v, 1 at the edges, stop at 1.1."""
    for x, y, u, v in (
        (-400.0, 50.0, -1.1, 0.0),
        (600.0, 50.0, 1.1, 0.0),
        (100.0, -300.0, 0.0, -1.1),
        (100.0, 300.0, 0.0, 1.1),
    ):
        place = np.array(x), np.array(y)
        assert BENT.fwhm_at(*place) == pytest.approx(2.4 * (1 + 0.05 * u - 0.04 * v + 0.03 * (u**2 + v**2)))
        assert BENT.shear_at(*place) == pytest.approx((0.03 + 0.03 * u, -0.02 + 0.02 * v))


def test_an_image_of_one_pixel_has_a_psf() -> None:
    tiny = SimulatedPsfField(2.4, 2.7, (0.05, -0.04), 0.06, (0.03, -0.02), (0.03, 0.02), (1, 1))
    zero = np.array(0.0)
    assert tiny.fwhm_at(zero, zero) == pytest.approx(2.4 * (1 - 0.05 + 0.04 + 0.06))


@pytest.mark.parametrize(("length", "angle"), [(0.0, 0.0), (30.0, 0.0), (30.0, 90.0), (30.0, 140.0), (41.5, 33.0)])
def test_the_stamp_of_a_trail_reaches_five_widths_beyond_its_ends(length: float, angle: float) -> None:
    stamp = BENT.trail(70.3, 40.8, length, angle)
    reach = 5 * float(BENT.fwhm_at(np.array(70.3), np.array(40.8)))
    half_x = np.ceil(length / 2 * abs(np.cos(np.radians(angle))) + reach)
    half_y = np.ceil(length / 2 * abs(np.sin(np.radians(angle))) + reach)
    assert stamp.pixels.shape == (2 * half_y + 1, 2 * half_x + 1)
    assert (stamp.y0, stamp.x0) == (41 - half_y, 70 - half_x)
    rows, columns = np.indices(stamp.pixels.shape)
    total = stamp.pixels.sum()
    assert (stamp.pixels * columns).sum() / total + stamp.x0 == pytest.approx(70.3, abs=0.02)
    assert (stamp.pixels * rows).sum() / total + stamp.y0 == pytest.approx(40.8, abs=0.02)


def test_trails_are_as_bright_and_as_wide_as_they_were() -> None:
    found = [summary(BENT.trail(70.3, 40.8, *one).pixels) for one in ((0.0, 0.0), (0.5, 20.0), (30.0, 140.0))]
    np.testing.assert_allclose(
        found,
        [
            [625, 0.998083543, 0, 0.0428291477, 12.7761908, 13.2733946],
            [729, 0.998512837, -1.79098487e-06, 0.0424915601, 13.7797666, 14.2781256],
            [2205, 0.999589489, 0, 0.00634679053, 22.790896, 25.2892765],
        ],
        rtol=1e-5,
    )


def test_a_sheared_moffat_keeps_its_flux_and_its_area() -> None:
    rows, columns = np.mgrid[-150:151, -150:151] / 5.0
    image = moffat(columns, rows, np.array(3.0), 3.5, np.array(0.2), np.array(-0.1))
    assert image.sum(dtype=float) / 25 == pytest.approx(1, abs=2e-4)
    inside = image > image.max() / 2
    assert inside.sum() / 25 == pytest.approx(np.pi * 1.5**2, rel=0.02)
    # Axes of the ellipse: (1 + g) / (1 - g), the major one at half the angle of (g1, g2).
    xx, yy, xy = ((part * inside).sum() for part in (columns**2, rows**2, columns * rows))
    moments = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
    g = np.hypot(0.2, 0.1)
    assert np.sqrt(moments[1] / moments[0]) == pytest.approx((1 + g) / (1 - g), rel=0.02)
    assert 0.5 * np.arctan2(2 * xy, xx - yy) == pytest.approx(0.5 * np.arctan2(-0.1, 0.2), abs=0.02)
