import numpy as np
import pytest
import torch

from kernels.image.search_image import Places, SearchImage
from kernels.nets.basic_cnn import BasicCnn
from kernels.nets.streak_net import StreakNet
from kernels.search.dense_search import DenseSearch
from kernels.search.detector import WindowScorer, choose_device
from kernels.search.fused_net import Dense
from kernels.search.fused_search import FusedSearch, Screen
from kernels.search.torch_search import precise_on
from kernels.search.windows import WindowedSearch
from schemas.pixels import SearchGrid
from tests.support.cards import model_card

SHAPE = (150, 170)
CARD = model_card(input={"side": 26})
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
    return SearchImage(rng.normal(0, 2, SHAPE).astype(np.float32), usable, 0.0, 2.0, np.ones((1, 1)), 2.2)


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


CARD_SCORER = model_card(input={"kind": "windows", "bands": 1, "side": 26})


def test_log_odds_are_those_of_softmax():
    torch.manual_seed(0)
    net = BasicCnn().eval()
    windows = np.random.default_rng(0).normal(size=(8, 1, 26, 26)).astype(np.float32)
    probability = torch.softmax(net(torch.from_numpy(windows)), 1)[:, 1].detach().numpy()
    logits = WindowScorer(net, CARD_SCORER, torch.device("cpu"))(windows)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), probability, rtol=1e-5)


class Other(torch.nn.Module):
    """A network that the fused search does not know: the same, behind a wall."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, windows):
        return self.net(windows)


def test_the_search_is_fused_where_the_network_allows_and_finds_the_same_where_not():
    torch.manual_seed(0)
    net = BasicCnn().eval()
    image = np.random.default_rng(1).normal(10, 3, (1, 100, 120)).astype(np.float32)
    usable = np.ones((100, 120), bool)
    usable[:, 60:80] = False
    fused = WindowScorer(net, CARD_SCORER, torch.device("cpu")).windows
    plain = WindowScorer(Other(net), CARD_SCORER, torch.device("cpu"), batch=32).windows
    assert isinstance(fused, FusedSearch)
    assert isinstance(plain, WindowedSearch)
    (one, missing), (other, same) = (way.search(image, usable, 10.0, (11, 14), 7) for way in (fused, plain))
    assert missing == same > 0
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_screen_stands_before_the_fused_search():
    screen = Screen((Dense(np.zeros((1, 12), np.float32), np.zeros(1, np.float32)),), -1.0)
    scorer = WindowScorer(BasicCnn().eval(), CARD_SCORER, torch.device("cpu"), screen=screen)
    assert scorer.windows.screen is screen


def test_device_falls_back_to_the_processor():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_agrees_with_processor():
    torch.manual_seed(0)
    net = BasicCnn().eval()
    windows = np.random.default_rng(0).normal(size=(64, 1, 26, 26)).astype(np.float32)
    here = WindowScorer(net, CARD_SCORER, torch.device("cpu"))(windows)
    there = WindowScorer(net.to("cuda"), CARD_SCORER, torch.device("cuda"))(windows)
    np.testing.assert_allclose(here, there, atol=1e-4)


def test_networks_convolve_without_tf32_on_a_gpu_alone():
    chosen = torch.backends.cudnn.conv
    before = chosen.fp32_precision
    for where, expected in (("cuda", "ieee"), ("cpu", before)):
        with precise_on(torch.device(where)):
            assert chosen.fp32_precision == expected
        assert chosen.fp32_precision == before


def test_windows_lie_7_px_apart_and_need_nothing_around_them():
    net = BasicCnn().eval()
    assert WindowScorer(net, CARD_SCORER, DEVICE).grid == SearchGrid(26, 7, 0, 26)
    assert WindowScorer(net, CARD_SCORER.model_copy(update={"input": {}}), DEVICE).grid == SearchGrid(26, 7, 0, 26)
    other = WindowScorer(net, CARD_SCORER.model_copy(update={"input": {"side": 33}}), DEVICE, stride=11)
    assert other.grid == SearchGrid(33, 11, 0, 33)


def test_a_search_takes_batch_precision_and_floor_from_the_scorer():
    scorer = WindowScorer(BasicCnn().eval(), CARD_SCORER, DEVICE, "bfloat16", 1.5, 77)
    assert (scorer.windows.precision, scorer.windows.floor, scorer.windows.batch) == ("bfloat16", 1.5, 77)
    plain = WindowScorer(Other(BasicCnn()), CARD_SCORER, DEVICE, batch=32).windows
    assert (plain.side, plain.batch) == (26, 32)
    assert WindowScorer(BasicCnn().eval(), CARD_SCORER, DEVICE).windows.batch == 1024
