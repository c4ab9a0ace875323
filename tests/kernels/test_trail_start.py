import numpy as np

from kernels.footprint import Segment
from kernels.psf import moffat_mixture
from kernels.sandwich import Noise
from kernels.scene import Scene, view
from kernels.trail_lm import vector
from kernels.trail_model import trail_image
from kernels.trail_start import capped, starts, without_outliers

PSF = moffat_mixture(2.3, 3.0)
TRAIL = Segment(50, 40, 60, 10)


def scene(*stars, level=20.0):
    pixels = np.random.default_rng(3).normal(level, 5, (80, 100)) + 4000 * trail_image((80, 100), *TRAIL, PSF)
    for x, y, flux in stars:
        pixels += flux * trail_image((80, 100), x, y, 0, 0, PSF)
    return Scene(pixels.astype(np.float32), np.ones((80, 100), bool), PSF, 2.3, Noise(5.0, np.array([[1.0]])))


def test_stars_are_marked_and_the_trail_is_not():
    there = scene((40, 45, 3000), (65, 43, 3000))
    seen = view(there, TRAIL, 8)
    left = without_outliers(there, seen, vector(4000, TRAIL, 20))
    f = seen.footprint
    near = np.minimum(np.hypot(f.x - 40, f.y - 45), np.hypot(f.x - 65, f.y - 43))
    assert (left.use[near < 1.5] == 0).all()
    assert (left.use[near > 7] == 1).all()


def test_a_source_brighter_than_the_model_is_not_its_own_outlier():
    there = scene()
    seen = view(there, TRAIL, 8)
    assert (without_outliers(there, seen, vector(2500, TRAIL, 20)).use == 1).all()


def test_cap_lies_above_the_trail_and_below_a_star():
    there = scene((40, 39, 30000))
    values = view(there, TRAIL, 8).values
    cap = capped(view(there, TRAIL, 8), 5.0).values.max()
    crest = 20 + 4000 * trail_image((80, 100), *TRAIL, PSF).max()
    assert crest < cap < values.max() / 5


def test_short_trails_start_in_three_directions_at_the_level_of_the_sky():
    there = scene()
    (only,) = starts(there, view(there, TRAIL, 8), TRAIL)
    assert abs(only[5] - 20) < 2.5
    assert 3000 < only[0] < 5000
    turned = starts(there, view(there, TRAIL, 8), TRAIL._replace(length=0))
    assert np.allclose(np.diff([p[4] for p in turned]), np.radians(60))
    assert all(p[0] > 0 for p in turned)
