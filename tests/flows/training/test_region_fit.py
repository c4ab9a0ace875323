import numpy as np
import pytest
import torch

from flows.training import region_fit
from flows.training.region_crops import SIDE, CropDraw, CropShares, RegionCrop, Sources
from flows.training.region_fit import RegionFit, balanced, crop_losses, fit_regions, label_boxes
from kernels.nets.region_net import ANCHORS, RegionNet
from kernels.search.boxes import box_overlap, encode
from kernels.search.region_search import FURTHEST, anchor_boxes, look_at_boxes

NONE = np.empty((0, 4))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Again:
    """Draws the same crops every time."""

    def __init__(self, crops):
        self._crops = crops

    def crops(self, count):
        return self._crops[:count]


def odds_of(net, crop):
    """Log odds of the head: of the boxes of trails, and of boxes as large that are clear of them."""
    true, rng = crop.sources.boxes, np.random.default_rng(5)
    middle = rng.uniform(30, SIDE - 31, (60, 2))
    half = (true[:, 2:] - true[:, :2])[rng.integers(len(true), size=60)] / 2
    boxes = np.concatenate([middle - half, middle + half], 1)
    label, _ = label_boxes(boxes, crop.sources, 0.5, 0.05, best=False)
    boxes = np.concatenate([true, boxes[label == 0]])
    with torch.no_grad():
        features = net.features(torch.from_numpy(crop.cells).permute(2, 0, 1)[None])
        odds, _ = look_at_boxes(net, features, np.zeros(len(boxes), int), [crop.cells], boxes)
    return odds[: len(true)].numpy(), odds[len(true) :].numpy()


def all_odds(net, crops):
    return tuple(np.concatenate(part) for part in zip(*(odds_of(net, crop) for crop in crops), strict=True))


def test_it_learns_crops_that_it_sees_again_and_again(examples):
    draw = CropDraw(examples, 1)
    draw.show({}, CropShares(trail=1.0))
    crops = [crop for crop in draw.crops(12) if len(crop.sources.boxes)][:2]
    net, said = RegionNet(16, (1, 1)), []
    # At first everything is about as likely as not.
    assert max(np.abs(part).max() for part in all_odds(net, crops)) < 0.5
    with torch.no_grad():
        before = crop_losses(net, crops, np.random.default_rng(0))
    fit_regions(net, Again(crops), RegionFit(100, batch=2, rate=6e-3), 1, said.append)
    true, false = all_odds(net, crops)
    assert len(true) > 2
    assert len(false) > 50
    assert np.median(true) > 2
    assert np.median(false) < -2
    assert np.mean(true[:, None] > false) > 0.95
    with torch.no_grad():
        after = crop_losses(net, crops, np.random.default_rng(0))
    assert (after < 0.7 * before).all()
    assert not net.training
    assert said[0].startswith("batch 100 of 100: loss ")


def test_crops_without_trails_are_lessons_too():
    cells = np.random.default_rng(0).normal(size=(56, 56, 48)).astype(np.float32)
    net = RegionNet(8, (1, 1))
    losses = crop_losses(net, [RegionCrop(cells, Sources(NONE, NONE))], np.random.default_rng(0))
    assert losses[1] == losses[3] == 0
    losses.sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in net.parameters() if one.grad is not None)
    assert net.objectness.weight.grad.abs().max() > 0


def test_a_network_that_says_the_truth_loses_little():
    box = np.array([[100.0, 96, 113, 109]])  # as large as an anchor, about the middle of a cell
    crop = RegionCrop(np.zeros((56, 56, 48), np.float32), Sources(box + 1.0, NONE))
    net = RegionNet(8, (1, 1))
    for part in net.parameters():
        torch.nn.init.zeros_(part)
    losses = crop_losses(net, [crop], np.random.default_rng(0)).detach().numpy()
    # Even odds, whatever they are of.
    assert losses[0] == pytest.approx(np.log(2), rel=1e-6)
    assert losses[2] == pytest.approx(np.log(2), rel=1e-6)
    assert losses[1] > 0


TRAILS = np.array([[10.0, 10, 30, 22], [60, 60, 70, 70]])


def test_labels_follow_what_boxes_share_with_trails():
    # The first trail itself; two thirds, a third, a ninth of the union with it; nothing.
    boxes = np.array([[10.0, 10, 30, 22], [14, 10, 34, 22], [20, 10, 40, 22], [26, 10, 46, 22], [90, 10, 99, 20]])
    np.testing.assert_allclose(box_overlap(boxes, TRAILS)[:, 0], [1, 2 / 3, 1 / 3, 1 / 9, 0])
    label, trail = label_boxes(boxes, Sources(TRAILS, NONE), 0.5, 0.3, best=False)
    assert label.tolist() == [1, 1, -1, 0, 0]
    assert trail[:2].tolist() == [0, 0]


def test_the_best_box_of_a_trail_holds_it_however_badly_it_fits():
    boxes = np.array([[10.0, 10, 30, 22], [66, 60, 90, 70], [67, 60, 90, 70]])
    label, trail = label_boxes(boxes, Sources(TRAILS, NONE), 0.5, 0.3, best=True)
    assert label.tolist() == [1, 1, 0]
    assert trail[:2].tolist() == [0, 1]
    # A trail that no box touches takes none.
    label, _ = label_boxes(boxes[:1], Sources(TRAILS, NONE), 0.5, 0.3, best=True)
    assert label.tolist() == [1]
    label, _ = label_boxes(np.array([[200.0, 0, 210, 9]]), Sources(TRAILS, NONE), 0.5, 0.3, best=True)
    assert label.tolist() == [0]


@pytest.mark.parametrize(("away", "label"), [(7.9, -1), (8.1, 0)])
def test_boxes_on_what_counts_neither_way_are_not_learnt_from(away, label):
    line = np.array([[100.0, 50, 40, 90]])  # upright
    box = np.array([[100 + away - 5, 60, 100 + away + 5, 70]])
    assert label_boxes(box, Sources(NONE, line), 0.5, 0.3, best=False)[0].tolist() == [label]


def test_trails_on_what_counts_neither_way_are_learnt_from():
    line = np.array([[20.0, 16, 0, 0]])
    assert label_boxes(TRAILS[:1], Sources(TRAILS, line), 0.5, 0.3, best=False)[0].tolist() == [1]


def test_nothing_there():
    assert label_boxes(TRAILS, Sources(NONE, NONE), 0.5, 0.3, best=True)[0].tolist() == [0, 0]
    assert label_boxes(NONE, Sources(TRAILS, NONE), 0.5, 0.3, best=True)[0].shape == (0,)


@pytest.mark.parametrize(
    ("trails", "others", "drawn"), [(40, 100, (8, 8)), (3, 100, (3, 13)), (40, 2, (8, 2)), (0, 0, (0, 0))]
)
def test_samples_are_balanced(trails, others, drawn):
    label = np.random.default_rng(0).permutation(np.repeat([1, 0, -1], [trails, others, 20]))
    chosen = balanced(label, 16, np.random.default_rng(1))
    assert len(set(chosen.tolist())) == len(chosen)
    assert ((label[chosen] == 1).sum(), (label[chosen] == 0).sum()) == drawn


def test_a_box_at_a_bound_holds_a_trail_or_neither():
    boxes = np.array([[10.0, 10, 30, 22], [10, 10, 30, 16], [10, 10, 30, 13], [10, 10, 20, 13]])
    np.testing.assert_array_equal(box_overlap(boxes, TRAILS)[:, 0], [1, 0.5, 0.25, 0.125])
    assert label_boxes(boxes, Sources(TRAILS, NONE), 0.5, 0.25, best=False)[0].tolist() == [1, 1, -1, 0]
    assert label_boxes(boxes, Sources(TRAILS, NONE), 0.51, 0.24, best=False)[0].tolist() == [1, -1, -1, 0]
    line = np.array([[100.0, 50, 0, 0]])
    box = np.array([[103.0, 45, 113, 55]])  # its middle is 8 px away
    assert label_boxes(box, Sources(NONE, line), 0.5, 0.3, best=False)[0].tolist() == [-1]


def test_the_trail_of_a_box_is_the_one_that_it_shares_most_with():
    boxes = np.array([[61.0, 60, 71, 70], [11, 10, 31, 22]])
    assert label_boxes(boxes, Sources(TRAILS, NONE), 0.5, 0.3, best=False)[1].tolist() == [1, 0]


class Drawn:
    def __init__(self):
        self.asked = []

    def crops(self, count):
        self.asked.append(count)


def test_the_mean_loss_of_every_hundred_batches_is_told(monkeypatch, fit_settings):
    number = [0]

    def losses(net, crops, rng):
        assert net.training
        number[0] += 1
        return net.objectness.bias.sum() * 0 + torch.tensor([1.0, 0.0, 0.5, 0.0]) * number[0]

    monkeypatch.setattr(region_fit, "crop_losses", losses)
    net, draw, said = RegionNet(8, (1, 1)), Drawn(), []
    fit_regions(net, draw, RegionFit(201, 3, 1e-3, 1e-2), 1, said.append)
    assert fit_settings == [(1e-3, 1e-2), (1e-3, 201, 0.1)]
    assert draw.asked == [3] * 201
    assert said == [
        "batch 100 of 201: loss 50.5000 + 0.0000 + 25.2500 + 0.0000",
        "batch 200 of 201: loss 150.5000 + 0.0000 + 75.2500 + 0.0000",
        "batch 201 of 201: loss 201.0000 + 0.0000 + 100.5000 + 0.0000",
    ]
    assert not net.training
    assert RegionFit(5) == RegionFit(5, 8, 1.5e-3, 1e-3)


def test_anchors_of_a_crop_are_near_trails_and_anywhere_and_half_hold_a_trail():
    trails = np.array([[100.0, 96, 113, 109], [150, 40, 190, 52]])
    for seed in range(5):
        row, column, kind, label, shifts = region_fit._anchor_sample(Sources(trails, NONE), np.random.default_rng(seed))
        assert len(label) == 64
        assert 0 < (label == 1).sum() <= 32
        assert ((row >= 5) & (row < 51) & (column >= 5) & (column < 51)).all()
        boxes = anchor_boxes(row, column)[np.arange(64), kind]
        shared = box_overlap(boxes, trails)
        assert ((shared.max(1) < 0.3) == (label == 0)).all()
        assert (shared[label == 1].max(1) >= 0.5).all()
        of = label == 1
        np.testing.assert_allclose(shifts[of], encode(trails[shared[of].argmax(1)], boxes[of]), rtol=1e-5, atol=1e-6)
        assert (shifts[~of] == 0).all()
    row, column, kind, label, _ = region_fit._anchor_sample(Sources(NONE, NONE), np.random.default_rng(0))
    assert (len(label), label.sum(), len(set(kind.tolist()))) == (64, 0, len(ANCHORS))
    found = [(part.sum(), (part**2).sum(), (part * np.arange(64)).sum()) for part in (row, column, kind)]
    np.testing.assert_array_equal(found, GOLDEN_NOTHING)
    row, column, kind, label, shifts = region_fit._anchor_sample(Sources(trails, NONE), np.random.default_rng(1))
    found = [(part.sum(), (part**2).sum(), (part * np.arange(64)).sum()) for part in (row, column, kind, label)]
    np.testing.assert_array_equal(found, GOLDEN_ANCHORS)


GOLDEN_NOTHING = [[1779, 62705, 52627], [1865, 62939, 58513], [340, 2550, 10562]]
GOLDEN_ANCHORS = [[1627, 49635, 53324], [1836, 60858, 56229], [318, 2118, 11212], [11, 11, 55]]


def test_true_boxes_are_judged_three_times_moved_a_little():
    boxes = np.array([[100.0, 96, 120, 106], [10, 20, 300, 40]])
    found = region_fit._jittered(boxes, np.random.default_rng(3))
    many = np.repeat(boxes, 3, 0)
    side, moved = many[:, 2:] - many[:, :2], (found[:, :2] + found[:, 2:] - many[:, :2] - many[:, 2:]) / 2
    rng = np.random.default_rng(3)
    np.testing.assert_allclose(moved, np.clip(rng.normal(0, 0.12, (6, 2)) * side, -FURTHEST, FURTHEST), atol=1e-9)
    np.testing.assert_allclose(np.log((found[:, 2:] - found[:, :2]) / side), rng.normal(0, 0.12, (6, 2)), atol=1e-9)


def test_distances_are_summed_over_the_numbers_and_even_over_the_boxes():
    said = torch.tensor([[0.2, 0.0, 2.0, 0.0], [0.0, 0.5, 0.0, -1.0]])
    expected = (0.5 * 0.2**2 / 0.5 + (2 - 0.25) + (0.5 - 0.25) + (1 - 0.25)) / 2
    assert float(region_fit._distance(said, torch.zeros(2, 4))) == pytest.approx(expected)
    assert float(region_fit._distance(said[:0], torch.zeros(0, 4))) == 0


def some_crops():
    rng = np.random.default_rng(6)
    boxes = np.array([[100.0, 96, 113, 109], [150, 40, 190, 52], [60, 60, 70, 90]])
    lines = np.array([[40.0, 150, 10, 30]])
    cells = [rng.normal(size=(56, 56, 48)).astype(np.float32) for _ in range(2)]
    return [RegionCrop(cells[0], Sources(boxes, lines)), RegionCrop(cells[1], Sources(boxes[:1] + 20, lines))]


def test_the_likeliest_places_of_a_crop_are_proposed():
    net, crops = RegionNet(8, (1, 1)), some_crops()
    objectness = torch.full((2, len(ANCHORS), 56, 56), -5.0)
    places = [(5, 5), (50, 50), (20, 30), (40, 8)]
    for n, (row, column) in enumerate(places):
        objectness[0, n % len(ANCHORS), row, column] = 9.0 - n
    objectness[0, 0, 20, 31] = 5.5  # beside a higher one
    objectness[0, 0, 4, 20] = objectness[0, 0, 51, 20] = objectness[0, 0, 20, 4] = objectness[0, 0, 20, 51] = 20.0
    asked = []

    def propose(net, features, image, row, column):
        asked.append((image, row, column))
        return np.zeros((len(image), 4))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region_fit, "propose", propose)
        image, boxes = region_fit._proposals(net, None, objectness, crops, np.random.default_rng(1))
    ((of, row, column),) = asked
    assert of.tolist() == [0] * 24 + [1] * 24
    assert list(zip(row[:4].tolist(), column[:4].tolist(), strict=True)) == places
    assert (20, 31) not in set(zip(row[:24].tolist(), column[:24].tolist(), strict=True))
    assert image.tolist() == [0] * 24 + [1] * 24 + [0] * 9 + [1] * 3
    rng = np.random.default_rng(1)
    np.testing.assert_allclose(
        boxes[48:], np.concatenate([region_fit._jittered(one.sources.boxes, rng) for one in crops])
    )


@pytest.mark.usefixtures("one_thread")
def test_losses_of_a_batch_are_decided_by_the_seed():
    losses = crop_losses(RegionNet(8, (1, 1)), some_crops(), np.random.default_rng(2)).detach().numpy()
    np.testing.assert_allclose(losses, GOLDEN_LOSSES, rtol=1e-4)


GOLDEN_LOSSES = [0.5723530650138855, 0.5453908443450928, 0.6743262410163879, 0.6246249675750732]
