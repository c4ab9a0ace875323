import numpy as np
import pytest
import torch

from flows.training.window_fit import FitPlan, fit_windows
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
