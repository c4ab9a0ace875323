import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from flows.training.picture_fit import (
    PictureExamples,
    PictureFit,
    _Fit,
    apply_net,
    class_weights,
    fit_pictures,
    picture_loss,
)
from kernels.pictures.augment import Augment
from schemas.errors import Misconfigured

STILL = Augment(turn=0.0, zoom=1.0, shift=0.0, gain=0.05, tint=0.02, noise=0.02)
PLAN = PictureFit(epochs=8, patience=8, batch=16, rate=1e-2, augment=STILL)


def halves(count, seed):
    """Pictures whose upper (class 0) or lower half is bright: mirroring changes nothing."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 2, count)
    pictures = rng.integers(0, 60, (count, 3, 16, 16)).astype(np.uint8)
    for n, one in enumerate(code):
        pictures[n, :, 8 * one : 8 * one + 8] += 120
    return PictureExamples(torch.from_numpy(pictures), torch.eye(2)[torch.from_numpy(code)])


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 2))


TRAIN, HELD = halves(96, 1), halves(48, 2)


@pytest.mark.usefixtures("on_the_processor")
def test_learns_what_can_be_learnt_and_keeps_the_best_pass():
    one = net()
    history = fit_pictures(one, TRAIN, HELD, PLAN, 3)
    assert len(history) == 8
    assert history[-1].loss < history[0].loss
    scores = apply_net(one, HELD.pictures)
    assert (scores.argmax(1) == HELD.targets.argmax(1)).float().mean() > 0.95
    best = min(epoch.validation_loss for epoch in history)
    assert float(picture_loss(scores, HELD.targets).mean()) == pytest.approx(best, rel=1e-5)


def test_stops_early_where_nothing_gets_better():
    guessing = PictureExamples(
        HELD.pictures, torch.eye(2)[torch.from_numpy(np.random.default_rng(0).integers(0, 2, 48))]
    )
    assert len(fit_pictures(net(), TRAIN, guessing, replace(PLAN, epochs=40, patience=2), 3)) < 40


@pytest.mark.usefixtures("on_the_processor")
def test_a_fit_that_was_interrupted_ends_as_one_that_was_not(tmp_path):
    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("pass 3"):
            raise Killed

    whole, parts, path = net(), net(), tmp_path / "fit.pt"
    expected = fit_pictures(whole, TRAIN, HELD, PLAN, 3)
    with pytest.raises(Killed):
        fit_pictures(parts, TRAIN, HELD, PLAN, 3, path, kill)
    lines = []
    again = net(7)
    assert fit_pictures(again, TRAIN, HELD, PLAN, 3, path, lines.append) == expected
    assert len(lines) == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    with pytest.raises(Misconfigured, match="of another fit"):
        fit_pictures(net(), TRAIN, HELD, PLAN, 4, path)
    with pytest.raises(Misconfigured, match="of another fit"):
        fit_pictures(net(), HELD, HELD, PLAN, 3, path)
    with pytest.raises(Misconfigured, match="of another fit"):  # the same pictures, with labels that were corrected
        fit_pictures(net(), *(one._replace(targets=one.targets.flip(1)) for one in (TRAIN, HELD)), PLAN, 3, path)


@pytest.mark.usefixtures("on_the_processor")
def test_a_damaged_checkpoint_and_a_full_disk_are_named(tmp_path):
    path, once = tmp_path / "fit.pt", replace(PLAN, epochs=1)
    fit_pictures(net(), TRAIN, HELD, once, 3, path)
    before = path.read_bytes()
    for damaged in (before[:500], b"", b"no checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(Misconfigured, match=r"fit\.pt: is a checkpoint that cannot be read"):
            fit_pictures(net(), TRAIN, HELD, once, 3, path)
    path.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(Misconfigured, match=r"fit\.pt: could not be written"):
            fit_pictures(net(), TRAIN, HELD, once, 3, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_one_class_teaches_nothing():
    only = PictureExamples(TRAIN.pictures, torch.eye(2)[torch.zeros(96, dtype=torch.int64)])
    with pytest.raises(Misconfigured, match="all of one class"):
        fit_pictures(net(), only, HELD, PLAN, 3)


SCORES = st.lists(st.floats(-8, 8), min_size=3, max_size=3)


@given(SCORES, st.sets(st.integers(0, 2), min_size=1))
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_label_that_leaves_a_choice_costs_what_its_classes_lack(scores, classes):
    probability = np.exp(scores) / np.exp(scores).sum()
    target = torch.tensor([[float(k in classes) for k in range(3)]])
    expected = -np.log(probability[list(classes)].sum())
    found = float(picture_loss(torch.tensor([scores]), target)[0])
    assert found == pytest.approx(expected, abs=1e-5)


@given(SCORES, st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
@hypothesis_settings(max_examples=60, deadline=None)
def test_votes_cost_their_cross_entropy(scores, votes):
    shares = np.array(votes) / sum(votes)
    expected = -(shares * (scores - np.log(np.exp(scores).sum()))).sum()
    found = float(picture_loss(torch.tensor([scores]), torch.tensor(shares[None], dtype=torch.float32))[0])
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_all_classes_weigh_the_same():
    targets = torch.tensor([[1.0, 0, 0, 0]] * 6 + [[0, 1.0, 0, 0]] * 2 + [[0.5, 0.5, 0, 0]] * 2 + [[0, 0, 1.0, 0]])
    weights = class_weights(targets)
    assert weights[3] == 0
    shares = targets.sum(0)
    np.testing.assert_allclose((weights * shares)[:3], (weights * shares)[0], rtol=1e-5)
    assert float((targets * weights).sum() / len(targets)) == pytest.approx(1.0, rel=1e-5)


def test_the_loss_of_a_pass_is_the_mean_of_its_pictures():
    fitted = _Fit(net(), TRAIN, HELD, PLAN, 3)
    losses, own = [], fitted._loss

    def kept(batch, *others):
        loss = own(batch, *others)
        losses.append((float(loss.detach()), len(batch.targets)))
        return loss

    fitted._loss = kept
    epoch = fitted.step()
    assert sum(count for _, count in losses) == 96
    assert epoch.loss == pytest.approx(sum(loss * count for loss, count in losses) / 96, rel=1e-6)
