import numpy as np
import pytest
from scipy.ndimage import correlate1d

from kernels.dense_input import RADIUS, dense_input, filter_taps
from kernels.matched_filter import filtered_noise
from kernels.plane import Plane
from kernels.psf import moffat_mixture
from kernels.trail_model import trail_image

SHAPE = (96, 120)


@pytest.fixture
def plane():
    rng = np.random.default_rng(5)
    pixels = rng.normal(7.0, 3.0, SHAPE).astype(np.float32)
    usable = rng.random(SHAPE) > 0.03
    pixels[~usable] = rng.choice([np.nan, np.inf, -1e30, 4.0], (~usable).sum())
    correlation = np.array([[0.02, 0.1, 0.02], [0.1, 1.0, 0.1], [0.02, 0.1, 0.02]])
    return Plane(pixels, usable, 7.0, 3.0, correlation, 2.2)


def by_scipy(plane):
    value = np.where(plane.usable, (plane.pixels.astype(np.float64) - plane.background) / plane.noise, 0)
    taps = filter_taps(plane.fwhm_px).astype(np.float64)
    smooth = correlate1d(correlate1d(value, taps, 0, mode="constant"), taps, 1, mode="constant")
    smooth /= filtered_noise(np.outer(taps, taps), 1.0, plane.correlation)

    def level(s):
        size = np.minimum(np.abs(s), 128)
        return np.sign(s) * size * (1 + size / 64) / (1 + size / 4)

    return np.stack([level(value), level(smooth), ~plane.usable])


def in_cells(planes):
    """(3, ny, nx) -> (rows, columns, 48), pixel by pixel."""
    ny, nx = planes.shape[1:]
    out = np.empty((ny // 4, nx // 4, 48))
    for plane in range(3):
        for dy in range(4):
            for dx in range(4):
                out[:, :, plane * 16 + dy * 4 + dx] = planes[plane, dy::4, dx::4]
    return out


def test_against_scipy(plane):
    expected = in_cells(by_scipy(plane))
    np.testing.assert_allclose(dense_input(plane, 0, 0, 24, 30), expected, atol=2e-4)


def test_beyond_the_plane_nothing_counts(plane):
    around = dense_input(plane, -40, -20, 50, 45)
    assert (around[:10, :, 32:] == 1).all()
    assert (around[:10, :, :16] == 0).all()
    np.testing.assert_array_equal(around[10:34, 5:35], dense_input(plane, 0, 0, 24, 30))


def test_a_cell_does_not_depend_on_what_is_cut_with_it(plane):
    whole = dense_input(plane, 0, 0, 24, 30)
    part = plane._replace(pixels=plane.pixels[20:80, 8:], usable=plane.usable[20:80, 8:])
    found = dense_input(part, RADIUS, RADIUS, 10, 12)
    np.testing.assert_array_equal(found, whole[7:17, 4:16])


def test_second_plane_is_the_snr_of_a_point_source():
    psf = moffat_mixture(2.5, 100.0)
    point = trail_image((64, 64), 32.0, 32.0, 0.0, 0.0, psf)
    plane = Plane((50 * point).astype(np.float32), np.ones((64, 64), bool), 0.0, 1.0, np.ones((1, 1)), 2.5)
    cells = dense_input(plane, 0, 0, 16, 16)
    expected = 50 * np.sqrt(np.sum(point**2))
    size = expected * (1 + expected / 64) / (1 + expected / 4)
    assert cells[8, 8, 16] == pytest.approx(size, rel=0.02)
