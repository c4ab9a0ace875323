import numpy as np
import pytest

from benchmarks.pulls import correlated_noise
from kernels.footprint import Segment, stadium
from kernels.psf import moffat_mixture
from kernels.sandwich import Noise
from kernels.scene import Scene
from kernels.shape import blob_pixels, lobes, sharpness
from kernels.trail_fit import fit_trail
from kernels.trail_model import trail_image

PSF = moffat_mixture(2.3, 3.0)
SHAPE = (60, 70)
NOISE, CORRELATION = correlated_noise(np.random.default_rng(4), SHAPE)


def scene(pixels):
    return Scene((pixels + 10 * NOISE).astype(np.float32), np.ones(SHAPE, bool), PSF, 2.3, Noise(10.0, CORRELATION))


def source(x, y, length=0.0, angle=0.0, flux=2000.0):
    return flux * trail_image(SHAPE, x, y, length, angle, PSF)


def test_dipole_has_as_much_below_as_above_and_a_source_nothing():
    dipole = lobes(scene(source(35, 30) - source(37, 31)), Segment(35, 30, 0, 0), 0.0)
    assert dipole.fraction == pytest.approx(1, abs=0.25)
    assert dipole.lowest < -8
    for trail in ((35, 30, 0.0, 0.0), (35, 30, 18.0, 50.0)):
        assert lobes(scene(source(*trail)), Segment(*trail), 0.0).fraction < 0.05


def test_smoothed_noise_has_unit_variance():
    there = scene(np.zeros(SHAPE))
    whole = Segment(34.5, 29.5, 300, 40)
    light = lobes(there, whole, 0.0)
    # E[max(z - 2, 0)] = 0.0085 per pixel of unit variance; a few hundred independent ones are here
    count = len(stadium(SHAPE, whole, 3 * 2.3).y)
    assert light.positive + light.negative == pytest.approx(2 * 0.0085 * count, rel=0.5)


def test_pure_noise_has_no_lobe_to_speak_of():
    light = lobes(scene(np.zeros(SHAPE)), Segment(35, 30, 10, 0), 0.0)
    assert light.lowest > -5
    assert light.positive < 30


def test_level_counts_as_neither():
    there = scene(source(35, 30) + 300)
    assert lobes(there, Segment(35, 30, 0, 0), 300.0).fraction < 0.05


def test_source_is_as_sharp_as_its_psf_and_a_cosmic_ray_sharper():
    trail = scene(source(35.3, 29.6, 12, 40, 4000))
    assert sharpness(trail, fit_trail(trail, Segment(35, 30, 10, 45))) == pytest.approx(1, abs=0.1)
    ray = np.zeros(SHAPE)
    ray[30, 30:36] = 600
    assert sharpness(scene(ray), fit_trail(scene(ray), Segment(33, 30, 5, 0))) > 1.35
    hit = np.zeros(SHAPE)
    hit[30, 35] = 1500
    assert sharpness(scene(hit), fit_trail(scene(hit), Segment(35, 30, 0, 0))) > 1.8


def test_blob_is_neither_a_column_nor_a_cosmic_ray():
    bad = np.zeros(SHAPE, bool)
    bad[:, 40:42] = True
    bad[25, 20:30] = True
    assert blob_pixels(~bad, Segment(35, 30, 10, 0), 15) == 0
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bad |= np.hypot(x - 45, y - 22) < 5
    assert blob_pixels(~bad, Segment(35, 30, 10, 0), 15) > 30
    assert blob_pixels(~bad, Segment(10, 50, 0, 0), 10) == 0


def test_dark_light_beside_a_trail_is_told_by_where_along_it_lies():
    trail = Segment(35, 30, 30, 0)
    bright = source(35, 30, 30, 0, 6000)
    assert lobes(scene(bright), trail, 0.0).beside < 0.3
    assert 0.2 < lobes(scene(bright - source(26, 34, 0, 0, 1000)), trail, 0.0).beside < 0.6
    assert lobes(scene(bright - source(35, 34, 30, 0, 6000)), trail, 0.0).beside > 0.8
