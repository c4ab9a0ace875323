import numpy as np
import pytest
import torch

from kernels.image.search_image import Places, SearchImage, squash
from kernels.nets.region_net import ANCHORS, RegionNet
from kernels.search.boxes import box_overlap
from kernels.search.dense_search import dense_input
from kernels.search.region_search import SHARE, RegionSearch, anchor_boxes, cut_pixels
from schemas.model_card import ModelCard

CARD = ModelCard(
    stage="detect", name="test", version="1", sha256="", input={"kind": "regions"}, classes=("nothing", "asteroid"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="not set",
)  # fmt: skip


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
    plane = SearchImage(image, usable, 5.0, 2.0, np.ones((1, 1)), 2.5)
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
