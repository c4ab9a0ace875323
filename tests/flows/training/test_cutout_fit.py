import numpy as np
import pytest
import torch
from torch import nn

from flows.training.cutout_fit import CutoutFit, apply, fit_cutouts, log_odds, require_both
from schemas.errors import Misconfigured


def toy(n, seed):
    """Blobs, narrow (1) and wide (0), in noise: pictures (n, 1, 16, 16) and labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] - 8
    label = np.arange(n) % 2
    width = np.where(label, 1.5, 3.0)[:, None, None]
    pictures = 5 * np.exp(-(x**2 + y**2) / (2 * width**2)) + rng.normal(size=(n, 16, 16))
    return (torch.from_numpy(pictures[:, None].astype(np.float16)),), label


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, pictures):
        return self.layers(pictures)


def fit(plan, seed=0, train=None):
    torch.manual_seed(seed)
    net = Net()
    return net, fit_cutouts(net, train or toy(400, 1), toy(200, 2), plan, seed)


def test_learns():
    net, history = fit(CutoutFit(epochs=8, rate=5e-3))
    assert history[-1].loss < 0.7 * history[0].loss
    inputs, label = toy(300, 3)
    assert ((apply(net, inputs) > 0) == (label == 1)).mean() > 0.9


def test_keeps_the_best_pass_and_stops_when_it_gets_no_better():
    rng = np.random.default_rng(1)
    pictures, label = toy(60, 1)
    noise = (pictures, rng.permutation(label))  # nothing to learn: what fits better is worse
    net, history = fit(CutoutFit(epochs=60, patience=3, batch=8, rate=2e-2, decay=0), train=noise)
    losses = [one.validation_loss for one in history]
    assert len(history) == int(np.argmin(losses)) + 4
    inputs, truth = toy(200, 2)
    odds = torch.from_numpy(apply(net, inputs))
    loss = nn.functional.binary_cross_entropy_with_logits(odds, torch.from_numpy(truth).float())
    assert float(loss) == pytest.approx(min(losses), rel=0.02)


def test_same_seed_same_weights():
    one, other = (fit(CutoutFit(epochs=2), 4)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_refuses_one_class_alone():
    with pytest.raises(Misconfigured, match=r"5 cutouts are all of class \[1\]"):
        require_both(np.ones(5, np.int64))
    inputs, label = toy(40, 1)
    with pytest.raises(Misconfigured, match="give cutouts of stars and of galaxies"):
        fit(CutoutFit(epochs=1), train=(inputs, np.zeros_like(label)))


def test_takes_scores_or_odds():
    scores = torch.tensor([[1.0, 3.0]])
    assert log_odds(scores).item() == 2
    assert log_odds((torch.tensor([5.0]), None)).item() == 5
