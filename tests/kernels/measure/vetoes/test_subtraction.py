import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate
from scipy.signal import convolve2d

from benchmarks.detection.veto_images import SIDE, Picture, asteroid, blank, dipole, edge, sky, trail
from kernels.image.noise import Noise
from kernels.measure.vetoes.subtraction import Lobes, _compared, dipole_evidence, edge_evidence, lobes
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.pixels import MaskPlane


def evidence(picture):
    return dipole_evidence(lobes(picture.scene(), picture.trail, 0.0))


def test_a_star_less_itself():
    assert evidence(dipole()) >= 1


def test_an_asteroid_is_none():
    assert evidence(asteroid()) < 0.5


def test_the_hole_of_a_star_beside_a_long_trail_does_not_make_it_one():
    picture = asteroid(length=50.0, flux=3000.0)
    picture = picture._replace(pixels=picture.pixels - trail(86, 79, 0, 0, 2500))
    assert lobes(picture.scene(), picture.trail, 0.0).negative > 0
    assert evidence(picture) < 1


def test_a_dark_trail_beside_a_bright_one_does():
    picture = asteroid(length=30.0, flux=4000.0)
    picture = picture._replace(pixels=picture.pixels - trail(82.2, 76.7, 30, 35, 4000))
    assert evidence(picture) >= 1


@pytest.mark.parametrize(
    ("light", "expected"),
    [
        (Lobes(10.0, 0.0, -1.0, 0.0), 0.0),
        (Lobes(10.0, 5.0, -4.0, 0.5), 1.0),
        (Lobes(10.0, 5.0, -2.0, 1.0), 0.5),
        (Lobes(10.0, 5.0, -8.0, 0.1), 0.2),
        (Lobes(0.0, 50.0, -40.0, 1.0), 2.0),
    ],
)
def test_the_least_of_three_ratios(light, expected):
    assert dipole_evidence(light) == pytest.approx(expected)


def test_a_point_with_nothing_dark():
    assert evidence(asteroid(length=0.0)._replace(trail=Segment(80.3, 79.8, 0.0, 0.0))) < 0.5


def evidence_edge(picture):
    return edge_evidence(picture.scene(), picture.mask, picture.trail)


def test_a_rim_along_the_border_of_the_coverage():
    assert evidence_edge(edge()) >= 1


@pytest.mark.parametrize(
    "trail",
    [Segment(80.0, 2.0, 40.0, 0.0), Segment(SIDE - 3.0, 80.0, 40.0, 90.0), Segment(80.0, SIDE - 2.0, 30.0, 179.0)],
)
def test_along_the_last_pixels(trail):
    assert evidence_edge(Picture(sky(), blank(), trail)) >= 1


def test_an_asteroid_that_leaves_the_image_is_none():
    assert evidence_edge(Picture(sky(), blank(), Segment(15.0, 80.0, 30.0, 0.0))) < 0.5
    assert evidence_edge(edge()._replace(trail=Segment(50.0, 80.0, 40.0, 10.0))) < 0.5


def test_an_asteroid_elsewhere_is_none():
    assert evidence_edge(asteroid()) == 0


def drawn(seed, shape=(40, 46)):
    """Scene with correlated noise, light, dark and masked pixels, and a mask with a border."""
    rng = np.random.default_rng(seed)
    near = [[0.1, 0.3, 0.2], [0.4, 1.0, 0.4], [0.2, 0.3, 0.1]]  # symmetric about its middle, not in x and y
    pixels = rng.normal(3, 60, shape).astype(np.float32)
    usable = rng.random(shape) > 0.1
    pixels[~usable] = np.nan
    return Scene(pixels, usable, moffat_mixture(2.0, 3.0), 2.0, Noise(10.0, np.array(near)))


segments = st.builds(Segment, st.floats(-6, 52), st.floats(-6, 46), st.floats(0, 30), st.floats(0, 180))


@settings(max_examples=25)
@given(segments, st.integers(0, 5))
def test_lobes_are_those_of_the_smoothed_image(segment, seed):
    scene, level = drawn(seed), 3.0
    sigma = 2.0 / 2.3548
    offsets = np.arange(-3, 4)  # out to 2.5 sigma
    row = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = np.outer(row, row) / row.sum() ** 2
    covariance = convolve2d(kernel, kernel)[5:8, 5:8]  # of the kernel with itself, one pixel to each side
    spread = 10.0 * np.sqrt(np.sum(covariance * scene.noise.correlation))
    light = np.where(scene.usable, scene.pixels - level, 0)
    smooth = correlate(light.astype(float), kernel, mode="constant") / spread
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]]
    theta = np.radians(segment.angle)
    along = (x - segment.x) * np.cos(theta) + (y - segment.y) * np.sin(theta)
    across = (y - segment.y) * np.cos(theta) - (x - segment.x) * np.sin(theta)
    distance = np.hypot(np.maximum(abs(along) - segment.length / 2, 0), across)
    near = distance <= 3 * 2.0
    steps = max(1, round(segment.length / 2.0))
    limits = np.linspace(-segment.length / 2, segment.length / 2, steps + 1)
    assume(abs(distance - 6).min() > 1e-6)  # no pixel at the very limit
    assume(abs(along[..., None] - limits[1:-1]).min(initial=1) > 1e-6)
    found = lobes(scene, segment, level)
    if not near.any():
        assert found == Lobes(0.0, 0.0, 0.0, 0.0)
        return
    values = smooth[near]
    assert found.positive == pytest.approx((values[values > 2] - 2).sum(), rel=1e-6, abs=1e-6)
    assert found.negative == pytest.approx((-values[values < -2] - 2).sum(), rel=1e-6, abs=1e-6)
    assert found.lowest == pytest.approx(values.min(), rel=1e-6, abs=1e-6)
    limits[[0, -1]] = -np.inf, np.inf  # what lies beyond an end belongs to the last step
    dark = np.histogram(along[near & (smooth < -2)], limits)[0]
    assert found.beside == pytest.approx(np.mean(dark > 0))


def test_without_light_or_noise_there_are_no_lobes():
    scene = drawn(0)
    silent = scene._replace(noise=Noise(0.0, np.ones((1, 1))))
    assert lobes(silent, Segment(20.0, 20.0, 10.0, 0.0), 0.0) == Lobes(0.0, 0.0, 0.0, 0.0)
    flat = scene._replace(pixels=np.full(scene.shape, 3, np.float32))
    assert lobes(flat, Segment(20.0, 20.0, 10.0, 0.0), 3.0) == Lobes(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("positive", "negative", "fraction"),
    [(8.0, 0.0, 0.0), (8.0, 2.0, 0.25), (2.0, 8.0, 4.0), (1.0, 10.5, 10.0), (0.0, 3.0, 10.0), (4.0, 4.0, 1.0)],
)
def test_fraction_of_dark_light(positive, negative, fraction):
    assert Lobes(positive, negative, -1.0, 0.0).fraction == fraction
    assert math.isnan(Lobes(0.0, 0.0, 0.0, 0.0).fraction)


@pytest.mark.parametrize(("positive", "negative", "evidence"), [(0.5, 0.125, 0.5), (2.0, 0.5, 0.5), (0.0, 0.1, 2.0)])
def test_evidence_for_a_dipole_depends_on_the_ratio_of_dark_and_bright_light_however_little(
    positive, negative, evidence
):
    assert dipole_evidence(Lobes(positive, negative, -50.0, 1.0)) == evidence


@given(segments, st.integers(0, 5), st.sampled_from([0.8, 1.0, 2.0]))
def test_evidence_for_an_edge_is_twice_the_share_of_the_trail_with_a_border_on_one_side(segment, seed, fwhm):
    rng = np.random.default_rng(seed)
    mask = np.where(rng.random((40, 46)) < 0.3, np.uint16(MaskPlane.EDGE), np.uint16(MaskPlane.SAT))
    around = np.pad(mask & np.uint16(MaskPlane.EDGE), 40, constant_values=1)
    near = {0.8: 2, 1.0: 2, 2.0: 4}[fwhm]  # 2 FWHM in whole pixels, at least 2
    count = int(segment.length) + 1
    along = (np.arange(count) + 0.5) * segment.length / count - segment.length / 2
    theta = np.radians(segment.angle)
    shares = []
    for side in (-near, near):
        x = segment.x + along * np.cos(theta) - side * np.sin(theta)
        y = segment.y + along * np.sin(theta) + side * np.cos(theta)
        assume(np.abs(np.stack([x, y]) % 1 - 0.5).min() > 1e-6)  # not between two pixels
        shares.append(np.mean(around[np.rint(y).astype(int) + 40, np.rint(x).astype(int) + 40] > 0))
    scene = drawn(0)._replace(fwhm_px=fwhm)
    assert edge_evidence(scene, mask, segment) == pytest.approx(2 * max(shares))


@pytest.mark.parametrize("side", [0, 1])
def test_the_border_is_what_lies_beyond_the_last_pixel(side):
    ny, nx = 40, 46
    scene, mask = drawn(0), np.zeros((ny, nx), np.uint16)
    for place, found in ((3, 2.0), (4, 0.0), ((ny, nx)[side] - 5, 0.0), ((ny, nx)[side] - 4, 2.0)):
        trail = Segment(20.0, place, 12.0, 0.0) if side == 0 else Segment(place, 20.0, 12.0, 90.0)
        assert edge_evidence(scene, mask, trail) == found


def test_what_is_exactly_2_sigma_dark_is_not_dark():
    image = np.float32([[-6.0, -6.001, 0.0]])
    ends = np.zeros(3, np.int32), np.arange(3, dtype=np.int32)
    found = _compared(image, np.ones((1, 3), bool), *ends, np.ones((1, 1)), 0.0, 3.0, (1.0, 0.0, 3.0, 0.0), 3)
    assert found == pytest.approx((0.0, 0.001 / 3, -6.001 / 3, 1), rel=1e-3)
