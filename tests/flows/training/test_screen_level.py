import numpy as np
import pytest

from flows.training.screen_level import FOLDS, WORST, Guessed, safe_level, screen_figures
from schemas.errors import Misconfigured

FLOOR = 0.0


def exposures(seed, count, hits=4000, scale=0.1):
    """Guesses that fall short of the log odds by an exponential amount."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        logits = np.concatenate([np.full(hits, FLOOR + 0.01), np.full(hits, FLOOR - 2)])
        yield Guessed((logits - rng.exponential(scale, 2 * hits)).astype(np.float32), logits.astype(np.float32))


def test_the_level_keeps_every_hit_with_a_margin():
    examples = list(exposures(0, 3))
    level = safe_level(examples, FLOOR)
    lowest = min(float(one.guess[one.logits >= FLOOR].min()) for one in examples)
    assert lowest - 2 * FOLDS * 0.1 < level < lowest - 0.5 * FOLDS * 0.1


def test_few_further_sets_as_large_lose_a_hit():
    lost = 0
    for seed in range(60):
        level = safe_level(list(exposures(seed, 1)), FLOOR)
        (further,) = exposures(1000 + seed, 1)
        lost += bool((further.guess[further.logits >= FLOOR] < level).any())
    assert lost <= 8  # 1 in 20 is expected of an exponential tail


def test_the_level_is_never_above_the_floor():
    one = Guessed(np.full(50, 3.0, np.float32), np.full(50, 4.0, np.float32))
    assert safe_level([one], FLOOR) == FLOOR


def test_figures_count_what_is_lost_and_what_passes():
    logits = np.array([1, 1, 1, -1, -1, -3, -3, -3], np.float32)
    guess = np.array([1, 0.5, -0.9, -0.4, -1, -2, -3, 0.2], np.float32)
    found = screen_figures([Guessed(guess, logits), Guessed(guess, logits)], ["ztf", "llnl"], FLOOR, -0.5)
    assert found.keys() == {"ztf", "llnl"}
    assert (found["ztf"]["hits"], found["ztf"]["hits_lost"]) == (3, 1)
    assert found["ztf"]["windows_passed"]["count"] == 4
    assert found["ztf"]["windows_passed"]["share"] == pytest.approx(0.5)
    low, high = found["ztf"]["share_lost_interval"]
    assert low < 1 / 3 < high
    assert found["ztf"]["lowest_guess_of_a_hit"] == pytest.approx(-0.9)


def test_too_few_hits_are_refused():
    few = Guessed(np.zeros(500, np.float32), np.where(np.arange(500) < WORST - 1, 1.0, -5.0).astype(np.float32))
    with pytest.raises(Misconfigured, match=f"hold {WORST - 1} hits of this network, {WORST} are needed"):
        safe_level([few], 0.0)
