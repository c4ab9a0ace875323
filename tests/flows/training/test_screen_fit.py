import numpy as np
import pytest

from flows.training.screen_fit import ScreenFit, fit_screen
from flows.training.screen_rows import Rows
from kernels.fused_screen import Screen
from schemas.errors import Misconfigured

PLAN = ScreenFit(hidden=(32, 16), epochs=10, batch=256, made=18_000)
FLOOR = 0.4


def exact(features):
    return (FLOOR - 1.0 + np.sin(features[:, 0]) + features[:, 1] * features[:, 2]).astype(np.float32)


def windows(n, seed):
    features = (5.0 + np.random.default_rng(seed).gamma(2.0, 0.5, (n, 3)) * [1, 0.5, 0.3] - 5.0).astype(np.float32)
    return Rows(features, exact(features))


def fitted():
    lines = []
    return Screen(fit_screen(windows(20_000, 0), exact, FLOOR, PLAN, lines.append), FLOOR), lines


def test_guesses_are_close_near_the_floor_and_on_the_right_side_far_from_it():
    screen, lines = fitted()
    rows = windows(5000, 1)
    guess, off = screen(rows.features), rows.logits - FLOOR
    near = (off > PLAN.low) & (off < PLAN.high)
    assert np.sqrt(np.mean((guess - rows.logits)[near] ** 2)) < 0.1
    assert (guess[off > PLAN.high + 0.3] > FLOOR + 0.6).all()
    assert len(lines) == PLAN.epochs
    assert "epoch 10 of 10" in lines[-1]


def test_the_same_seed_gives_the_same_layers():
    for one, two in zip(fitted()[0].layers, fitted()[0].layers, strict=True):
        assert np.array_equal(one.weight, two.weight)
        assert np.array_equal(one.bias, two.bias)


def test_a_network_without_hits_is_refused():
    rows = windows(1000, 2)
    with pytest.raises(Misconfigured, match="hold no hit of this network among 1000 windows"):
        fit_screen(rows, exact, 50.0, PLAN, print)
