import numpy as np
import pytest
import torch

from flows.training.region_crops import SIDE, CropDraw, CropShares, RegionCrop, Sources
from flows.training.region_fit import RegionFit, balanced, crop_losses, fit_regions, label_boxes
from kernels.nets.region_net import RegionNet
from kernels.search.boxes import box_overlap
from kernels.search.region_search import look_at_boxes

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
    chosen = balanced(label, 16, 0.5, np.random.default_rng(1))
    assert len(set(chosen.tolist())) == len(chosen)
    assert ((label[chosen] == 1).sum(), (label[chosen] == 0).sum()) == drawn
