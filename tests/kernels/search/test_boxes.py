import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.search.boxes import box_overlap, decode, encode, outdone, rival_reach, roi_align

# Quarters of a pixel: areas are exact, and boxes that touch do touch.
corner = st.integers(0, 120).map(lambda n: n / 4)
side = st.integers(4, 80).map(lambda n: n / 4)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
boxes = st.lists(box, min_size=1, max_size=12).map(lambda rows: np.array(rows, float))


def counted(a, b):
    """Share of the union, by counting squares of a quarter of a pixel."""
    grid = np.arange(0, 60, 0.25) + 0.125
    inside = [((grid > x0) & (grid < x1))[None, :] & ((grid > y0) & (grid < y1))[:, None] for x0, y0, x1, y1 in (a, b)]
    return (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()


@settings(deadline=None, max_examples=40)
@given(boxes, boxes)
def test_overlap_is_that_of_counted_squares(first, second):
    shared = box_overlap(first, second)
    assert shared.shape == (len(first), len(second))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert shared[i, j] == pytest.approx(counted(a, b), abs=1e-12)


def test_overlap_of_nothing():
    assert box_overlap(np.empty((0, 4)), np.zeros((3, 4))).shape == (0, 3)


def test_shifts_are_those_of_the_paper():
    anchor, truth = np.array([[0.0, 0, 10, 20]]), np.array([[4.0, 5, 24, 15]])
    # Centres (5, 10) and (14, 10); sides (10, 20) and (20, 10).
    np.testing.assert_allclose(encode(truth, anchor), [[0.9, 0.0, np.log(2), np.log(0.5)]], rtol=1e-6)


@settings(deadline=None)
@given(boxes)
def test_decoding_undoes_encoding(truth):
    anchors = truth + np.array([-1.5, 0.5, 2.0, 1.0])
    again = decode(encode(truth, anchors), anchors, furthest=100.0, longest=100.0)
    np.testing.assert_allclose(again, truth, atol=1 / 128)


def test_decoding_keeps_to_its_limits_whatever_it_is_told():
    anchors = np.tile([[100.0, 100, 120, 120]], (5, 1))
    wild = np.array([[9, -9, 9, 9], [np.nan] * 4, [np.inf, -np.inf, np.inf, -np.inf], [0, 0, -50, 50], [0.1] * 4])
    found = decode(wild, anchors, furthest=8.0, longest=80.0)
    sides, middle = found[:, 2:] - found[:, :2], (found[:, 2:] + found[:, :2]) / 2
    assert ((sides >= 0.99) & (sides <= 80)).all()
    assert (np.abs(middle - 110) <= 8).all()
    np.testing.assert_allclose(middle[0], [118, 102])


def test_decoding_does_not_depend_on_the_origin():
    rng = np.random.default_rng(0)
    shifts, corner = rng.normal(0, 0.3, (200, 4)).astype(np.float32), rng.integers(0, 300, (200, 2)) * 4 + 1.5
    anchors = np.concatenate([corner - 6.5, corner + 6.5], 1)
    there = decode(shifts, anchors + 2044.0, 8.0, 80.0)
    np.testing.assert_array_equal(there - 2044.0, decode(shifts, anchors, 8.0, 80.0))


@settings(deadline=None)
@given(boxes, st.integers(0, 99), st.sampled_from([0.2, 0.4, 0.7]))
def test_a_box_is_outdone_by_a_better_one_that_it_shares_too_much_with(found, seed, share):
    scores = np.random.default_rng(seed).integers(0, 6, len(found)).astype(np.float32)
    plain = [
        any(scores[j] > scores[i] and counted(found[i], found[j]) > share for j in range(len(found)))
        for i in range(len(found))
    ]
    assert outdone(found, scores, share).tolist() == plain


@settings(deadline=None)
@given(boxes, st.permutations(range(12)))
def test_greedy_suppression_keeps_all_that_is_not_outdone(found, order):
    scores = np.array(order[: len(found)], float)
    kept = []
    for i in np.argsort(-scores):
        if all(box_overlap(found[i : i + 1], found[j : j + 1])[0, 0] <= 0.4 for j in kept):
            kept.append(i)
    left = np.flatnonzero(~outdone(found, scores, 0.4))
    assert set(left.tolist()) <= set(kept)
    assert scores.argmax() in left


@settings(deadline=None)
@given(box, box, st.sampled_from([0.2, 0.4, 0.6]))
def test_boxes_that_share_much_are_near(a, b, share):
    a, b = np.array(a), np.array(b)
    longest = max((a[2:] - a[:2]).max(), (b[2:] - b[:2]).max())
    if box_overlap(a[None], b[None])[0, 0] > share:
        apart = np.abs((a[2:] + a[:2]) - (b[2:] + b[:2])) / 2
        assert (apart < rival_reach(longest, share) + 1e-9).all()


def test_nothing_outdoes_nothing():
    assert outdone(np.empty((0, 4)), np.empty(0), 0.4).shape == (0,)
    assert outdone(np.array([[0.0, 0, 1, 1]]), np.ones(1), 0.4).tolist() == [False]


def by_hand(maps, box, bins):
    """Mean over 2 x 2 points of each part; each point linear between the centres of cells of 4 px."""
    channels, rows, columns = maps.shape
    out = np.zeros((channels, bins, bins))
    x0, y0, x1, y1 = box
    for r in range(2 * bins):
        for c in range(2 * bins):
            v = (y0 + (r + 0.5) * (y1 - y0) / (2 * bins) - 1.5) / 4
            u = (x0 + (c + 0.5) * (x1 - x0) / (2 * bins) - 1.5) / 4
            j, i = int(np.floor(v)), int(np.floor(u))
            for dj, wj in ((0, j + 1 - v), (1, v - j)):
                for di, wi in ((0, i + 1 - u), (1, u - i)):
                    value = maps[:, min(max(j + dj, 0), rows - 1), min(max(i + di, 0), columns - 1)]
                    out[:, r // 2, c // 2] += wj * wi * value / 4
    return out


@pytest.mark.parametrize("bins", [1, 3, 7])
def test_agrees_with_the_sum_by_hand(bins):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, 9, 11)).astype(np.float32)
    corner, sides = rng.uniform(-3, 20, (8, 2)), rng.uniform(1, 30, (8, 2))
    boxes, image = np.concatenate([corner, corner + sides], 1), np.arange(8) % 2
    found = roi_align(torch.from_numpy(maps), torch.from_numpy(image), torch.from_numpy(boxes), bins).numpy()
    expected = np.stack([by_hand(maps[n], box, bins) for n, box in zip(image, boxes, strict=True)])
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_of_a_plane_it_is_the_value_in_the_middle_of_each_part():
    y, x = np.mgrid[:10, :12] * 4.0 + 1.5
    maps = torch.from_numpy(np.stack([x, y])[None])
    found = roi_align(maps, torch.zeros(1, dtype=torch.int64), torch.tensor([[6.0, 8.0, 26.0, 18.0]]).double(), 5)[0]
    np.testing.assert_allclose(found[0, 2], [8, 12, 16, 20, 24], atol=1e-9)
    np.testing.assert_allclose(found[1, :, 2], [9, 11, 13, 15, 17], atol=1e-9)


def test_does_not_depend_on_where_the_maps_begin():
    rng = np.random.default_rng(1)
    maps = torch.from_numpy(rng.normal(size=(1, 4, 60, 60)).astype(np.float32))
    corner = rng.integers(40 * 256, 100 * 256, (30, 2)) / 256
    boxes = torch.from_numpy(np.concatenate([corner, corner + rng.integers(256, 60 * 256, (30, 2)) / 256], 1))
    zeros = torch.zeros(30, dtype=torch.int64)
    here = roi_align(maps, zeros, boxes, 7)
    there = roi_align(maps[:, :, 5:, 8:], zeros, boxes - torch.tensor([32.0, 20, 32, 20]), 7)
    np.testing.assert_array_equal(here.numpy(), there.numpy())


def test_slopes_are_those_of_the_sum():
    torch.manual_seed(0)
    maps = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[3.0, 2.0, 17.0, 11.0], [-2.0, 5.0, 9.0, 30.0]]).double()
    assert torch.autograd.gradcheck(lambda m: roi_align(m, torch.zeros(2, dtype=torch.int64), boxes, 3), maps)


def test_decoded_boxes_are_those_of_the_formula_within_its_bounds():
    anchors = np.array([[10.0, 20, 14, 30]] * 8)  # middle (12, 25), sides 4 and 10
    shifts = np.array([
        [0.5, -0.25, 0.1, -0.2], [150, -150, 0, 0], [99, -99, 0, 0], [0, 0, 4.5, 5], [0, 0, 3.9, 3.5],
        [0, 0, -5, -4.5], [0, 0, -3.9, -0.5], [0.00123, 0.0007, 0.0123, 0.0321],
    ])  # fmt: skip
    found = decode(shifts, anchors, furthest=1e9, longest=1e9)
    middle = [12, 25] + np.clip(shifts[:, :2], -100, 100) * [4, 10]
    sides = np.maximum([4, 10] * np.exp(np.clip(shifts[:, 2:], -4, 4)), 1)
    half = np.round(sides / 2 * 256) / 256
    middle = np.round(middle * 256) / 256
    np.testing.assert_array_equal(found, np.concatenate([middle - half, middle + half], 1))
    assert (found * 256 == np.round(found * 256)).all()
    large = decode(np.array([[0.0, 0, -5, -6]]), np.array([[0.0, 0, 2000, 4000]]), 8.0, 1e9)
    np.testing.assert_allclose(large[:, 2:] - large[:, :2], [[2000 * np.exp(-4), 4000 * np.exp(-4)]], atol=0.01)


def test_a_shift_that_is_not_a_number_is_none():
    found = decode(np.array([[np.nan, 0, np.nan, 0]]), np.array([[10.0, 20, 14, 30]]), 8.0, 80.0)
    np.testing.assert_array_equal(found, [[10, 20, 14, 30]])


def test_of_two_boxes_one_is_outdone_and_only_by_more_than_the_share():
    pair = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1]])  # half of the union
    assert outdone(pair, np.array([1.0, 2.0]), 0.499).tolist() == [True, False]
    assert outdone(pair, np.array([2.0, 1.0]), 0.499).tolist() == [False, True]
    assert outdone(pair, np.array([2.0, 1.0]), 0.5).tolist() == [False, False]
    assert outdone(pair, np.array([1.0, 1.0]), 0.1).tolist() == [False, False]


def test_boxes_apart_along_both_axes_are_rivals_too():
    pair = np.array([[0.0, 0, 10, 10], [6.6, 6.6, 16.6, 16.6]])  # 3.4^2 of 200 - 3.4^2: 0.061
    assert outdone(pair, np.array([1.0, 2.0]), 0.06).tolist() == [True, False]
    assert outdone(pair, np.array([1.0, 2.0]), 0.062).tolist() == [False, False]


def test_the_furthest_rival_is_as_far_as_the_formula_says():
    assert rival_reach(70.0, 0.4) == pytest.approx(30.0)  # 40 of 70 + 30 px are shared
    pair = np.array([[0.0, 0, 70, 70], [29.99, 0, 99.99, 70]])
    assert outdone(pair, np.array([2.0, 1.0]), 0.4).tolist() == [False, True]


def test_boxes_that_do_not_touch_share_nothing():
    pair = np.array([[0.0, 0, 4, 4], [5, 5, 9, 9], [4, 0, 8, 4]])
    np.testing.assert_array_equal(box_overlap(pair[:1], pair[1:]), [[0, 0]])
    assert not outdone(pair, np.array([1.0, 2, 3]), 0.0).any()
