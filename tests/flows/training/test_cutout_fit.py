import numpy as np
import pytest
import torch
from torch import nn

from flows.training.cutout_fit import CutoutFit, apply, fit_cutouts, log_odds, require_both
from flows.training.fits import turned
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


def test_defaults_of_the_fit():
    assert CutoutFit() == CutoutFit(epochs=20, patience=6, batch=64, rate=2e-3, decay=1e-3)


class Line(nn.Module):
    """Log odds that are a straight line in the sum of a picture; notes what it learns from."""

    def __init__(self):
        super().__init__()
        self.slope, self.offset, self.seen = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-1.0)), []

    def forward(self, pictures):
        if self.training:
            self.seen.append(pictures)
        return (self.slope * pictures.sum((1, 2, 3)) + self.offset, None)


def sums(values, label):
    pictures = torch.arange(9.0).reshape(1, 1, 3, 3) / 36
    return (pictures * torch.tensor(values)[:, None, None, None],), np.array(label)


def test_both_classes_weigh_the_same_and_the_history_tells_of_all_cutouts(fit_settings):
    value = np.linspace(-1, 3, 10).astype(np.float32)
    label = np.array([0, 0, 0, 0, 1, 0, 0, 1, 0, 0])
    held = np.array([2.0, 0.0, 4.0, 3.0], np.float32), np.array([1, 0, 0, 1])  # of odds 0, -1, 1, 0.5
    net, said = Line(), []
    (epoch,) = fit_cutouts(net, sums(value, label), sums(*held), CutoutFit(1, 1, 20, 1e-9, 3e-3), 1, say=said.append)
    assert fit_settings == [(1e-9, 3e-3), (1e-9, 1, 0.15)]
    odds = 0.5 * value - 1
    cost = np.logaddexp(0, np.where(label == 1, -odds, odds)) * np.where(label == 1, 10 / 4, 10 / 16)
    assert epoch.loss == pytest.approx(cost.mean(), rel=1e-5)
    assert epoch.accuracy == pytest.approx(((odds > 0) == (label == 1)).mean())
    odds, label = 0.5 * held[0] - 1, held[1]
    cost = np.logaddexp(0, np.where(label == 1, -odds, odds)) * np.where(label == 1, 10 / 4, 10 / 16)
    assert epoch.validation_loss == pytest.approx(cost.mean(), rel=1e-5)
    assert epoch.validation_accuracy == 0.5  # odds of 0 are nobody's
    assert said == [f"pass 1: loss {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}, accuracy 0.5000"]
    assert not net.training


def test_cutouts_are_learnt_from_in_batches_turned_in_eight_ways(fit_settings):
    rng = np.random.default_rng(2)
    value, label = rng.normal(size=70).astype(np.float32), np.arange(70) % 2
    net = Line()
    history = fit_cutouts(net, sums(value, label), sums(value, label), CutoutFit(12, 12, 20, 1e-9), 1)
    assert len(history) == 12
    assert fit_settings[1] == (1e-9, 36, 0.15)
    assert sorted(len(batch) for batch in net.seen[:3]) == [23, 23, 24]
    ways = [turned(torch.arange(9.0).reshape(1, 1, 3, 3) / 36, n)[0, 0] for n in range(8)]
    met = set()
    for batch in net.seen:
        picture = batch[0, 0] / batch[0].sum()
        met.add(next(n for n, way in enumerate(ways) if torch.allclose(picture, way, atol=1e-4)))
    assert met == set(range(8))


def test_as_many_passes_without_a_lower_loss_as_allowed_end_the_fit(monkeypatch):
    from flows.training import cutout_fit

    losses = iter([5.0, 4.0, 4.5, 3.0, 3.5, 3.0, 3.2, 9.0, 9.0])
    real = cutout_fit._loss

    def loss(odds, truth, weight):
        found = real(odds, truth, weight)
        return found if found.requires_grad else torch.tensor(next(losses))

    monkeypatch.setattr(cutout_fit, "_loss", loss)
    inputs, label = sums(np.arange(4, dtype=np.float32), [0, 1, 0, 1])
    net = Line()
    weights = []
    history = fit_cutouts(
        net,
        (inputs, label),
        (inputs, label),
        CutoutFit(9, 3, 4, 1e-2),
        1,
        say=lambda line: weights.append(net.slope.item()),
    )
    assert [one.validation_loss for one in history] == [5.0, 4.0, 4.5, 3.0, 3.5, 3.0, pytest.approx(3.2)]
    assert net.slope.item() == weights[3]


def test_the_same_seed_learns_the_same():
    net, history = fit(CutoutFit(epochs=2, rate=5e-3), 2)
    found = [[one.loss, one.accuracy, one.validation_loss, one.validation_accuracy] for one in history]
    np.testing.assert_allclose(found, GOLDEN_HISTORY, rtol=5e-3)
    assert not net.training


GOLDEN_HISTORY = [
    [0.6278857773542404, 0.495, 0.47488686442375183, 0.575],
    [0.40819754511117934, 0.7075, 0.3859328329563141, 0.785],
]
