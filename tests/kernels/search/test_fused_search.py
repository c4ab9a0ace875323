from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.search.fused_net import Dense, fuse
from kernels.search.fused_search import FusedSearch, Screen, screen_arrays, screen_layers
from kernels.search.windows import MARGIN
from tests.support.fused_fixture import cut, grid_of, log_odds, network, sky


def expected(net, image, usable, background, side=26, stride=7):
    windows, scored = cut(image, usable, background, side, stride)
    return np.where(scored, log_odds(net, windows), -np.inf), int((~scored).sum())


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(26, 120), st.integers(26, 160)),
    stride=st.integers(1, 30),
    bad=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_log_odds_are_those_of_windows_put_to_the_network(seed, shape, stride, bad):
    net = network(seed=seed)
    image, usable = sky(shape, seed=seed, bad=bad, pedestal=12)
    image[:, :15, :15] = 4.0
    found, unscored = FusedSearch(fuse(net)).search(image, usable, 11.0, grid_of(shape, 26, stride), stride)
    logits, missing = expected(net, image, usable, 11.0, 26, stride)
    assert unscored == missing
    np.testing.assert_allclose(found, logits, atol=2e-5)


@pytest.mark.parametrize(("bands", "side"), [(2, 26), (3, 33)])
def test_several_bands_and_other_windows(bands, side):
    net = network(bands, side)
    image, usable = sky((100, 120), bands)
    found, _ = FusedSearch(fuse(net)).search(image, usable, 1.0, grid_of((100, 120), side), 7)
    np.testing.assert_allclose(found, expected(net, image, usable, 1.0, side)[0], atol=2e-5)


@pytest.mark.parametrize("background", [10_000.0, 9_000.0, 0.0])
def test_a_large_pedestal_costs_no_digits(background):
    net = network()
    image, usable = sky((100, 120), bad=0.02, pedestal=10_000)
    found, _ = FusedSearch(fuse(net)).search(image, usable, background, grid_of((100, 120)), 7)
    # With a background that is off, masked pixels are holes as deep: log odds are that much larger.
    logits = expected(net, image, usable, background)[0]
    np.testing.assert_allclose(found, logits, rtol=2e-5, atol=5e-5)


@pytest.mark.parametrize("bands", [1, 2])
@pytest.mark.parametrize("pedestal", [0.0, 10_000.0])
def test_values_that_are_not_finite_do_not_count_in_any_band(bands, pedestal):
    image, usable = sky((60, 60), bands, pedestal=pedestal)
    holed, less = image.copy(), usable.copy()
    holed[0, 20:30, 20:25], less[20:30, 20:25] = np.nan, False
    holed[-1, 40, 40], less[40, 40] = np.inf, False
    search = FusedSearch(fuse(network(bands))).search
    assert (search(holed, usable, 0.0, (5, 5), 7)[0] == search(image, less, 0.0, (5, 5), 7)[0]).all()


@pytest.mark.parametrize("scale", [1e-38, 1e35])
def test_extreme_values_are_scored_like_others(scale):
    net = network()
    image, usable = sky((60, 60))
    image[:, :26] *= np.float32(scale)
    found, unscored = FusedSearch(fuse(net)).search(image, usable, 0.0, (5, 5), 7)
    logits, missing = expected(net, image, usable, 0.0)
    assert unscored == missing
    np.testing.assert_allclose(found, logits, atol=2e-5)


@pytest.mark.parametrize("grid", [(0, 0), (5, 0), (0, 5)])
def test_an_empty_grid_has_no_log_odds(grid):
    found, unscored = FusedSearch(fuse(network())).search(*sky((60, 60)), 0.0, grid, 7)
    assert found.shape == (0,)
    assert unscored == 0


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"grid of \(6, 5\) windows of 26 px at stride 7 does not fit"):
        FusedSearch(fuse(network())).search(*sky((60, 60)), 0.0, (6, 5), 7)


@pytest.mark.parametrize("bands", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_part_of_an_image_gives_the_bits_of_the_whole(bands, precision):
    search = FusedSearch(fuse(network(bands)), precision, 0.0)
    image, usable = sky((150, 300), bands)
    image[:, 100:] += 5000  # windows that sums in float32 would spoil
    rows, columns = grid_of((150, 300))
    whole = search.search(image, usable, 0.0, (rows, columns), 7)[0].reshape(rows, columns)
    for row, column, high, wide in ((0, 0, 1, 1), (3, 11, 9, 17), (rows - 1, columns - 1, 1, 1), (5, 0, 8, columns)):
        box = (slice(row * 7, row * 7 + high * 7 + 19), slice(column * 7, column * 7 + wide * 7 + 19))
        part = search.search(image[:, *box].copy(), usable[box].copy(), 0.0, (high, wide), 7)[0]
        assert (part.reshape(high, wide) == whole[row : row + high, column : column + wide]).all()


def test_hits_in_bfloat16_are_those_of_float32():
    net = network()
    image, usable = sky((300, 400))
    grid = grid_of((300, 400))
    exact = FusedSearch(fuse(net)).search(image, usable, 0.0, grid, 7)[0]
    floor = float(np.quantile(exact, 0.9))
    found = FusedSearch(fuse(net), "bfloat16", floor).search(image, usable, 0.0, grid, 7)[0]
    hits = exact >= floor
    assert ((found >= floor) == hits).all()
    assert (found[hits] == exact[hits]).all()
    plain = FusedSearch(fuse(net), "bfloat16").search(image, usable, 0.0, grid, 7)[0]
    assert 0 < np.abs(plain - exact).max() < MARGIN


def test_slabs_of_rows_change_nothing(monkeypatch):
    image, usable = sky((120, 160))
    search = FusedSearch(fuse(network())).search
    whole = search(image, usable, 0.0, grid_of((120, 160)), 7)
    monkeypatch.setattr("kernels.search.fused_search.SLAB", 50)
    parts = search(image, usable, 0.0, grid_of((120, 160)), 7)
    assert (parts[0] == whole[0]).all()
    assert parts[1] == whole[1]


def screened(search, image, usable, grid, share):
    """The search behind a screen that guesses the first feature, at a level that leaves a share of the windows."""
    first = Dense(np.eye(1, 12, dtype=np.float32), np.zeros(1, np.float32))
    features, scored = search.features(image, usable, 0.0, grid, 7)
    level = float(np.quantile(features[scored, 0], 1 - share))
    return replace(search, screen=Screen((first,), level)), (features[:, 0] >= level) & scored, features[:, 0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_the_screen_leaves_gets_the_bits_of_float32_and_the_rest_its_guess(precision):
    image, usable = sky((300, 400))
    image[:, :15, :15] = 4.0
    usable[200:240] = False
    grid = grid_of((300, 400))
    plain = FusedSearch(fuse(network()))
    exact, unscored = plain.search(image, usable, 0.0, grid, 7)
    search, passed, guess = screened(replace(plain, precision=precision, floor=0.0), image, usable, grid, 0.1)
    found, missing = search.search(image, usable, 0.0, grid, 7)
    assert missing == unscored > 0
    assert 0 < passed.mean() < 0.2
    assert (found[passed] == exact[passed]).all()
    assert (found[np.isneginf(exact)] == -np.inf).all()
    rest = ~passed & np.isfinite(exact)
    assert (found[rest] == guess[rest]).all()
    assert (found[rest] < search.screen.level).all()


def test_a_screened_part_of_an_image_gives_the_bits_of_the_whole():
    image, usable = sky((150, 300))
    grid = grid_of((150, 300))
    search, _, _ = screened(FusedSearch(fuse(network())), image, usable, grid, 0.3)
    whole = search.search(image, usable, 0.0, grid, 7)[0].reshape(grid)
    for row, column, high, wide in ((0, 0, 1, 1), (3, 11, 9, 17), (grid[0] - 1, grid[1] - 1, 1, 1)):
        box = (slice(row * 7, row * 7 + high * 7 + 19), slice(column * 7, column * 7 + wide * 7 + 19))
        part = search.search(image[:, *box].copy(), usable[box].copy(), 0.0, (high, wide), 7)[0]
        assert (part.reshape(high, wide) == whole[row : row + high, column : column + wide]).all()


def random_layers(sizes=(12, 20, 8, 1), seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        Dense(rng.normal(size=(b, a)).astype(np.float32) / 3, rng.normal(size=b).astype(np.float32))
        for a, b in pairwise(sizes)
    )


def some(n):
    return np.random.default_rng(1).uniform(0, 2, (n, 12)).astype(np.float32)


def test_guesses_are_those_of_torch():
    layers, features = random_layers(), some(300)
    values = torch.from_numpy(features)
    for n, layer in enumerate(layers):
        values = values @ torch.from_numpy(layer.weight).T + torch.from_numpy(layer.bias)
        values = torch.relu(values) if n < 2 else values
    np.testing.assert_allclose(Screen(layers, 0.0)(features), values[:, 0].numpy(), atol=1e-5)


def test_a_guess_does_not_depend_on_the_rows_around_it():
    screen, features = Screen(random_layers(), 0.0, batch=64), some(200)
    found = screen(features)
    order = np.random.default_rng(2).permutation(200)
    assert (screen(features[order]) == found[order]).all()
    assert (screen(features[:3]) == found[:3]).all()


def test_layers_come_back_from_their_arrays():
    layers = random_layers()
    again = screen_layers(screen_arrays(layers))
    assert len(again) == len(layers)
    for one, two in zip(layers, again, strict=True):
        assert np.array_equal(one.weight, two.weight)
        assert np.array_equal(one.bias, two.bias)


@pytest.mark.parametrize("slab", [1, 19, 20, 39, 41, 60])
def test_slabs_hold_whole_rows_and_one_at_least(slab, monkeypatch):
    image, usable = sky((54, 159))
    usable[:30, :40] = False
    search = FusedSearch(fuse(network()))
    whole, rows = search.search(image, usable, 0.0, (5, 20), 7), []
    features = FusedSearch.features

    def counted(self, image, usable, background, grid, stride):
        rows.append(grid[0])
        return features(self, image, usable, background, grid, stride)

    monkeypatch.setattr(FusedSearch, "features", counted)
    monkeypatch.setattr("kernels.search.fused_search.SLAB", slab)
    parts = search.search(image, usable, 0.0, (5, 20), 7)
    assert (parts[0] == whole[0]).all()
    assert parts[1] == whole[1] > 0
    tall = max(slab // 20, 1)
    assert rows == [tall] * (5 // tall) + [5 % tall] * (5 % tall > 0)


def test_a_guess_at_the_level_itself_is_passed_on():
    search, features = FusedSearch(fuse(network())), some(40)
    exact, guess = search.log_odds(features), features[:, 0]
    first = Dense(np.eye(1, 12, dtype=np.float32), np.zeros(1, np.float32))
    level = float(np.sort(guess)[20])
    found = replace(search, screen=Screen((first,), level)).log_odds(features)
    np.testing.assert_array_equal(found, np.where(guess >= level, exact, guess))


def test_hits_and_an_eighth_below_are_computed_again_in_float32():
    search, features = FusedSearch(fuse(network())), some(400)
    exact, plain = search.log_odds(features), replace(search, precision="bfloat16").log_odds(features)
    own = plain != exact
    assert own.mean() > 0.9
    floor = float(np.sort(plain)[200]) + 1 / 8
    found = replace(search, precision="bfloat16", floor=floor).log_odds(features)
    np.testing.assert_array_equal(found, np.where(plain >= floor - 1 / 8, exact, plain))
    np.testing.assert_array_equal(replace(search, floor=floor).log_odds(features), exact)
    np.testing.assert_array_equal(replace(search, precision="bfloat16", floor=None).log_odds(features), plain)
