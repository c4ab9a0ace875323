import numpy as np

from kernels.image.noise import Noise
from kernels.image.variation import varied
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.psf_shape import psf_at
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene, trail_shape, view
from kernels.trails.trail_model import trail_image
from schemas.exposure import Variation

PSF = moffat_mixture(2.3, 3.0)


def test_view_holds_the_pixels_and_hides_what_is_not_usable():
    pixels = np.arange(600, dtype=np.float32).reshape(20, 30)
    pixels[10, 12] = np.nan
    seen = view(Scene(pixels, np.isfinite(pixels), PSF, 2.3, Noise(1.0, np.array([[1.0]]))), Segment(12, 10, 4, 0), 3)
    values = np.where(np.isfinite(pixels), pixels, 0)[seen.footprint.y, seen.footprint.x]
    np.testing.assert_array_equal(seen.values, values)
    assert (seen.use == 0).sum() == 1


def test_shape_is_the_image_of_the_trail():
    scene = Scene(np.zeros((40, 50), np.float32), np.ones((40, 50), bool), PSF, 2.3, Noise(1.0, np.array([[1.0]])))
    segment = Segment(22, 19, 9, 35)
    footprint = view(scene, segment, 6).footprint
    expected = trail_image((40, 50), *segment, PSF)[footprint.y, footprint.x]
    np.testing.assert_allclose(trail_shape(scene, footprint, segment), expected, atol=1e-12)


def test_each_place_has_its_own_psf_and_noise():
    mesh = {"y": (0.0, 20.0), "x": (0.0, 20.0)}
    shape = Variation(values=(((0.0, 0.1), (0.2, 0.3)), ((0.0, 0.1), (0.0, 0.1)), ((0.05, 0.0),) * 2), **mesh)
    noise = Variation(values=(((1.0, 1.2), (0.9, 1.5)),), **mesh)
    scene = Scene(
        np.zeros((40, 50), np.float32), np.ones((40, 50), bool), PSF, 2.3, Noise(3.0, np.array([[1.0]])),
        psf_variation=shape, noise_variation=noise,
    )  # fmt: skip
    places = [(3.0, 4.0), (17.5, 12.0), (44.0, 39.0)]
    for found, (x, y) in zip(scene.at_each(places), places, strict=True):
        np.testing.assert_array_equal(found.psf.stretch, psf_at(PSF, shape, x, y).stretch)
        assert found.noise.sigma == 3.0 * varied(noise, np.array([x]), np.array([y]))[0, 0]
    assert scene.at_each([]) == []
