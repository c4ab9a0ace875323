import numpy as np
import pytest
import torch

from kernels.fused_net import Dense
from kernels.fused_screen import Screen
from kernels.fused_search import FusedSearch
from kernels.nets.basic_cnn import BasicCnn
from kernels.scorer import WindowScorer, choose_device
from kernels.windowed_search import WindowedSearch
from schemas.model_card import ModelCard

CARD = ModelCard(
    stage="detect", name="test", version="1", sha256="", input={"bands": 1, "side": 26},
    classes=("nothing", "asteroid"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="not set",
)  # fmt: skip


def test_log_odds_are_those_of_softmax():
    torch.manual_seed(0)
    net = BasicCnn().eval()
    windows = np.random.default_rng(0).normal(size=(8, 1, 26, 26)).astype(np.float32)
    probability = torch.softmax(net(torch.from_numpy(windows)), 1)[:, 1].detach().numpy()
    logits = WindowScorer(net, CARD, torch.device("cpu"))(windows)
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
    fused = WindowScorer(net, CARD, torch.device("cpu")).windows
    plain = WindowScorer(Other(net), CARD, torch.device("cpu"), batch=32).windows
    assert isinstance(fused, FusedSearch)
    assert isinstance(plain, WindowedSearch)
    (one, missing), (other, same) = (way.search(image, usable, 10.0, (11, 14), 7) for way in (fused, plain))
    assert missing == same > 0
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_screen_stands_before_the_fused_search():
    screen = Screen((Dense(np.zeros((1, 12), np.float32), np.zeros(1, np.float32)),), -1.0)
    scorer = WindowScorer(BasicCnn().eval(), CARD, torch.device("cpu"), screen=screen)
    assert scorer.windows.screen is screen


def test_device_falls_back_to_the_processor():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_agrees_with_processor():
    torch.manual_seed(0)
    net = BasicCnn().eval()
    windows = np.random.default_rng(0).normal(size=(64, 1, 26, 26)).astype(np.float32)
    here = WindowScorer(net, CARD, torch.device("cpu"))(windows)
    there = WindowScorer(net.to("cuda"), CARD, torch.device("cuda"))(windows)
    np.testing.assert_allclose(here, there, atol=1e-4)
