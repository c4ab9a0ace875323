import numpy as np

from kernels.image.noise import Noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene, trail_shape, view
from kernels.trails.trail_model import trail_image

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
