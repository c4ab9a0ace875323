import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.detector import (
    add_reflections,
    add_spikes,
    bleed,
    crosstalk,
    lanczos,
    resampled_noise,
    uneven_sky,
)
from flows.simulation.presets import find_preset

CONDITIONS = conditions_of(find_preset("ztf", shape=(300, 320), subtract="zogy"), 3, 0, 0)


def test_bleeding_keeps_the_charge_in_its_column_and_below_the_full_well() -> None:
    image = np.zeros((101, 5), np.float32)
    image[50, 2], image[48:53, 3] = 1000.0, 300.0
    before = image.sum(0)
    bleed(image, 100.0)
    np.testing.assert_allclose(image.sum(0), before, rtol=1e-5)
    assert image.max() <= 100.0
    np.testing.assert_allclose(image[46:55, 2], 100.0)
    np.testing.assert_allclose(image[:, 2], image[::-1, 2], atol=1e-3)


def test_what_bleeds_over_the_edge_is_lost() -> None:
    image = np.zeros((10, 1), np.float32)
    image[1] = 1000.0
    bleed(image, 100.0)
    np.testing.assert_allclose(image[:6, 0], [100, 100, 100, 100, 100, 100])
    assert image.sum() < 1000.0


def test_crosstalk_mirrors_saturated_pixels_alone() -> None:
    image = np.zeros((4, 9), np.float32)
    image[1, 2], image[2, 3] = 50_000, 10_000
    ghost = crosstalk(image, 49_000, -1e-4)
    assert ghost[1, 6] == pytest.approx(-5)
    assert np.count_nonzero(ghost) == 1


def test_spikes_point_along_the_axes_and_fade() -> None:
    image = np.zeros((301, 301), np.float32)
    flux = np.array([CONDITIONS.flux_of(11.0)])
    add_spikes(image, (np.array([150.0]), np.array([150.0]), flux), CONDITIONS, 0.0, 2.0)
    assert image[150, 170] > 5 * image[165, 165]
    assert image[150, 165] > image[150, 190] > image[150, 240] > 0
    np.testing.assert_allclose(image, image[::-1, ::-1], atol=1e-3 * image.max())
    faint = np.zeros((301, 301), np.float32)
    add_spikes(faint, (np.array([150.0]), np.array([150.0]), flux / 1000), CONDITIONS, 0.0, 2.0)
    assert not faint.any()


def test_reflections_lie_opposite_to_bright_stars() -> None:
    image = np.zeros((600, 640), np.float32)
    flux = CONDITIONS.flux_of(8.0)
    add_reflections(image, (np.array([100.0, 500.0]), np.array([120.0, 300.0]), np.array([flux, 1.0])), CONDITIONS)
    rows, columns = np.nonzero(image)
    assert abs(rows.mean() - 479) < 61
    assert abs(columns.mean() - 539) < 61
    assert 1e-4 * flux < image.sum(dtype=float) < 4e-3 * flux


def test_resampling_keeps_a_constant_and_makes_neighbours_alike() -> None:
    taps = lanczos(np.linspace(0, 0.99, 50))
    np.testing.assert_allclose(taps.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(taps[0], [0, 0, 1, 0, 0, 0], atol=1e-6)
    noise = resampled_noise(np.full((300, 320), 2.0, np.float32), CONDITIONS, np.random.default_rng(1))
    assert noise.shape == (300, 320)
    assert 1.0 < noise.std() <= 2.02
    assert abs(noise.mean()) < 0.05


def test_an_uneven_sky_has_a_step_in_the_middle() -> None:
    sky = uneven_sky(CONDITIONS, 100.0)
    assert sky.shape == (300, 320)
    assert sky.dtype == np.float32
    step = (sky[:, 160] - sky[:, 159]).mean() - (sky[:, 159] - sky[:, 158]).mean()
    assert 0 < abs(step) < 0.6 * CONDITIONS.noise.sigma
