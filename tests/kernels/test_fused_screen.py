from itertools import pairwise

import numpy as np
import torch

from kernels.fused_net import Dense
from kernels.fused_screen import Screen, screen_arrays, screen_layers


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
