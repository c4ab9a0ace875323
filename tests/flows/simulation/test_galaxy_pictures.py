import numpy as np
import pytest

from flows.simulation.galaxy_pictures import LEVELS, SIDE, GalaxyShape, drawn_shape, galaxy_picture
from flows.training.svdd_fit import picture_moments


def picture(level=2, seed=1, **given):
    shape = drawn_shape(level, np.random.default_rng(seed))._replace(**given)
    return galaxy_picture(shape, np.random.default_rng(seed))


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_a_picture_has_its_galaxy_in_the_middle_and_the_seed_decides(level):
    first, again = picture(level), picture(level)
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    light = first.mean(2)
    middle = light[SIDE // 2 - 20 : SIDE // 2 + 20, SIDE // 2 - 20 : SIDE // 2 + 20].mean()
    assert middle > 3 * np.median(light) + 10


def test_only_the_plainest_has_no_noise():
    corners = [picture(level)[:60, :60].std() for level in range(3)]
    assert corners[0] < 0.5 < corners[1]


def test_only_the_hardest_has_noise_alike_in_pixels_beside():
    corners = [picture(level)[:60, :60].mean(2) for level in (1, 2, 3)]
    alike = [np.corrcoef(one[:, 1:].ravel(), one[:, :-1].ravel())[0, 1] for one in corners]
    assert max(np.abs(alike[:2])) < 0.1 < 0.3 < alike[2]


def test_the_axis_ratio_is_the_one_asked_for():
    import torch

    for ratio in (0.2, 0.6):
        shape = GalaxyShape(level=0, radius=10.0, ratio=ratio, turn=0.4, bulge=0.0, arms=0.0)
        pixels = torch.from_numpy(galaxy_picture(shape, np.random.default_rng(2))).permute(2, 0, 1)[None]
        ellipticity = picture_moments(pixels)[0, 4]
        assert ellipticity == pytest.approx((1 - ratio**2) / (1 + ratio**2), abs=0.12)


def test_shapes_have_bulges_and_arms_from_their_levels_on():
    shapes = [drawn_shape(level, np.random.default_rng(7)) for level in range(4)]
    assert [shape.bulge > 0 for shape in shapes] == [False, False, True, True]
    assert [shape.arms > 0 for shape in shapes] == [False, False, False, True]
