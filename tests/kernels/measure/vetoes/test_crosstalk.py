import numpy as np
import pytest

from kernels.image.noise import Noise
from kernels.measure.vetoes.crosstalk import crosstalk_evidence, crosstalk_ghosts
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene

SHAPE, SIGMA, LEVEL, FULL = (200, 301), 5.0, 2.0, 6e4
BLEEDS = ((slice(20, 60), slice(50, 53)), (slice(100, 180), slice(220, 223)))
NOISE = Noise(SIGMA, np.ones((1, 1)))


def images(strength, mirror=True, bleeds=BLEEDS):
    """Difference and science image with bleeds, and ghosts of them of so many sigma, mirrored or shifted."""
    rng = np.random.default_rng(2)
    science = 300 + rng.normal(0, SIGMA, SHAPE)
    for box in bleeds:
        science[box] = FULL
    light = science == FULL
    ghost = light[:, ::-1] if mirror else np.roll(light, SHAPE[1] // 2 + 40, 1)
    difference = LEVEL + rng.normal(0, SIGMA, SHAPE) + strength * SIGMA * ghost
    return difference.astype(np.float32), science.astype(np.float32)


def scene_of(difference, usable=None):
    usable = np.ones(SHAPE, bool) if usable is None else usable
    return Scene(difference, usable, moffat_mixture(2.4, 3.0), 2.4, NOISE, LEVEL)


def ghosts(difference, science, usable=None):
    return crosstalk_ghosts(scene_of(difference, usable), science)


@pytest.mark.parametrize("strength", [0.8, 1.5, 40.0])
def test_ghosts_are_where_saturated_pixels_are_mirrored(strength):
    difference, science = images(strength)
    np.testing.assert_array_equal(ghosts(difference, science), (science == FULL)[:, ::-1])


@pytest.mark.parametrize(("strength", "mirror"), [(0.0, True), (0.2, True), (-1.5, True), (1.5, False)])
def test_an_image_without_positive_ghosts_there_has_none(strength, mirror):
    assert ghosts(*images(strength, mirror)) is None


def test_a_cutout_is_no_detector_whose_middle_column_mirrors():
    difference, science = images(5.0)
    for width, told in ((128, False), (129, True)):
        middle = np.s_[:, 150 - width // 2 : 150 - width // 2 + width]
        part = np.array(science[middle])
        part[20:60, 10:14] = FULL
        light = np.array(difference[middle]) + 100 * SIGMA * (part == FULL)[:, ::-1].astype(np.float32)
        scene = scene_of(light, np.ones(light.shape, bool))
        assert (crosstalk_ghosts(scene, part) is not None) == told


def test_a_star_on_the_middle_column_is_not_its_own_ghost():
    difference, science = images(5.0)
    science[150:160, 145:156] = FULL
    difference[150:160, 145:156] += 50 * SIGMA
    found = ghosts(difference, science)
    assert found is not None
    assert not found[150:160, 145:156].any()


def test_one_bright_source_on_a_mirrored_star_is_not_enough():
    difference, science = images(0.0)
    difference[30:36, 300 - 51] += 1e4
    assert ghosts(difference, science) is None


def test_a_hundred_pixels_are_needed_to_tell():
    small = ((slice(20, 53), slice(50, 53)),)
    assert ghosts(*images(5.0, bleeds=small)) is None
    assert ghosts(*images(5.0, bleeds=((slice(20, 54), slice(50, 53)),))) is not None
    difference, science = images(5.0)
    for count, told in ((100, True), (99, False)):
        usable = np.zeros(SHAPE, bool)
        usable[tuple(np.argwhere((science == FULL)[:, ::-1])[:count].T)] = True
        assert (ghosts(difference, science, usable) is not None) == told
    usable = np.zeros(SHAPE, bool)
    usable[:60] = True
    assert ghosts(difference, science, usable) is not None
    usable[40:] = False
    assert ghosts(difference, science, usable) is None


def test_nothing_tells_without_a_science_image_and_spoilt_pixels_do_not_count():
    difference, science = images(5.0)
    assert ghosts(difference, None) is None
    assert ghosts(difference, np.full(SHAPE, np.nan, np.float32)) is None
    science[0, :50] = np.nan
    science[1, :50] = FULL / 2  # no brighter than half of the brightest
    assert ghosts(difference, science).sum() == 3 * (40 + 80)


@pytest.mark.parametrize(
    ("trail", "evidence"),
    [
        (Segment(249.0, 40.0, 20.0, 90.0), 2.5),  # along a ghost of columns 248 to 250
        (Segment(249.0, 40.0, 0.0, 0.0), 2.5),
        (Segment(249.0, 60.0, 40.0, 90.0), 1.5),  # half of it beyond the end
        (Segment(249.0, 40.0, 40.0, 0.0), 0.25),  # across it
        (Segment(240.0, 40.0, 20.0, 90.0), 0.0),
        (Segment(-50.0, 40.0, 0.0, 0.0), 0.0),
    ],
)
def test_the_evidence_is_the_share_of_a_trail_on_ghosts(trail, evidence):
    difference, science = images(1.5)
    scene = scene_of(difference)
    assert crosstalk_evidence(scene, trail) == 0
    scene = scene._replace(ghosts=ghosts(difference, science))
    assert crosstalk_evidence(scene, trail) == pytest.approx(evidence, abs=0.15)


def test_ghosts_are_ten_standard_errors_bright_in_the_mean():
    science = np.zeros(SHAPE, np.float32)
    science[50:60, 20:60] = FULL  # 400 pixels, whose mean has a standard error of 0.05
    for strength, told in ((0.5, True), (0.499, False)):
        difference = np.full(SHAPE, LEVEL + strength * SIGMA, np.float32)
        assert (ghosts(difference, science) is not None) == told
