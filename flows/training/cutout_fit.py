"""Fit of a network to cutouts, with early stopping."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.training.fits import turned
from schemas.errors import Misconfigured

Inputs = tuple[torch.Tensor, ...]
"""Inputs of a network, with cutouts along the first axis; the first input are pictures, (…, side, side)."""

Change = Callable[[Inputs, torch.Generator], Inputs]


@dataclass(frozen=True)
class CutoutFit:
    """Settings of the fit.

    Attributes
    ----------
    epochs, patience
        Largest number of passes; passes without a lower validation loss after which the fit ends.
    batch, rate, decay
        Cutouts per step, AdamW's peak learning rate and weight decay.
    """

    epochs: int = 20
    patience: int = 6
    batch: int = 64
    rate: float = 2e-3
    decay: float = 1e-3


@dataclass(frozen=True)
class CutoutEpoch:
    """Mean loss and accuracy of one pass on the training and on the validation cutouts."""

    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


def fit_cutouts(
    net: nn.Module,
    train: tuple[Inputs, NDArray[np.int64]],
    validation: tuple[Inputs, NDArray[np.int64]],
    plan: CutoutFit,
    seed: int,
    change: Change = lambda inputs, _: inputs,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[CutoutEpoch, ...]:
    """Fit ``net`` in place, keep the weights of the best pass, and return its history.

    Parameters
    ----------
    net
        Network from the inputs to class scores (n, 2), or to a tuple that begins with log odds of class 1 (n,).
    train, validation
        Inputs and labels, 0 or 1; validation cutouts are from fields not used in training.
    plan
        Settings: AdamW with a one-cycle schedule. Both classes have equal weight.
    seed
        Seed of order, symmetries and ``change``.
    change
        Applied to each batch before it is learnt from.
    say
        Receives a message on each pass.

    Raises
    ------
    Misconfigured
        The training cutouts are all of one class.
    """
    inputs, label = train
    require_both(label)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    share = np.bincount(label, minlength=2)
    weight = torch.from_numpy((len(label) / (2 * share)).astype(np.float32))
    truth = torch.from_numpy(label)
    steps = max(1, len(label) // plan.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.rate, total_steps=plan.epochs * steps, pct_start=0.15
    )
    history: list[CutoutEpoch] = []
    best: dict[str, Any] = {}
    for number in range(plan.epochs):
        net.train()
        sums = np.zeros(2)
        for chosen in np.array_split(rng.permutation(len(label)), steps):
            part = torch.from_numpy(chosen)
            batch = tuple(one[part] for one in inputs)
            turn = int(rng.integers(8))
            batch = change((_turned(batch[0].float(), turn), *batch[1:]), generator)
            odds = log_odds(net(*batch))
            loss = _loss(odds, truth[part], weight)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            right = ((odds.detach() > 0) == (truth[part] == 1)).sum()
            sums += [float(loss.detach()) * len(part), float(right)]
        checked = apply(net, validation[0])
        held = torch.from_numpy(validation[1])
        epoch = CutoutEpoch(
            sums[0] / len(label),
            sums[1] / len(label),
            float(_loss(torch.from_numpy(checked), held, weight)),
            float(((checked > 0) == (validation[1] == 1)).mean()),
        )
        if not history or epoch.validation_loss < min(one.validation_loss for one in history):
            best = {name: value.clone() for name, value in net.state_dict().items()}
        history.append(epoch)
        say(
            f"pass {number + 1}: loss {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}, "
            f"accuracy {epoch.validation_accuracy:.4f}"
        )
        if number - int(np.argmin([one.validation_loss for one in history])) >= plan.patience:
            break
    net.load_state_dict(best)
    net.eval()
    return tuple(history)


def require_both(label: NDArray[np.int64]) -> None:
    """Raise `Misconfigured` unless both classes are present."""
    if len(found := np.unique(label)) < 2:
        problem = f"{len(label)} cutouts are all of class {found.tolist()}: nothing tells what the other looks like."
        raise Misconfigured("one_class", "training cutouts", problem, "give cutouts of stars and of galaxies.")


def apply(net: nn.Module, inputs: Inputs) -> NDArray[np.float32]:
    """Return the log odds of class 1, (n,)."""
    net.eval()
    with torch.inference_mode():
        parts = zip(*(torch.split(one, 512) for one in inputs), strict=True)
        return torch.cat([log_odds(net(part[0].float(), *part[1:])) for part in parts]).numpy()


def log_odds(scores: Any) -> torch.Tensor:
    """Return the log odds of class 1 from two class scores, or from a tuple that begins with log odds."""
    if isinstance(scores, tuple):
        return scores[0]
    return scores[:, 1] - scores[:, 0]


def _loss(odds: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(odds, truth.to(odds.dtype), weight[truth])


def _turned(pictures: torch.Tensor, symmetry: int) -> torch.Tensor:
    shape = pictures.shape
    return turned(pictures.reshape(shape[0], -1, *shape[-2:]), symmetry).reshape(shape)
