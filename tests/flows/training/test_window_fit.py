import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from flows.training.window_fit import Epoch, FitPlan, draw_history, fit_windows, window_metrics
from kernels.nets.basic_cnn import BasicCnn


def toy(n, seed):
    """Noise, and noise with a bright dash: (n, 1, 26, 26) and labels."""
    rng = np.random.default_rng(seed)
    windows = rng.normal(size=(n, 1, 26, 26)).astype(np.float32)
    labels = np.arange(n) % 2
    for window, label in zip(windows, labels, strict=True):
        if label:
            y, x = rng.integers(6, 18, 2)
            window[0, y : y + 3, x : x + 3] += 4
    return windows, labels


def fit(seed=0):
    torch.manual_seed(seed)
    net = BasicCnn()
    history = fit_windows(
        net, *toy(1200, 1), toy(400, 2), FitPlan(epochs=6, batch=64, rate=2e-3, seed=seed, device="cpu")
    )
    return net, history


def test_learns_and_says_how_well():
    net, history = fit()
    assert len(history) == 6
    assert history[-1].loss < 0.6 * history[0].loss
    windows, labels = toy(500, 3)
    with torch.no_grad():
        right = (net(torch.from_numpy(windows)).argmax(1).numpy() == labels).mean()
    assert right > 0.9
    assert right == pytest.approx(history[-1].validation_accuracy, abs=0.08)


def test_same_seed_same_weights():
    one, other = fit(3)[0].state_dict(), fit(3)[0].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


class Sum(torch.nn.Module):
    """Takes the sum of a window for its log odds."""

    def forward(self, windows):
        odds = windows.sum((1, 2, 3))
        return torch.stack([torch.zeros_like(odds), odds], 1)


def test_metrics_against_sklearn(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    windows = np.zeros((500, 1, 26, 26), np.float32)
    windows[:, 0, 0, 0] = rng.normal(2 * labels - 1, 1.5)
    metrics = window_metrics(Sum(), windows, labels)
    said = windows[:, 0, 0, 0] >= 0
    assert metrics["at_0.5"]["confusion"] == confusion_matrix(labels, said).tolist()
    strict = windows[:, 0, 0, 0] >= np.log(99)
    assert metrics["at_0.99"]["confusion"] == confusion_matrix(labels, strict).tolist()
    low, high = metrics["at_0.5"]["interval"]
    assert metrics["at_0.5"]["accuracy"] == pytest.approx((said == labels).mean(), abs=1e-4)
    assert low < metrics["at_0.5"]["accuracy"] < high
    draw_history(tmp_path / "history.png", [[Epoch(1, 0.5, 1, 0.5)] * 3, [Epoch(0.5, 0.8, 0.6, 0.7)] * 2], metrics)
    assert (tmp_path / "history.png").read_bytes()[:4] == b"\x89PNG"
