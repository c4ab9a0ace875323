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
def test_learns_and_says_how_well(examples, monkeypatch):
    monkeypatch.setattr(cell_crops, "_SHOWN", 50)
    net, losses, lines = fitted(examples, 101)
    assert len(losses) == len(lines) == 3
    assert np.mean(losses[1:]) < 0.8 * losses[0]
    assert not net.training
    assert lines[-1].startswith("batch 101 of 101: loss")


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
def test_the_eight_symmetries_move_labels_with_pixels(monkeypatch):
    monkeypatch.setattr(cell_crops, "_MISJUDGED", 0.0)  # in white noise the unit of a pixel depends on the PSF
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


def test_cells_at_the_bounds_are_on_a_trail_and_not_beside_it():
    labels = CellLabels(CELLS)
    labels.add(24.5, 21.5, 0.0, 0.0)  # 3 px from the middle of column 5, 9 from that of column 8
    assert labels.label[5].nonzero()[0].tolist() == [5, 6]
    assert labels.label.sum() == 2
    assert labels.weight[5, 5] == pytest.approx(6 / np.sqrt(2))
    beside = CellLabels(CELLS)
    beside.ignore(29.5, 21.5, 0.0, 0.0)  # 8 px from the middles of columns 5 and 9
    assert (beside.weight[5, 5], beside.weight[5, 9]) == (1, 1)
    assert beside.weight[5, 6:9].tolist() == [0, 0, 0]
    assert (ON_PX, BESIDE_PX) == (3.0, 8.0)


@pytest.mark.parametrize("length", [0.0, 10.0, 30.0, 60.0, 110.0])
def test_a_trail_of_k_cells_weighs_six_roots_of_k_and_a_cell_never_less_than_1_4(length):
    labels = CellLabels(CELLS)
    labels.add(80.0, 80.0, length, 20.0)
    on = labels.label == 1
    np.testing.assert_allclose(labels.weight[on], max(6 / np.sqrt(on.sum()), 1.4), rtol=1e-6)
    outside = CellLabels(CELLS)
    outside.add(-500.0, 80.0, 0.0, 20.0)
    assert (outside.weight == 1).all()


def test_defaults_of_crops_and_fit():
    assert CropPlan({}) == CropPlan({}, (0.6, 0.15), 16, 1)
    assert CellFit(3) == CellFit(3, 2e-3, 1e-3)
    assert SIDE == 160


def described(plane_of):
    """Crops are not described: what they would be made of is noted."""
    return lambda plane, *rest: plane_of.append((plane, rest)) or np.zeros((40, 40, 48), np.float32)


def moments(values):
    values = np.asarray(values, np.float64).ravel()
    return [values.sum(), (values**2).sum(), (values * np.arange(len(values))).sum() / len(values)]


def test_crops_are_what_the_seed_says(monkeypatch):
    """Of places, of injected trails, of what is done to them: figures in the documentation were measured on these."""
    planes = []
    monkeypatch.setattr(cell_crops, "dense_input", described(planes))
    field, rng = with_trail(TRAIL), np.random.default_rng(12)
    drawn = [draw_crop(field, rng.uniform(-40, 200), rng.uniform(-40, 180), rng) for _ in range(30)]
    np.testing.assert_allclose(moments([label for _, label, _ in drawn]), GOLDEN_CROPS[0], rtol=1e-6)
    np.testing.assert_allclose(moments([weight for _, _, weight in drawn]), GOLDEN_CROPS[1], rtol=1e-6)
    np.testing.assert_allclose(moments([plane.pixels for plane, _ in planes]), GOLDEN_CROPS[2], rtol=1e-5)
    off = np.log([plane.fwhm_px / 2.2 for plane, _ in planes])
    np.testing.assert_allclose(moments(off), GOLDEN_CROPS[3], rtol=1e-6)
    assert 0.05 < off.std() < 0.11
    assert {rest for _, rest in planes} == {(0, 0, 40, 40)}


GOLDEN_CROPS = [
    [386.0, 386.0, 224.54116666666667],
    [34151.68199455738, 35252.0171017018, 17047.108793178326],
    [10471.209848589193, 31004.862568346216, 5977.063047564615],
    [0.10468856753007456, 0.2079274658704734, -0.10421676493120385],
]


def test_injected_trails_are_short_three_times_in_ten_and_of_any_length_and_brightness(monkeypatch):
    made = []
    monkeypatch.setattr(cell_crops, "trail_stamp", lambda trail, *rest: made.append(trail) or 1 / 0)
    field, rng = field_of(np.zeros(SHAPE)), np.random.default_rng(2)
    for _ in range(3000):
        with pytest.raises(ZeroDivisionError):
            cell_crops._inject(np.zeros((SIDE, SIDE)), None, None, field, rng)
    x, y, length, angle, snr = np.array([(t.x, t.y, t.length, t.angle, t.snr) for t in made]).T
    assert (min(x.min(), y.min()), max(x.max(), y.max())) == pytest.approx((16, 144), abs=0.5)
    # Three in ten up to 3 px; of the others ln 3 / ln 60.
    assert (length < 3).mean() == pytest.approx(0.3 + 0.7 * np.log(3) / np.log(60), abs=0.03)
    assert (length < 1).mean() == pytest.approx(0.1, abs=0.02)
    assert length.max() == pytest.approx(60, rel=0.02)
    assert (angle.min(), angle.max()) == pytest.approx((0, 180), abs=0.5)
    assert (snr.min(), snr.max()) == pytest.approx((4.5, 40), rel=0.01)
    assert np.log(snr).mean() == pytest.approx(np.log(4.5 * 40) / 2, abs=0.04)
    np.testing.assert_allclose([x.sum(), y.sum(), length.sum(), angle.sum(), snr.sum()], GOLDEN_TRAILS, rtol=1e-6)


GOLDEN_TRAILS = [242141.1761547441, 239464.37015859125, 33099.23901635218, 265471.8348891182, 48305.047970258296]


def test_a_crop_begins_up_to_24_px_outside_the_image(monkeypatch):
    corners = []
    monkeypatch.setattr(cell_crops, "_cut", lambda field, x0, y0: corners.append((x0, y0)) or 1 / 0)
    field = field_of(np.zeros(SHAPE))
    for place in ((-1e3, -1e3), (1e3, 1e3), (20.9, 30.2)):
        with pytest.raises(ZeroDivisionError):
            draw_crop(field, *place, np.random.default_rng(0))
    assert corners == [(-24, -24), (320 - 160 + 24, 300 - 160 + 24), (20, 30)]


def test_a_cut_crop_holds_the_image_and_the_background_beyond_it():
    pixels = np.arange(300.0 * 320).reshape(300, 320)
    field = field_of(pixels, usable=pixels % 7 > 0)
    wide = np.full((348, 368), 0.0)
    wide[24:324, 24:344] = pixels
    seen = np.zeros(wide.shape, bool)
    seen[24:324, 24:344] = field.usable
    for x0, y0 in ((-24, -24), (184, 164), (-5, 160), (170, 20)):
        part, usable = cell_crops._cut(field, x0, y0)
        box = slice(y0 + 24, y0 + 184), slice(x0 + 24, x0 + 184)
        np.testing.assert_array_equal(part, wide[box])
        np.testing.assert_array_equal(usable, seen[box])


def test_crops_are_centred_on_hard_places_trails_and_anything_by_their_shares(examples):
    field, rng = cell_crops.open_field(examples[0]), np.random.default_rng(4)
    hard = {field.name: np.array([[50.0, 60.0, 1.0], [300.0, 350.0, 3.0]])}
    drawn = [cell_crops._centre(field, CropPlan(hard, (0.4, 0.3)), rng) for _ in range(2000)]
    places = {"hard": {(50.0, 60.0), (300.0, 350.0)}}
    trails = set(zip(field.targets.x[field.wanted].tolist(), field.targets.y[field.wanted].tolist(), strict=True))
    assert np.mean([one in places["hard"] for one in drawn]) == pytest.approx(0.4, abs=0.04)
    assert np.mean([one in trails for one in drawn]) == pytest.approx(0.3, abs=0.04)
    assert drawn.count((300.0, 350.0)) / drawn.count((50.0, 60.0)) == pytest.approx(3, rel=0.25)
    x, y = np.array([one for one in drawn if one not in trails | places["hard"]]).T
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((0, 450, 0, 420), abs=5)
    np.testing.assert_allclose(np.sum(drawn, axis=0), GOLDEN_CENTRES, rtol=1e-6)


GOLDEN_CENTRES = [457457.6046660392, 495985.997728097]


def test_a_crop_has_what_it_is_centred_on_20_px_or_more_from_its_rim(monkeypatch):
    corners = []
    monkeypatch.setattr(cell_crops, "draw_crop", lambda field, x, y, rng: corners.append((x, y)))
    monkeypatch.setattr(cell_crops, "_centre", lambda field, plan, rng: (500.0, 600.0))
    rng = np.random.default_rng(1)
    for _ in range(500):
        cell_crops._crop(None, None, rng)
    inside = np.array([500.0, 600.0]) - corners
    assert (inside.min(0), inside.max(0)) == (pytest.approx([20, 20], abs=1), pytest.approx([140, 140], abs=1))
    np.testing.assert_allclose(inside.sum(0), GOLDEN_INSIDE, rtol=1e-6)


GOLDEN_INSIDE = [39915.080882771224, 40421.47658766719]


class Odds(torch.nn.Module):
    """Says of every cell what its only weight is."""

    def __init__(self):
        super().__init__()
        self.odds = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, cells):
        return self.odds.expand(len(cells), 2, 2)


def test_the_mean_loss_of_every_two_hundred_batches_is_told(monkeypatch, fit_settings):
    def batches(examples, plan):
        label = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
        n = 0
        while True:
            n += 1
            yield torch.zeros(1, 48, 2, 2), label, torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]) * n

    monkeypatch.setattr(cell_crops, "draw_batches", batches)
    net, lines = Odds(), []
    fit = CellFit(201, rate=1e-9, decay=1e-2)
    losses = fit_cells(net, [], CropPlan({}), fit, torch.device("cpu"), lines.append)
    assert fit_settings == [(1e-9, 1e-2), (1e-9, 201, 0.1)]
    each = (2 * np.log1p(np.exp(0.5)) + 2 * np.log1p(np.exp(-0.5))) / 4
    np.testing.assert_allclose(losses, each * np.array([100.5, 201]), rtol=1e-5)
    assert [line.partition(":")[0] for line in lines] == [f"batch {n} of 201" for n in (200, 201)]
    assert float(lines[0].split()[-1]) == pytest.approx(each * 100.5, rel=1e-5)
    assert not net.training


def test_a_batch_is_cells_channels_first_as_described(examples):
    (cells, _, _), *_ = batches(examples, 9, count=1)
    rng = np.random.default_rng([9, 0])
    fields = [cell_crops.open_field(example) for example in examples]
    plan = CropPlan({}, batch=3, seed=9)
    first = cell_crops._crop(fields[rng.integers(2)], plan, rng)
    np.testing.assert_array_equal(cells[0].numpy(), first[0].transpose(2, 0, 1))
