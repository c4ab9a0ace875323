import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.training.examples import pixels
from flows.training.screen_fit import (
    FOLDS,
    WORST,
    Guessed,
    Rows,
    ScreenFit,
    exact_search,
    fit_screen,
    guessed,
    safe_level,
    scored_rows,
    screen_figures,
    telling_rows,
)
from kernels.search.fused_net import Dense
from kernels.search.fused_search import Screen
from schemas.errors import Misconfigured
from tests.support.fused_fixture import cut

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


FIRST = (Dense(np.eye(1, 12, dtype=np.float32), np.zeros(1, np.float32)),)


def test_rows_are_the_scored_windows_with_the_networks_own_log_odds(examples):
    image, usable, background = pixels(examples[0])
    windows, scored = cut(image[None], usable, background)
    rows = scored_rows(examples[0], "basic_cnn")
    np.testing.assert_allclose(rows.logits, load_model("detect", "basic_cnn")(windows[scored]), atol=2e-5)
    assert rows.features.shape == (scored.sum(), 12)
    assert (exact_search("basic_cnn").log_odds(rows.features) == rows.logits).all()


def test_windows_far_below_are_drawn_the_others_all_there(examples):
    rows = scored_rows(examples[0], "basic_cnn")
    low = float(np.median(rows.logits))
    told = telling_rows(examples[0], "basic_cnn", low, 0.2)
    assert (told.logits[told.logits > low] == rows.logits[rows.logits > low]).all()
    assert 0.1 < (told.logits <= low).sum() / (rows.logits <= low).sum() < 0.3
    assert (telling_rows(examples[0], "basic_cnn", low, 0.2).features == told.features).all()


def test_guesses_stand_beside_what_they_are_of(examples):
    rows, found = scored_rows(examples[1], "basic_cnn"), guessed(examples[1], "basic_cnn", FIRST)
    assert (found.logits == rows.logits).all()
    np.testing.assert_allclose(found.guess, rows.features[:, 0])


def test_the_shipped_screen_keeps_every_hit_and_leaves_few_windows(examples):
    scorer = load_model("detect", "basic_cnn")
    for example in examples:
        rows = scored_rows(example, "basic_cnn")
        guess, hit = scorer.screen(rows.features), rows.logits >= scorer.floor
        assert hit.sum() > 5
        assert (guess[hit] >= scorer.screen.level).all()
        assert (guess >= scorer.screen.level).mean() < 0.2


FLOOR_SCREEN_LEVEL = 0.0


def exposures(seed, count, hits=4000, scale=0.1):
    """Guesses that fall short of the log odds by an exponential amount."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        logits = np.concatenate([np.full(hits, FLOOR_SCREEN_LEVEL + 0.01), np.full(hits, FLOOR_SCREEN_LEVEL - 2)])
        yield Guessed((logits - rng.exponential(scale, 2 * hits)).astype(np.float32), logits.astype(np.float32))


def test_the_level_keeps_every_hit_with_a_margin():
    examples = list(exposures(0, 3))
    level = safe_level(examples, FLOOR_SCREEN_LEVEL)
    lowest = min(float(one.guess[one.logits >= FLOOR_SCREEN_LEVEL].min()) for one in examples)
    assert lowest - 2 * FOLDS * 0.1 < level < lowest - 0.5 * FOLDS * 0.1


def test_few_further_sets_as_large_lose_a_hit():
    lost = 0
    for seed in range(60):
        level = safe_level(list(exposures(seed, 1)), FLOOR_SCREEN_LEVEL)
        (further,) = exposures(1000 + seed, 1)
        lost += bool((further.guess[further.logits >= FLOOR_SCREEN_LEVEL] < level).any())
    assert lost <= 8  # 1 in 20 is expected of an exponential tail


def test_the_level_is_never_above_the_floor():
    one = Guessed(np.full(50, 3.0, np.float32), np.full(50, 4.0, np.float32))
    assert safe_level([one], FLOOR_SCREEN_LEVEL) == FLOOR_SCREEN_LEVEL


def test_figures_count_what_is_lost_and_what_passes():
    logits = np.array([1, 1, 1, -1, -1, -3, -3, -3], np.float32)
    guess = np.array([1, 0.5, -0.9, -0.4, -1, -2, -3, 0.2], np.float32)
    found = screen_figures([Guessed(guess, logits), Guessed(guess, logits)], ["ztf", "llnl"], FLOOR_SCREEN_LEVEL, -0.5)
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
