import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from flows.training.window_fit import Epoch
from flows.training.window_report import draw_history, window_metrics


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
