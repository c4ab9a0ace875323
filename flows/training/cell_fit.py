"""Fit a `StreakNet` to crops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from flows.training.cell_crops import CropPlan, draw_batches
from flows.training.examples import Example
from kernels.nets.streak_net import StreakNet

_SHOWN = 200  # batches between two reports


@dataclass(frozen=True)
class CellFit:
    """Batches, largest learning rate and weight decay of one round."""

    batches: int
    rate: float = 2e-3
    decay: float = 1e-3


def fit_cells(
    net: StreakNet,
    examples: Sequence[Example],
    crops: CropPlan,
    fit: CellFit,
    device: torch.device,
    say: Callable[[str], None],
) -> tuple[float, ...]:
    """Fit, in place; give the mean loss of every 200 batches.

    Parameters
    ----------
    net
        On ``device``.
    examples, crops
        What to learn from.
    fit
        AdamW (Loshchilov & Hutter 2019, ICLR) under a one-cycle schedule (Smith & Topin 2019, SPIE 11006).
    device
        Where to compute.
    say
        Told of the loss now and then.
    """
    batches = draw_batches(examples, crops)
    optimiser = torch.optim.AdamW(net.parameters(), lr=fit.rate, weight_decay=fit.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, fit.rate, total_steps=fit.batches, pct_start=0.1)
    net.train()
    losses, total, since = [], 0.0, 0
    for number in range(1, fit.batches + 1):
        cells, label, weight = (part.to(device, non_blocking=True) for part in next(batches))
        odds = net(cells)
        loss = (nn.functional.binary_cross_entropy_with_logits(odds, label, weight, reduction="sum")) / label.numel()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(100 * loss)
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        total, since = total + float(loss.detach()), since + 1
        if number % _SHOWN == 0 or number == fit.batches:
            losses.append(total / since)
            say(f"batch {number} of {fit.batches}: loss {losses[-1]:.5f}")
            total, since = 0.0, 0
    net.eval()
    return tuple(losses)
