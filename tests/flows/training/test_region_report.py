import numpy as np
import pytest

from flows.training.field import open_field
from flows.training.region_report import Judged, judge_boxes, level_at, region_figures
from flows.training.region_truth import true_boxes
from kernels.completeness import binomial_interval
from kernels.matching import Targets
from kernels.region_search import Found


def judged_of(score, target, false, snr):
    count = len(snr)
    zeros = np.zeros(count)
    targets = Targets(np.array(["streak"] * count), zeros, zeros, zeros, zeros, np.ones(count))
    score, target = np.array(score, float), np.array(target, np.int64)
    shared = np.where(target >= 0, 0.8, np.nan)
    return Judged(score, target, np.array(false, bool), shared, shared / 2, targets, np.array(snr, float))


GROUP = [
    judged_of([9, 8, 7, 1], [0, 1, -1, 2], [0, 0, 1, 0], [20, 8, 12, 5]),
    judged_of([6, 5, 4], [-1, 0, -1], [1, 0, 1], [30, 9]),
]


@pytest.mark.parametrize(("false", "left"), [(0, 0), (0.5, 1), (1, 2), (1.5, 3), (9, 3)])
def test_levels_leave_as_many_false_boxes_as_they_may(false, left):
    level = level_at(GROUP, false)
    assert sum((one.score[one.false] >= level).sum() for one in GROUP) == left


def test_figures_are_counted_at_their_levels():
    figures = region_figures({"ztf": GROUP, "none": []})
    assert set(figures) == {"ztf"}
    half, one = (figures["ztf"][f"at_{level}_false_per_image"] for level in ("0.5", "1"))
    # One false box is let through at 7, two at 6: the trail found at 5 comes with neither, nor that at 1.
    assert (half["snr_7"]["found"], half["snr_7"]["present"]) == (2, 5)
    assert (one["snr_7"]["found"], one["snr_10"]["found"], one["snr_10"]["present"]) == (3, 2, 3)
    assert one["snr_10"]["interval"] == pytest.approx(binomial_interval(2, 3), abs=1e-4)
    boxes = figures["ztf"]["boxes"]
    assert boxes["found"] == 3
    assert boxes["overlap"]["p50"] == pytest.approx(0.8)
    assert boxes["centre_error_px"]["p90"] == pytest.approx(0.4)


def test_nothing_false_and_nothing_found():
    alone = judged_of([], [], [], [9])
    assert level_at([alone], 1.0) == 0.0
    figures = region_figures({"x": [alone]})["x"]
    assert figures["boxes"] == {"found": 0}
    assert figures["at_1_false_per_image"]["snr_7"]["completeness"] == 0


def test_boxes_are_judged_by_what_is_there(examples):
    field = open_field(examples[0])
    true = true_boxes(examples[0].truth)
    counted = np.flatnonzero(field.targets.counted)
    moved = true[counted] + np.array([1.0, 0, 1, 0])
    nowhere = np.array([[0.0, 0, 9, 9]])
    odds = np.linspace(5, 1, len(counted) + 1).astype(np.float32)
    judged = judge_boxes(Found(np.concatenate([moved, nowhere]), odds), examples[0])
    assert judged.false.tolist() == [False] * len(counted) + [True]
    assert set(judged.target[:-1].tolist()) == set(counted.tolist())
    assert np.isnan(judged.shared[-1])
    near = judged.target[:-1] == counted
    assert near.mean() > 0.8  # trails that lie on each other may change places
    wide = (true[counted, 2] - true[counted, 0])[near]
    np.testing.assert_allclose(judged.shared[:-1][near], (wide - 1) / (wide + 1))
    assert (judged.apart[:-1][near] < 2.5).mean() > 0.8
