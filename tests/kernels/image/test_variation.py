import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from kernels.image.noise_map import noise_variation
from kernels.image.variation import evened, leave_weightless, variance_scale, varied
from schemas.exposure import Variation

MESH = Variation(
    values=(((1.0, 2.0, 4.0), (0.5, 1.5, 3.0)), ((0.0, 1.0, 0.0), (2.0, 2.0, 5.0))), y=(10.0, 40.0), x=(5.0, 20.0)
)


def uneven(seed, shape=(1024, 1280), most=2.0):
    """Noise whose standard deviation rises from 10 along x; and that standard deviation."""
    sigma = 10 * np.linspace(1, most, shape[1]) * np.ones((shape[0], 1))
    return (np.random.default_rng(seed).normal(3, sigma)).astype(np.float32), sigma


def test_between_nodes_it_is_bilinear_and_beyond_them_constant():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-30, 90, 200), rng.uniform(-30, 90, 200)
    theirs = RegularGridInterpolator(([10, 50], [5, 25, 45]), np.moveaxis(np.array(MESH.values), 0, -1))
    inside = np.stack([np.clip(y, 10, 50), np.clip(x, 5, 45)], 1)
    np.testing.assert_allclose(varied(MESH, x, y), theirs(inside).T, atol=1e-12)


def test_a_part_of_an_image_sees_the_same():
    part = MESH.shifted(7, 3)
    np.testing.assert_allclose(
        varied(part, np.array([11.0]), np.array([23.0])), varied(MESH, np.array([14.0]), np.array([30.0]))
    )


@pytest.mark.parametrize("told", [False, True])
def test_noise_is_followed_over_the_image(told):
    image, sigma = uneven(2)
    usable = np.ones(image.shape, np.bool_)
    variance = (7 * sigma**2).astype(np.float32) if told else None  # its unit does not matter
    found = noise_variation(image, usable, 15.0, variance)
    assert found is not None
    x = np.linspace(130, 1150, 20)
    relative = varied(found, x, np.full(20, 500.0))[0]
    np.testing.assert_allclose(15.0 * relative, sigma[0, np.rint(x).astype(int)], rtol=0.02 if told else 0.04)
    if variance is not None:
        assert variance_scale(variance, usable, 15.0, found) == pytest.approx(1 / 7, rel=0.02)
    spread = [np.std(evened(image, 3.0, found)[:, at : at + 200]) for at in (100, 600, 1050)]
    np.testing.assert_allclose(spread, 15.0, rtol=0.06)


def test_stars_and_even_noise_are_no_variation():
    image, _ = uneven(3, most=1.0)
    rng = np.random.default_rng(4)
    for y, x in rng.integers(10, 1000, (400, 2)):
        image[y - 3 : y + 4, x - 3 : x + 4] += 500
    assert noise_variation(image, np.ones(image.shape, np.bool_), 10.0) is None
    assert evened(image, 3.0, None) is image


def test_what_is_masked_takes_the_noise_of_its_neighbours():
    image, sigma = uneven(5)
    usable = np.ones(image.shape, np.bool_)
    usable[:300, :300] = False
    image[:300, :300] = np.nan
    found = noise_variation(image, usable, 15.0, sigma.astype(np.float32) ** 2)
    assert found is not None
    assert np.isfinite(np.array(found.values)).all()
    assert noise_variation(image, usable & False, 15.0) is None
    assert np.isnan(variance_scale(np.zeros(image.shape, np.float32), usable, 15.0, None))


def test_a_masked_cell_has_the_noise_of_the_nearest_that_is_none():
    levels = np.repeat([[1.0, 2, 3, 4]], 4, axis=0) * np.array([[1.0], [1.2], [1.4], [1.6]])
    noise = np.random.default_rng(6).normal(size=(1024, 1024)) * np.kron(levels, np.ones((256, 256)))
    usable = np.ones((1024, 1024), np.bool_)
    usable[:, :256] = usable[:, 768:] = False
    found = noise_variation(noise.astype(np.float32), usable, 1.0)
    assert found is not None
    np.testing.assert_allclose(np.array(found.values[0]), levels[:, [1, 1, 2, 2]], rtol=0.03)


def test_a_pixel_does_not_depend_on_the_tile_it_is_in():
    image, _ = uneven(6, (300, 320))
    mesh = Variation(values=(((0.7, 1.2), (1.1, 1.6)),), y=(75.0, 150.0), x=(80.0, 160.0))
    whole = evened(image, 3.0, mesh)
    np.testing.assert_array_equal(evened(image[40:200, 90:310], 3.0, mesh, 40, 90), whole[40:200, 90:310])
    y, x = (at.ravel() for at in np.indices(image.shape))
    relative = varied(mesh, x, y)[0].astype(np.float32).reshape(image.shape)
    np.testing.assert_array_equal(whole, (image - np.float32(3.0)) / relative + np.float32(3.0))
    assert whole.dtype == np.float32


@pytest.mark.parametrize("told", [np.inf, 1e30, 1e6 * 49.0])
def test_what_has_no_weight_does_not_count(told):
    variance = np.full((4, 5), 49.0, np.float32)
    variance[1, 2], variance[2, 3], variance[3, 4] = told, np.nan, 3000 * 49.0
    usable = np.ones(variance.shape, np.bool_)
    usable[0, 0] = False
    leave_weightless(usable, variance, 49.0)
    assert np.argwhere(~usable).tolist() == [[0, 0], [1, 2]]
    leave_weightless(usable, variance, 1e38)  # no warning where the limit is more than such a number can be


def test_what_has_no_weight_says_nothing_of_the_scale_of_variances():
    variance = np.full((4, 5), np.inf, np.float32)
    variance[:2, :3] = 50.0
    variance[3, 4], variance[3, 3] = np.nan, -1.0
    assert variance_scale(variance, np.ones(variance.shape, np.bool_), 10.0, None) == pytest.approx(2)
    assert np.isnan(variance_scale(variance[2:], np.ones((2, 5), np.bool_), 10.0, None))
