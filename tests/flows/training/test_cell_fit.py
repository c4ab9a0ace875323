from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows.training import cell_fit as cell_crops
from flows.training.cell_fit import (
    BESIDE_PX,
    ON_PX,
    SIDE,
    CellFit,
    CellLabels,
    CropPlan,
    draw_batches,
    draw_crop,
    fit_cells,
)
from kernels.nets.streak_net import StreakNet
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_model import trail_image
from tests.support.field import field_of


def fitted(examples, batches):
    torch.manual_seed(0)
    net = StreakNet(8, (1, 1))
    torch.nn.init.constant_(net.last.bias, -4.0)
    lines = []
    plan = CropPlan({}, batch=4, seed=3)
    losses = fit_cells(net, examples, plan, CellFit(batches, rate=1e-2), torch.device("cpu"), lines.append)
    return net, losses, lines


@pytest.mark.slow
def test_learns_and_says_how_well(examples):
    net, losses, lines = fitted(examples, 401)
    assert len(losses) == len(lines) == 3
    assert np.mean(losses[1:]) < 0.8 * losses[0]
    assert not net.training
    assert lines[-1].startswith("batch 401 of 401: loss")


def test_the_same_seed_gives_the_same_weights_and_they_move(examples):
    (one, losses, lines), (other, *_) = fitted(examples, 3), fitted(examples, 3)
    assert len(losses) == len(lines) == 1
    torch.manual_seed(0)
    start = StreakNet(8, (1, 1)).state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
        assert not torch.equal(value, start[name])


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


CELLS = 40
TRAILS = {"x": st.floats(8, 152), "y": st.floats(8, 152), "length": st.floats(0, 60), "angle": st.floats(0, 180)}


def distance(x, y, length, angle):
    """Of the middles of the cells from a trail, by 2001 points along it, (CELLS, CELLS)."""
    along = np.linspace(-length / 2, length / 2, 2001)
    xs, ys = x + along * np.cos(np.radians(angle)), y + along * np.sin(np.radians(angle))
    row, column = np.indices((CELLS, CELLS))
    return np.array([
        np.hypot(xs - (4 * c + 1.5), ys - (4 * r + 1.5)).min() for r, c in zip(row.flat, column.flat, strict=True)
    ]).reshape(CELLS, CELLS)  # fmt: skip


@given(**TRAILS)
def test_every_trail_has_a_cell(x, y, length, angle):
    labels = CellLabels(CELLS)
    labels.add(x, y, length, angle)
    assert labels.label.sum() >= 1
    assert (labels.weight[labels.label == 1] > 1).all()


def test_labels_lie_on_the_trail_and_nothing_is_said_beside_it():
    rng = np.random.default_rng(0)
    for _ in range(20):
        trail = (*rng.uniform(8, 152, 2), rng.uniform(0, 60), rng.uniform(0, 180))
        labels, far = CellLabels(CELLS), distance(*trail)
        labels.add(*trail)
        on, beside, free = far < ON_PX - 0.05, (far > ON_PX + 0.05) & (far < BESIDE_PX - 0.05), far > BESIDE_PX + 0.05
        assert (labels.label[on] == 1).all()
        assert (labels.label[far > ON_PX + 0.05] == 0).all()
        assert (labels.weight[beside] == 0).all()
        assert (labels.weight[free] == 1).all()


def test_long_trails_weigh_more_than_short_ones_but_less_than_their_cells():
    total = []
    for length in (0, 20, 50):
        labels = CellLabels(CELLS)
        labels.add(80.0, 80.0, length, 30.0)
        total.append((labels.weight[labels.label == 1].sum(), labels.label.sum()))
    weights, cells = np.array(total).T
    assert (np.diff(weights) > 0).all()
    assert (np.diff(weights / cells) < 0).all()


def test_what_is_ignored_does_not_hide_a_trail_whichever_comes_first():
    near = (70.0, 60.0, 20.0, 90.0)
    for order in ((0, 1), (1, 0)):
        labels = CellLabels(CELLS)
        for n in order:
            (labels.add if n else labels.ignore)(*((64.0, 64.0, 30.0, 10.0) if n else near))
        alone = CellLabels(CELLS)
        alone.add(64.0, 64.0, 30.0, 10.0)
        np.testing.assert_array_equal(labels.label, alone.label)
        np.testing.assert_array_equal(labels.weight[alone.label == 1], alone.weight[alone.label == 1])
        assert labels.weight[(51 // 4), (70 // 4)] == 0


def test_the_rim_counts_for_nothing():
    labels = CellLabels(CELLS)
    labels.add(20.0, 2.0, 30.0, 5.0)
    inner = labels.weight[3:-3, 3:-3].copy()
    labels.without_border(3)
    np.testing.assert_array_equal(labels.weight[3:-3, 3:-3], inner)
    assert labels.weight.sum() == inner.sum()
