import numpy as np
import pytest

from kernels.footprint import Segment
from kernels.psf import moffat_mixture
from kernels.sandwich import Noise
from kernels.scene import Scene
from kernels.squash import squash
from kernels.stamps import CHANNELS, SIDE, Fitted, candidate_stamps
from kernels.trail_model import trail_image

PSF = moffat_mixture(2.2, 3.0)
SHAPE = (150, 160)


def scene_of(pixels, usable=None):
    usable = np.ones(SHAPE, bool) if usable is None else usable
    return Scene(pixels.astype(np.float32), usable, PSF, 2.2, Noise(2.0, np.ones((1, 1)), np.inf))


def squashed(values):
    out = np.array(values, np.float32)
    squash(out)
    return out


def test_a_perfect_fit_leaves_nothing():
    trail = Segment(70.3, 81.6, 12.0, 30.0)
    pixels = 5.0 + 900.0 * trail_image(SHAPE, trail.x, trail.y, trail.length, trail.angle, PSF)
    (stamp,) = candidate_stamps(scene_of(pixels), [Fitted(trail, 900.0, 5.0)])
    assert stamp.shape == (CHANNELS, SIDE, SIDE)
    np.testing.assert_allclose(stamp[0], squashed((pixels[82 - 16 : 82 + 16, 70 - 16 : 70 + 16] - 5) / 2), atol=1e-4)
    np.testing.assert_allclose(stamp[0], stamp[2], atol=1e-4)
    np.testing.assert_allclose(stamp[1], 0, atol=1e-3)
    assert not stamp[3].any()


def test_coarse_pictures_add_up_squares_about_the_same_pixel():
    rng = np.random.default_rng(3)
    pixels, usable = rng.normal(0, 2, SHAPE), rng.random(SHAPE) > 0.1
    (stamp,) = candidate_stamps(scene_of(pixels, usable), [Fitted(Segment(80.0, 75.0, 0.0, 0.0), 10.0, 0.0)])
    box = np.s_[75 - 49 : 75 + 47, 80 - 49 : 80 + 47]
    blocks = np.where(usable, pixels / 2, 0)[box].reshape(32, 3, 32, 3).sum((1, 3)) / 3
    np.testing.assert_allclose(stamp[4], squashed(blocks), atol=1e-4)
    np.testing.assert_allclose(stamp[5], (~usable)[box].reshape(32, 3, 32, 3).mean((1, 3)), atol=1e-5)


@pytest.mark.parametrize("place", [(0.0, 0.0), (159.0, 149.0), (-3.0, 60.0)])
def test_beyond_the_border_nothing_counts(place):
    (stamp,) = candidate_stamps(scene_of(np.full(SHAPE, 50.0)), [Fitted(Segment(*place, 3.0, 10.0), 100.0, 0.0)])
    outside = stamp[3] == 1
    assert outside.any()
    assert (stamp[0][outside] == 0).all()
    assert (stamp[1][outside] == 0).all()
    assert np.isfinite(stamp).all()


def test_none():
    assert candidate_stamps(scene_of(np.zeros(SHAPE)), []).shape == (0, CHANNELS, SIDE, SIDE)
