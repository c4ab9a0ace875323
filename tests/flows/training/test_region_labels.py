import numpy as np
import pytest

from flows.training.region_labels import balanced, label_boxes
from flows.training.region_truth import Sources
from kernels.boxes import overlap

NONE = np.empty((0, 4))
TRAILS = np.array([[10.0, 10, 30, 22], [60, 60, 70, 70]])


def test_labels_follow_what_boxes_share_with_trails():
    # The first trail itself; two thirds, a third, a ninth of the union with it; nothing.
    boxes = np.array([[10.0, 10, 30, 22], [14, 10, 34, 22], [20, 10, 40, 22], [26, 10, 46, 22], [90, 10, 99, 20]])
    np.testing.assert_allclose(overlap(boxes, TRAILS)[:, 0], [1, 2 / 3, 1 / 3, 1 / 9, 0])
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
