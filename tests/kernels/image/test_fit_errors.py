import numpy as np
import pytest

from benchmarks.pulls import correlated_noise
from kernels.image.fit_errors import Noise, fit_covariance
from kernels.trails.geometry import Segment, stadium


def setup(seed=3):
    rng = np.random.default_rng(seed)
    footprint = stadium((30, 30), Segment(14, 15, 8, 40), 6.0)
    n = len(footprint.y)
    return rng, footprint, rng.normal(size=(n, 3)), (rng.random(n) > 0.2).astype(float), np.zeros(n)


def test_in_white_noise_it_is_the_inverse_of_the_normal_matrix():
    _, footprint, design, use, dark = setup()
    ours = fit_covariance(design, use, dark, footprint, Noise(3.0, np.array([[1.0]])))
    np.testing.assert_allclose(ours, 9 * np.linalg.inv((design * use[:, None]).T @ design), rtol=1e-10)


def test_agrees_with_the_full_covariance_matrix_of_the_pixels():
    rng, footprint, design, use, _ = setup()
    _, correlation = correlated_noise(rng, (5, 5))
    model = rng.uniform(-5, 50, len(use))
    dy = footprint.y[:, None] - footprint.y
    dx = footprint.x[:, None] - footprint.x
    near = (np.abs(dy) <= 5) & (np.abs(dx) <= 5)
    pixels = 4 * np.where(near, correlation[np.clip(dy, -5, 5) + 5, np.clip(dx, -5, 5) + 5], 0)
    pixels += np.diag(np.maximum(model, 0) / 1.7)
    bread = np.linalg.inv((design * use[:, None]).T @ design)
    weighted = design * use[:, None]
    expected = bread @ weighted.T @ pixels @ weighted @ bread
    ours = fit_covariance(design, use, model, footprint, Noise(2.0, correlation, 1.7))
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_scale_of_a_parameter_does_not_matter():
    _, footprint, design, use, dark = setup()
    scale = np.array([1e-9, 1.0, 1e9])
    noise = Noise(2.0, np.array([[1.0]]))
    ours = fit_covariance(design * scale, use, dark, footprint, noise) * np.outer(scale, scale)
    np.testing.assert_allclose(ours, fit_covariance(design, use, dark, footprint, noise), rtol=1e-9)


@pytest.mark.parametrize("column", [np.zeros, np.ones])
def test_parameter_that_the_pixels_say_nothing_of_has_no_covariance(column):
    _, footprint, design, use, dark = setup()
    design[:, 1], design[:, 2] = column(len(use)), np.ones(len(use))
    assert np.isnan(fit_covariance(design, use, dark, footprint, Noise(2.0, np.array([[1.0]])))).all()
