from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.training.examples import pixels
from flows.training.screen_fit import (
    FOLDS,
    WORST,
    Guessed,
    Rows,
    ScreenFit,
    _cost,
    _folded,
    _made_up,
    _network,
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
from kernels.statistics.completeness import binomial_interval
from schemas.errors import Misconfigured
from tests.support.fused_fixture import cut

PLAN = ScreenFit(hidden=(32, 16), epochs=10, batch=256, made=18_000)
FLOOR = 0.4


def exact(features):
    return (FLOOR - 1.0 + np.sin(features[:, 0]) + features[:, 1] * features[:, 2]).astype(np.float32)


def windows(n, seed):
    features = (5.0 + np.random.default_rng(seed).gamma(2.0, 0.5, (n, 3)) * [1, 0.5, 0.3] - 5.0).astype(np.float32)
    return Rows(features, exact(features))


def fitted(count=20_000, plan=PLAN):
    lines = []
    return Screen(fit_screen(windows(count, 0), exact, FLOOR, plan, lines.append), FLOOR), lines


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
    plan = replace(PLAN, epochs=2, made=1800)
    first, again, third = (fitted(2000, replace(plan, seed=seed))[0].layers for seed in (0, 0, 1))
    for one, two, other in zip(first, again, third, strict=True):
        assert np.array_equal(one.weight, two.weight)
        assert np.array_equal(one.bias, two.bias)
        assert not np.array_equal(one.weight, other.weight)


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


def test_the_level_lies_three_scales_of_the_lowest_thirty_below_the_lowest():
    guess = np.random.default_rng(1).permutation(np.arange(100.0) ** 1.5 / 100 - 3)
    logits = np.where(np.arange(100) < 40, 0.0, -0.001)
    lowest = np.sort(guess[:40])[:30]
    expected = lowest[0] - 3 * np.mean(lowest[29] - lowest[:29])
    given = [
        Guessed(guess[part].astype(np.float32), logits[part].astype(np.float32)) for part in (slice(50), slice(50, 100))
    ]
    assert safe_level(given, 0.0) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(safe_level([Guessed(np.zeros(30, np.float32), np.zeros(30, np.float32))], 0.0))


def test_what_reaches_the_floor_is_a_hit_and_what_reaches_the_level_passes():
    logits = np.array([0.0, 0.0, -0.1, 5.0, -3.0, -3.0, -3.0], np.float32)
    guess = np.array([-0.5, -0.6, -0.5, -0.512345, -2.0, -2.0, -2.0], np.float32)
    found = screen_figures([Guessed(guess, logits)], ["ztf"], 0.0, -0.5)["ztf"]
    low, high = binomial_interval(2, 7)
    assert found == {
        "exposures": 1, "windows": 7, "hits": 3, "hits_lost": 2, "lowest_guess_of_a_hit": -0.6,
        "windows_passed": {"count": 2, "share": 0.28571, "interval": [round(low, 5), round(high, 5)]},
        "share_lost_interval": list(binomial_interval(2, 3)),
    }  # fmt: skip
    guess[1] = -0.512345
    found = screen_figures([Guessed(guess, logits), Guessed(guess[:0], logits[:0])], ["a", "b"], 0.0, -0.5)
    assert found["a"]["lowest_guess_of_a_hit"] == -0.5123
    assert (found["b"]["hits"], found["b"]["lowest_guess_of_a_hit"]) == (0, None)
    assert found["b"]["windows_passed"]["share"] == 0


def test_which_windows_far_below_are_drawn_is_always_the_same(examples):
    rows = scored_rows(examples[0], "basic_cnn")
    low = float(np.sort(rows.logits)[len(rows.logits) // 2])
    told = telling_rows(examples[0], "basic_cnn", low, 0.3)
    expected = (rows.logits > low) | (np.random.default_rng(0).random(len(rows.logits)) < 0.3)
    np.testing.assert_array_equal(told.logits, rows.logits[expected])


def test_guesses_that_fall_short_cost_more_and_those_beyond_the_bounds_nothing():
    guess = torch.tensor([0.5, -0.5, -9.0, -1.0, 9.0, 1.5, 0.0])
    y = torch.tensor([0.0, 0.0, -1.5, -1.5, 1.0, 1.0, 1.0])
    expected = [0.25, 3 * 0.25 + 50 * 0.0625, 0, 0.25, 0, 0, 3 + 50]
    np.testing.assert_allclose(_cost(guess, y, ScreenFit(low=-1.5, high=1.0)), expected, rtol=1e-6)


def test_the_layers_hold_normalisation_and_floor():
    torch.manual_seed(3)
    net = _network(3, (5, 4))
    assert [(part.in_features, part.out_features) for part in net[::2]] == [(3, 5), (5, 4), (4, 1)]
    assert [type(part) for part in net[1::2]] == [torch.nn.ReLU] * 2
    mean, scale = np.array([1.0, -2, 3], np.float32), np.array([2.0, 0.5, 4], np.float32)
    x = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32) * scale + mean
    with torch.no_grad():
        expected = net(torch.from_numpy((x - mean) / scale))[:, 0].numpy() + 0.75
    np.testing.assert_allclose(Screen(_folded(net, mean, scale, 0.75), -np.inf)(x), expected, rtol=1e-4, atol=1e-5)


def test_made_up_windows_mix_and_vary_those_near_the_floor_and_those_above():
    """Windows of one feature, which is their log odds: what they were made of can be told."""
    plan = ScreenFit(made=9000, near=0.7, low=-1.5)
    logits = np.array([-9.0, -1.5, -0.7, 0.5, 1.5, 2.0, 8.0], np.float32)
    rows = Rows(np.stack([np.ones(7), logits > 0, 10.0 ** np.arange(7)], 1).astype(np.float32), logits)
    made = _made_up(rows, lambda features: features[:, 0], 0.0, plan)
    np.testing.assert_array_equal(made.logits, made.features[:, 0])
    assert len(made.logits) == 9000
    parts = np.split(made.features, np.cumsum([2000, 1000] * 3)[:-1])
    for n, (spread, part) in enumerate(zip(np.repeat([0.05, 0.15, 0.3], 2), parts, strict=True)):
        assert np.std(np.log(part[:, 0])) == pytest.approx(spread, rel=0.06)
        assert np.mean(np.log(part[:, 0])) == pytest.approx(0, abs=0.03)
        # Near are two, 0.5 and 1.5; above are five, of which -0.7 is one.
        size = np.log10(part[:, 2])
        assert (size.max() < 5) == (n % 2 == 0)
        assert size.min() > (2.5 if n % 2 == 0 else 1.0)
    near = parts[0][:, 2] / parts[0][:, 0]
    unmixed = (np.abs(np.log10(near) - 3) < 0.12) | (np.abs(np.log10(near) - 4) < 0.12)
    assert 0.7 < unmixed.mean() < 0.9  # three in four: half are not mixed, and half of the rest with their like
    values = made.features.astype(np.float64)
    total = [values.sum(), (values[:, 2] ** 0.5).sum(), (values[:, 0] * np.arange(9000)).sum()]
    np.testing.assert_allclose(total, GOLDEN_MADE, rtol=1e-6)


GOLDEN_MADE = [698700745.2932668, 1350080.8371592942, 41513352.62396142]


@pytest.mark.usefixtures("one_thread")
def test_a_fit_tells_its_loss_and_is_decided_by_its_seed(fit_settings):
    plan, lines = ScreenFit(hidden=(6, 5), epochs=2, batch=64, rate=4e-3, made=900), []
    layers = fit_screen(windows(400, 3), exact, FLOOR, plan, lines.append)
    assert fit_settings == [(4e-3, 2 * (1300 // 64), 0.3)]
    assert [line.rpartition(" ")[0] for line in lines] == ["epoch 1 of 2: loss", "epoch 2 of 2: loss"]
    np.testing.assert_allclose([float(line.rpartition(" ")[2]) for line in lines], GOLDEN_LOSS, rtol=2e-3)
    np.testing.assert_allclose(
        [layers[0].weight.sum(), layers[1].weight.sum(), layers[2].bias.sum()], GOLDEN_LAYERS, rtol=2e-3
    )


GOLDEN_LOSS = [1.865, 1.4879]
GOLDEN_LAYERS = [-1.6119401454925537, -1.0173499584197998, 0.6621045470237732]


def test_a_window_at_the_floor_alone_is_no_hit():
    rows = Rows(np.zeros((5, 3), np.float32), np.full(5, 0.5, np.float32))
    with pytest.raises(Misconfigured, match="hold no hit"):
        fit_screen(rows, exact, 0.5, PLAN, print)
