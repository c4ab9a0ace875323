from itertools import islice

import numpy as np
import pytest
import torch

from flows.training import cell_crops
from flows.training.cell_crops import SIDE, CropPlan, draw_batches, draw_crop
from kernels.psf import moffat_mixture
from kernels.trail_model import trail_image
from tests.flows.training.field_support import field_of

SHAPE = (300, 320)
PSF = moffat_mixture(2.2, 3.0)
TRAIL = ("streak", 130.0, 140.0, 20.0, 20.0, 20.0, 1.0)


def with_trail(*rows):
    return field_of(sum(300 * trail_image(SHAPE, *row[1:5], PSF) for row in rows), rows)


def image(cells, plane=0):
    """Put the pixels of cells together, (SIDE, SIDE)."""
    side = SIDE // 4
    parts = cells[:, :, 16 * plane : 16 * plane + 16].reshape(side, side, 4, 4)
    return parts.transpose(0, 2, 1, 3).reshape(SIDE, SIDE)


def symmetries(values):
    for turns in range(4):
        turned = np.rot90(values, turns)
        yield turned
        yield turned.T


@pytest.fixture
def no_injection(monkeypatch):
    monkeypatch.setattr(cell_crops, "_TRAILS", 0.0)


@pytest.mark.usefixtures("no_injection")
def test_the_eight_symmetries_move_labels_with_pixels():
    field, rng = with_trail(TRAIL), np.random.default_rng(0)
    drawn = [draw_crop(field, 80, 90, rng) for _ in range(80)]
    known = list(zip(*(symmetries(part) for part in (image(drawn[0][0]), *drawn[0][1:])), strict=True))
    met = set()
    for cells, label, weight in drawn:
        (found,) = [n for n, (_, other, _) in enumerate(known) if np.array_equal(other, label)]
        np.testing.assert_array_equal(known[found][0], image(cells))
        np.testing.assert_array_equal(known[found][2], weight)
        met.add(found)
    assert met == set(range(8))


@pytest.mark.usefixtures("no_injection")
def test_labels_lie_where_the_light_of_a_real_trail_does():
    cells, label, weight = draw_crop(with_trail(TRAIL), 80, 90, np.random.default_rng(0))
    light = image(cells).reshape(40, 4, 40, 4).max((1, 3))
    assert label.sum() > 5
    assert light[label == 1].min() > light[(label == 0) & (weight > 0)].max()


@pytest.mark.usefixtures("no_injection")
@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("streak", 130.0, 140.0, 20.0, 20.0, 3.0, 1.0), "nothing"),
        (("streak", 130.0, 140.0, 20.0, 20.0, 20.0, 0.3), "nothing"),
        (("point", 130.0, 140.0, 0.0, 0.0, 20.0, 1.0), "nothing"),
        (("streak", 130.0, 140.0, 20.0, 20.0, -20.0, 1.0), "no"),
        (TRAIL, "yes"),
    ],
    ids=["faint", "hidden", "point", "dark", "bright"],
)
def test_what_is_asked_for_is_a_trail_that_can_be_seen(row, says):
    _, label, weight = draw_crop(with_trail(row), 80, 90, np.random.default_rng(0))
    assert (label.sum() > 0) == (says == "yes")
    assert (weight[3:-3, 3:-3] == 0).any() == (says != "no")


def test_injected_trails_are_labelled_and_nothing_else_shines():
    field, rng = field_of(np.zeros(SHAPE)), np.random.default_rng(1)
    trails = 0
    for _ in range(40):
        cells, label, weight = draw_crop(field, rng.uniform(0, 150), rng.uniform(0, 130), rng)
        light = image(cells).reshape(40, 4, 40, 4).max((1, 3))
        assert (weight[[0, 1, 2, -3, -2, -1]] == 0).all()
        assert (weight[:, [0, 1, 2, -3, -2, -1]] == 0).all()
        free = light[(label == 0) & (weight > 0)]
        if label.any():
            trails += 1
            assert light[label == 1].max() > 3 * free.max()
        else:
            assert free.max() == 0
    assert trails > 20


def test_a_hidden_injected_trail_is_not_asked_for():
    field = field_of(np.zeros(SHAPE), usable=np.zeros(SHAPE, bool))
    for seed in range(10):
        _, label, _ = draw_crop(field, 80, 90, np.random.default_rng(seed))
        assert not label.any()


def test_beyond_the_image_nothing_counts():
    ones = field_of(np.ones(SHAPE))
    cells, _, _ = draw_crop(ones, -100, -100, np.random.default_rng(0))
    hidden = image(cells, 2)
    assert hidden.sum() == SIDE**2 - (SIDE - 24) ** 2
    assert (image(cells)[hidden == 1] == 0).all()


def batches(examples, seed, count=2, **shown):
    plan = CropPlan(shown.pop("hard", {}), batch=3, seed=seed, **shown)
    return list(islice(draw_batches(examples, plan), count))


def test_batches_are_shaped_for_the_network_and_decided_by_the_seed(examples):
    one, again, other = (batches(examples, seed) for seed in (1, 1, 2))
    for cells, label, weight in one:
        assert cells.shape == (3, 48, 40, 40)
        assert label.shape == weight.shape == (3, 40, 40)
        assert {part.dtype for part in (cells, label, weight)} == {torch.float32}
    for first, second in zip(one, again, strict=True):
        assert all(map(torch.equal, first, second))
    assert not torch.equal(one[0][0], one[1][0])
    assert not torch.equal(one[0][0], other[0][0])


def test_hard_places_are_shown_as_often_as_asked(examples):
    name = examples[0].store.stem
    hard = {name: np.array([[50.0, 60.0, 0.0], [300.0, 350.0, 1.0]])}
    field = cell_crops.open_field(examples[0])
    plan, rng = CropPlan(hard, shares=(1.0, 0.0)), np.random.default_rng(0)
    assert {cell_crops._centre(field, plan, rng) for _ in range(20)} == {(300.0, 350.0)}
