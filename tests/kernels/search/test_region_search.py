import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter

from kernels.image.search_image import Places, SearchImage, squash
from kernels.nets.region_net import ANCHORS, RegionNet
from kernels.search import region_search as module
from kernels.search.boxes import box_overlap, roi_align
from kernels.search.dense_search import dense_input
from kernels.search.region_search import (
    SHARE,
    RegionSearch,
    anchor_boxes,
    cut_pixels,
    look_at_boxes,
    propose,
    region_grid,
)
from schemas.pixels import SearchGrid
from tests.support.cards import model_card

CARD = model_card(input={"kind": "regions"})


def make_search(floor=-np.inf):
    torch.manual_seed(0)
    net = RegionNet(8, (1, 2)).eval()
    with torch.no_grad():
        # Boxes of all sizes, here and there: what an untrained network says is all the same.
        net.shift.weight.mul_(4)
        net.verdict[-1].weight.mul_(20)
    return RegionSearch(net, torch.device("cpu"), CARD, floor)


def make_plane(ny, nx, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 5, (ny, nx)).astype(np.float32)
    for _ in range(30):
        y, x = rng.integers(0, ny - 6), rng.integers(0, nx - 6)
        pixels[y : y + 5, x : x + 5] += rng.uniform(10, 200)
    usable = rng.uniform(size=(ny, nx)) > 0.02
    usable[40:60, 100:130] = False
    return SearchImage(pixels, usable, 100.0, 5.0, np.ones((1, 1)), 2.5)


def part_of(plane, y0, y1, x0, x1):
    return plane._replace(pixels=plane.pixels[y0:y1, x0:x1], usable=plane.usable[y0:y1, x0:x1])


def test_any_part_of_an_image_says_the_same_to_the_bit():
    search, plane = make_search(), make_plane(420, 400)
    whole, _ = search.search(plane, Places(0, 0, 105, 100, 4))
    whole = whole.reshape(105, 100)
    reach = search.grid.reach
    found = 0
    for row, column, rows, columns in ((0, 0, 20, 30), (50, 47, 9, 14), (90, 60, 15, 40)):
        y0, x0 = max(0, 4 * row - reach), max(0, 4 * column - reach)
        part = part_of(plane, y0, 4 * (row + rows) + reach, x0, 4 * (column + columns) + reach)
        logits, _ = search.search(part, Places(4 * row - y0, 4 * column - x0, rows, columns, 4))
        expected = whole[row : row + rows, column : column + columns]
        np.testing.assert_array_equal(logits.reshape(rows, columns), expected)
        found += np.isfinite(expected).sum()
    assert found > 20


def test_boxes_lie_where_their_odds_do_and_share_little():
    search, plane = make_search(), make_plane(200, 240)
    found, hidden = search.boxes(plane, Places(0, 0, 50, 60, 4))
    logits, unscored = search.search(plane, Places(0, 0, 50, 60, 4))
    logits = logits.reshape(50, 60)
    middle = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    inside = ((middle > -0.5) & (middle < [239.5, 199.5])).all(1)
    column, row = ((middle[inside] + 0.5) // 4).astype(int).T
    for r, c in {*zip(row.tolist(), column.tolist(), strict=True)}:
        best = found.logits[inside][(row == r) & (column == c)].max()
        assert logits[r, c] == (-np.inf if hidden[r, c] else best)
    assert np.isfinite(logits).sum() <= len({*zip(row.tolist(), column.tolist(), strict=True)})
    assert unscored == hidden.sum() == 5 * 7  # whole cells of what is masked
    shared = box_overlap(found.boxes, found.boxes)
    np.fill_diagonal(shared, 0)
    assert shared.max() <= SHARE


def test_the_floor_leaves_proposals_out():
    plane, places = make_plane(120, 160), Places(0, 0, 30, 40, 4)
    everything, _ = make_search().boxes(plane, places)
    nothing, _ = make_search(floor=np.inf).boxes(plane, places)
    assert len(everything.logits) > 0
    assert nothing.boxes.shape == (0, 4)
    assert np.isneginf(make_search(floor=np.inf).search(plane, places)[0]).all()


def test_moves_with_the_image():
    search, plane = make_search(), make_plane(360, 400)
    moved = part_of(plane, 8, 360, 12, 400)
    here, _ = search.search(plane, Places(0, 0, 90, 100, 4))
    there, _ = search.search(moved, Places(0, 0, 88, 97, 4))
    inner = slice(45, 50), slice(45, 55)
    expected = here.reshape(90, 100)[2:, 3:][inner]
    assert np.isfinite(expected).any()
    np.testing.assert_array_equal(there.reshape(88, 97)[inner], expected)


def test_refuses_cells_beyond_the_plane():
    with pytest.raises(ValueError, match="does not fit"):
        make_search().search(make_plane(80, 140), Places(0, 0, 21, 20, 4))


def test_anchors_stand_about_the_middle_of_their_cell():
    boxes = anchor_boxes(np.array([0, 7]), np.array([0, 3]))
    assert boxes.shape == (2, len(ANCHORS), 4)
    np.testing.assert_allclose((boxes[..., :2] + boxes[..., 2:]) / 2, [[[1.5, 1.5]] * 12, [[13.5, 29.5]] * 12])
    np.testing.assert_allclose(boxes[1, :, 2:] - boxes[1, :, :2], ANCHORS)


def test_cuts_are_the_pixels_of_the_image():
    rng = np.random.default_rng(0)
    image, usable = rng.normal(5, 2, (40, 48)).astype(np.float32), rng.uniform(size=(40, 48)) > 0.1
    plane = SearchImage(image, usable, 5.0, 2.0, np.outer((0.2, 1.0, 0.2), (0.2, 1.0, 0.2)), 2.5)
    cuts = cut_pixels(dense_input(plane, 0, 0, 10, 12), np.array([20.9, 8.0]), np.array([9.2, 31.0]), 16)
    value = np.where(usable, (image - 5) / 2, 0).astype(np.float32)
    squash(value)
    for cut, (x, y) in zip(cuts, [(20, 9), (8, 31)], strict=True):
        inside = slice(y - 8, y + 8), slice(x - 8, x + 8)
        np.testing.assert_allclose(cut[0], value[inside], atol=1e-6)
        np.testing.assert_array_equal(cut[2], ~usable[inside])


def test_refuses_squares_beyond_the_cells():
    with pytest.raises(ValueError, match="on 5 cells of 4 px"):
        cut_pixels(np.zeros((5, 5, 48), np.float32), np.array([3.0]), np.array([10.0]), 8)
    assert cut_pixels(np.zeros((5, 5, 48), np.float32), np.empty(0), np.empty(0), 8).shape == (0, 3, 8, 8)


def shifted(boxes, shifts):
    """Boxes moved by some of their sides, at most 8 px, and scaled to at most 80 px; edges in steps of 1/256 px."""
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    middle = middle + np.round(np.clip(shifts[:, :2] * sides, -8, 8) * 256) / 256
    half = np.round(np.clip(sides * np.exp(np.clip(shifts[:, 2:], -4, 4)), 1, 80) * 128) / 256
    return np.concatenate([middle - half, middle + half], 1)


def likeliest(net, features, row, column):
    """The likeliest anchor of each cell, as its net shifts it; the pixels of cell (r, c) are 4 r to 4 r + 3."""
    found = []
    with torch.inference_mode():
        for r, c in zip(row.tolist(), column.tolist(), strict=True):
            best = int(net.objectness(features[None, :, r : r + 1, c : c + 1])[0, :, 0, 0].argmax())
            shift = net.shifts(features[None, :, r, c])[0, best].double().numpy()
            (wide, high), x, y = ANCHORS[best], 4 * c + 1.5, 4 * r + 1.5
            box = np.array([[x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]])
            found.append(shifted(box, shift[None])[0])
    return np.array(found)


@pytest.mark.parametrize("wild", [1, 30])
def test_a_proposal_is_the_likeliest_anchor_shifted_within_bounds(wild):
    net = make_search().net
    with torch.no_grad():
        net.shift.weight.mul_(wild)
    features = torch.randn(2, 8, 6, 7, generator=torch.Generator().manual_seed(1))
    image, row, column = (np.array(one) for one in ([0, 1, 1, 0], [0, 5, 2, 3], [6, 0, 3, 2]))
    with torch.inference_mode():
        found = propose(net, features, image, row, column)
    for n in range(4):
        expected = likeliest(net, features[image[n]], row[n : n + 1], column[n : n + 1])
        np.testing.assert_allclose(found[n : n + 1], expected, atol=1 / 128)


def test_a_head_sees_each_box_on_its_own_image():
    net, generator = make_search().net, torch.Generator().manual_seed(2)
    features, rng = torch.randn(2, 8, 20, 22, generator=generator), np.random.default_rng(3)
    cells = [rng.normal(size=(20, 22, 48)).astype(np.float32) for _ in range(2)]
    boxes = np.array([[20.25, 30, 40, 52.5], [16, 14, 30, 33.4], [40.1, 30, 60, 61], [33, 20, 50.99, 50]])
    image = np.array([1, 0, 0, 1])
    with torch.inference_mode():
        odds, shifts = look_at_boxes(net, features, image, cells, boxes)
        for n, (box, of) in enumerate(zip(boxes, image, strict=True)):
            # From cells back to pixels; the middle pixel of an even square is the first behind its middle.
            pixels = cells[of].reshape(20, 22, 3, 4, 4).transpose(2, 0, 3, 1, 4).reshape(3, 80, 88)
            x, y = (int(np.floor((box[k] + box[k + 2]) / 2 + 0.5)) for k in (0, 1))
            square = torch.from_numpy(pixels[None, :, y - 12 : y + 12, x - 12 : x + 12].copy())
            region = roi_align(features[of : of + 1], torch.zeros(1, dtype=torch.int64), torch.tensor(box)[None], 7)
            sides = torch.tensor([[box[2] - box[0], box[3] - box[1]]], dtype=torch.float32)
            one, moved = net.judge(region, square, sides)
            torch.testing.assert_close(odds[n], one[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(shifts[n], moved[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("floor", [-np.inf, -3.0])
def test_boxes_are_those_of_each_step_by_hand(floor):
    search, plane, around, (rows, columns) = make_search(floor), make_plane(80, 136), 24, (20, 34)
    found, hidden = search.boxes(plane, Places(0, 0, rows, columns, 4))
    cells = dense_input(plane, -4 * around, -4 * around, rows + 2 * around, columns + 2 * around)
    unseen = cells[:, :, 32:].all(2)
    np.testing.assert_array_equal(hidden, unseen[around:-around, around:-around])
    assert 0 < hidden.sum() < 60
    net = search.net
    with torch.inference_mode():
        features = net.features(torch.from_numpy(cells).permute(2, 0, 1)[None])
        likely = np.where(unseen, -np.inf, net.objectness(features)[0].amax(0).numpy())
        row, column = np.nonzero((likely == maximum_filter(likely, 3)) & (likely > floor))
        proposals = likeliest(net, features[0], row, column)
        zeros = np.zeros(len(row), np.int64)
        odds, moved = look_at_boxes(net, features, zeros, [cells], proposals)
    boxes = shifted(proposals, moved.double().numpy() / [10, 10, 5, 5])
    odds, shared = odds.numpy(), box_overlap(boxes, boxes)
    kept = ~((shared > 0.4) & (odds > odds[:, None])).any(1)
    assert 0 < kept.sum() < len(kept) or floor > -np.inf
    np.testing.assert_allclose(found.boxes, boxes[kept] - 4 * around, atol=1 / 64)
    np.testing.assert_allclose(found.logits, odds[kept], rtol=1e-3, atol=1e-3)


def test_its_grid_reaches_as_far_as_rivals_their_boxes_and_their_features():
    """Cells, counted up: rivals within 34.3 + 16 px and one, boxes of 8 + 40 px and two; the filter's 8 px."""
    assert region_grid(4) == SearchGrid(4, 4, ((13 + 1) + 12 + 2 + 4) * 4 + 8, 16)
    assert make_search().grid == region_grid(1 + 1 + 2)


def test_places_with_a_say_are_those_within_14_cells():
    near = module._near_places((80, 90), 5, 7)
    row, column = np.indices(near.shape) - 28  # places begin behind the margin
    np.testing.assert_array_equal(near, (row >= -14) & (row < 5 + 14) & (column >= -14) & (column < 7 + 14))


def test_peaks_are_as_likely_as_their_neighbours_and_more_than_the_floor():
    likely = np.full((7, 9), -5.0, np.float32)
    likely[1, 1], likely[1, 3], likely[2, 2], likely[5, 6], likely[5, 7], likely[6, 0] = 1, 1, 0.5, 2, 2, -1
    likely[0, 8] = -1.001
    found = module._peaks(likely, -1.0)
    assert set(zip(*(one.tolist() for one in np.nonzero(found)), strict=True)) == {(1, 1), (1, 3), (5, 6), (5, 7)}
    found = module._peaks(likely, -1.0005)
    assert found[6, 0]
    assert not found[0, 8]


def test_the_last_pixel_of_the_cells_may_be_cut():
    cells = np.arange(5 * 6 * 48, dtype=np.float32).reshape(5, 6, 48)
    pixels = cells.reshape(5, 6, 3, 4, 4).transpose(2, 0, 3, 1, 4).reshape(3, 20, 24)
    for x, y in ((4, 4), (20, 16), (20.99, 16.99), (4, 16)):
        cut = cut_pixels(cells, np.array([x]), np.array([y]), 8)[0]
        top, left = int(y) - 4, int(x) - 4
        np.testing.assert_array_equal(cut, pixels[:, top : top + 8, left : left + 8])
    for x, y in ((3.99, 4), (4, 3.99), (21, 16), (20, 17)):
        with pytest.raises(ValueError, match="squares of pixels"):
            cut_pixels(cells, np.array([x]), np.array([y]), 8)
