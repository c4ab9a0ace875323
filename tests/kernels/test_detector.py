import numpy as np
import pytest
import torch

from kernels.dense_search import DenseSearch
from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.streak_net import StreakNet
from kernels.plane import Places, Plane
from kernels.scorer import WindowScorer
from schemas.model_card import ModelCard

SHAPE = (150, 170)
CARD = ModelCard(
    stage="detect", name="test", version="1", sha256="", input={"side": 26}, classes=("nothing", "trail"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="not set",
)  # fmt: skip
DEVICE = torch.device("cpu")


def windows():
    return WindowScorer(BasicCnn().eval(), CARD, DEVICE)


def cells():
    return DenseSearch(StreakNet(8, (1, 2)).eval(), DEVICE, CARD)


@pytest.fixture(params=[windows, cells])
def detector(request):
    torch.manual_seed(1)
    return request.param()


@pytest.fixture
def plane():
    rng = np.random.default_rng(1)
    usable = np.ones(SHAPE, bool)
    usable[:60, :70] = False
    return Plane(rng.normal(0, 2, SHAPE).astype(np.float32), usable, 0.0, 2.0, np.ones((1, 1)), 2.2)


def search(detector, plane, places):
    logits, unscored = detector.search(plane, places)
    assert logits.dtype == np.float32
    return logits.reshape(places.rows, places.columns), unscored


def test_scores_lie_on_its_grid_and_those_that_cannot_be_given_are_counted(detector, plane):
    grid = detector.grid
    rows, columns = grid.tiling(SHAPE, grid.stride * 100).grid
    logits, unscored = search(detector, plane, Places(0, 0, rows, columns, grid.stride))
    assert unscored == np.isneginf(logits).sum() > 0
    middle = (grid.window - 1) / 2
    row, column = np.nonzero(np.isneginf(logits))
    assert (row * grid.stride + middle).max() < 60
    assert (column * grid.stride + middle).max() < 70


def test_pixels_within_reach_are_enough(detector, plane):
    grid = detector.grid
    rows, columns = grid.tiling(SHAPE, grid.stride * 100).grid
    whole, _ = search(detector, plane, Places(0, 0, rows, columns, grid.stride))
    row, column, tall, wide = rows // 2, columns // 2, 3, 4
    y, x = row * grid.stride, column * grid.stride
    y0, x0 = max(0, y - grid.reach), max(0, x - grid.reach)
    below, right = ((count - 1) * grid.stride + grid.window + grid.reach for count in (tall, wide))
    box = np.s_[y0 : y + below, x0 : x + right]
    part = plane._replace(pixels=plane.pixels[box], usable=plane.usable[box])
    found, _ = search(detector, part, Places(y - y0, x - x0, tall, wide, grid.stride))
    np.testing.assert_array_equal(found, whole[row : row + tall, column : column + wide])


def test_says_what_it_is(detector):
    assert detector.card == CARD
