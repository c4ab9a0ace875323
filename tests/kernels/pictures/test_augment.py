from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from kernels.pictures.augment import Augment, augmented

NOTHING = Augment(turn=0.0, zoom=1.0, shift=0.0, gain=0.0, tint=0.0, noise=0.0)
PICTURES = torch.rand((32, 3, 24, 24), generator=torch.Generator().manual_seed(1))


def changed(how, pictures=PICTURES, seed=2):
    return augmented(pictures, how, torch.Generator().manual_seed(seed))


def test_nothing_is_changed_but_the_side_it_is_seen_from():
    found = changed(NOTHING)
    same = np.array([torch.allclose(a, b, atol=1e-5) for a, b in zip(found, PICTURES, strict=True)])
    mirrored = np.array([torch.allclose(a, b.flip(2), atol=1e-5) for a, b in zip(found, PICTURES, strict=True)])
    assert (same ^ mirrored).all()
    assert same.any()
    assert mirrored.any()


@pytest.mark.parametrize("name", [one.name for one in fields(Augment)])
def test_each_change_is_one_of_its_own_and_stays_within_the_range(name):
    found = changed(replace(NOTHING, **{name: getattr(Augment(), name)}))
    assert not torch.allclose(found, changed(NOTHING), atol=1e-3)
    assert 0 <= found.min() < found.max() <= 1
    assert torch.equal(found, changed(replace(NOTHING, **{name: getattr(Augment(), name)})))


def test_what_is_round_stays_what_it_is_when_it_turns():
    y, x = np.mgrid[:65, :65] - 32.0
    disc = torch.from_numpy(np.exp(-(x**2 + y**2) / 50)).float().expand(8, 3, 65, 65)
    assert torch.allclose(changed(replace(NOTHING, turn=180.0), disc), disc, atol=0.01)


def test_a_zoom_and_a_shift_are_no_larger_than_allowed():
    y, x = np.mgrid[:65, :65] - 32.0
    dot = torch.from_numpy(np.exp(-(x**2 + y**2) / 8)).float().expand(64, 1, 65, 65)
    found = changed(replace(NOTHING, shift=0.2), dot).numpy()[:, 0]
    weight = found.sum((1, 2))
    away = np.abs([(found * axis).sum((1, 2)) / weight for axis in (x, y)])
    assert 4 < away.max() <= 0.2 * 65 / 2 + 0.1
    size = np.sqrt(changed(replace(NOTHING, zoom=1.5), dot).numpy()[:, 0].sum((1, 2)) / dot[0].sum().item())
    assert 1 / 1.5 - 0.02 <= size.min() < 0.75
    assert 1.3 < size.max() <= 1.52
