import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.special import expit
from sklearn.metrics import confusion_matrix

from flows.training import window_fit
from flows.training.window_fit import Epoch, FitPlan, draw_history, fit_windows, window_metrics
from kernels.nets.basic_cnn import BasicCnn
from kernels.statistics.completeness import binomial_interval


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


def fit(seed=0, count=1200, epochs=6):
    torch.manual_seed(seed)
    net = BasicCnn()
    plan = FitPlan(epochs=epochs, batch=64, rate=2e-3, seed=seed, device="cpu")
    history = fit_windows(net, *toy(count, 1), toy(count // 3, 2), plan)
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
    one, same, other = (fit(seed, 200, 2)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("weight"))


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


def test_a_probability_at_a_level_says_streak_and_shares_have_four_digits():
    windows = np.zeros((3, 1, 26, 26), np.float32)
    windows[1:, 0, 0, 0] = [-1.0, 9.0]
    metrics = window_metrics(Sum(), windows, np.array([1, 1, 1]))
    assert metrics["windows"] == 3
    assert metrics["at_0.5"]["confusion"] == [[0, 0], [1, 2]]
    assert metrics["at_0.5"]["accuracy"] == 0.6667
    assert metrics["at_0.5"]["interval"] == [round(edge, 4) for edge in binomial_interval(2, 3)]
    assert metrics["at_0.99"]["confusion"] == [[0, 0], [2, 1]]
    assert expit(9.0) > 0.99


def test_every_batch_is_turned_by_one_of_the_eight_symmetries():
    torch.manual_seed(1)
    square = np.arange(9.0).reshape(3, 3)
    met = {tuple(window_fit._turned(torch.from_numpy(square)[None, None]).flatten().tolist()) for _ in range(200)}
    assert met == {tuple(np.rot90(way, k).ravel().tolist()) for k in range(4) for way in (square, square[:, ::-1])}


class Watched(torch.nn.Module):
    """Straight line, which notes what it is shown while it learns."""

    def __init__(self):
        super().__init__()
        self.line, self.seen, self.said = torch.nn.Linear(4, 2), [], []

    def forward(self, windows):
        scores = self.line(windows.flatten(1))
        if self.training:
            self.seen.append(windows.sum((1, 2, 3)).detach())
            self.said.append(scores.detach())
        return scores


def few(count, share, seed):
    """Windows whose sum tells the label: about 0 of nothing, 4 of a streak."""
    labels = (np.arange(count) < share * count).astype(np.int64)
    noise = np.random.default_rng(seed).normal(0, 0.1, (count, 1, 2, 2))
    return (noise + labels[:, None, None, None]).astype(np.float32), labels


def test_classes_are_balanced_whole_batches_taken_and_the_history_is_that_of_the_passes(fit_settings):
    torch.manual_seed(5)
    net, validation = Watched(), few(30, 0.5, 2)
    history = fit_windows(net, *few(100, 0.1, 1), validation, FitPlan(2, 32, 0.05, 7, "cpu"))
    # Twice the larger class, 180, in whole batches of 32.
    assert [len(part) for part in net.seen] == [32] * 10
    assert fit_settings == [(0.05, 10, 0.3)]
    assert 0.4 < float((torch.cat(net.seen) > 2).float().mean()) < 0.6
    assert len(history) == 2
    for epoch, part in zip(history, (slice(5), slice(5, 10)), strict=True):
        scores, streak = torch.cat(net.said[part]), (torch.cat(net.seen[part]) > 2).long()
        assert epoch.loss == pytest.approx(float(torch.nn.functional.cross_entropy(scores, streak)), rel=1e-5)
        assert epoch.accuracy == pytest.approx(float((scores.argmax(1) == streak).float().mean()))
    windows, labels = (torch.from_numpy(part) for part in validation)
    with torch.no_grad():
        scores = net(windows)
    assert history[-1].validation_loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(scores, labels)), rel=1e-5
    )
    assert history[-1].validation_accuracy == pytest.approx(float((scores.argmax(1) == labels).float().mean()))
    assert not net.training


def test_defaults_of_the_fit():
    assert FitPlan() == FitPlan(epochs=10, batch=256, rate=1e-3, seed=0, device="auto")


def test_the_history_is_drawn_with_the_ends_of_the_rounds_and_the_confusion(monkeypatch):
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: saved.append((figure, dpi)))
    rounds = [[Epoch(1.0, 0.5, 1.1, 0.55)] * 3, [Epoch(0.5, 0.8, 0.6, 0.7)] * 2, [Epoch(0.4, 0.9, 0.5, 0.8)]]
    draw_history("history.png", rounds, {"at_0.5": {"confusion": [[30, 10], [20, 20]]}})
    ((figure, dpi),) = saved
    assert (dpi, tuple(figure.get_size_inches())) == (110, (13, 4))
    loss, accuracy, confusion = figure.axes
    for axis, name in ((loss, "loss"), (accuracy, "accuracy")):
        training, check, *ends = axis.lines
        assert training.get_ydata().tolist() == [getattr(one, name) for part in rounds for one in part]
        assert check.get_ydata().tolist() == [getattr(one, f"validation_{name}") for part in rounds for one in part]
        assert [line.get_xdata()[0] for line in ends] == [2.5, 4.5]
        assert {(line.get_linewidth(), line.get_color()) for line in ends} == {(1, "0.8")}
        assert (axis.get_ylabel(), axis.get_legend().get_frame_on()) == (name, False)
    np.testing.assert_allclose(confusion.images[0].get_array(), [[0.75, 0.25], [0.5, 0.5]])
    assert confusion.images[0].get_clim() == (0, 1)
    assert {text.get_position(): (text.get_text(), text.get_color()) for text in confusion.texts} == {
        (0, 0): ("30\n75.0%", "w"), (1, 0): ("10\n25.0%", "k"), (0, 1): ("20\n50.0%", "k"), (1, 1): ("20\n50.0%", "k"),
    }  # fmt: skip
    assert (confusion.get_xticks().tolist(), confusion.get_yticks().tolist()) == ([0, 1], [0, 1])
    assert [text.get_text() for text in confusion.get_xticklabels()] == ["nothing", "streak"]


def test_edges_of_an_interval_have_four_digits():
    windows, labels = np.full((7, 1, 26, 26), 0.1, np.float32), np.array([1, 1, 1, 1, 1, 0, 0])
    found, exact = window_metrics(Sum(), windows, labels)["at_0.5"]["interval"], binomial_interval(5, 7)
    assert [f"{edge:.4f}" for edge in exact] == [f"{edge:.10g}".ljust(6, "0") for edge in found]
    assert all(abs(edge - round(edge, 4)) > 5e-6 for edge in exact)  # a fifth digit would be seen
