"""Fit the network that judges what boosted trees leave."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kernels.nets.candidate_cnn import CandidateCnn

_POSITIVE = 2.0  # weight of a streak in the loss


class Cutouts(NamedTuple):
    """Cutouts (n, CHANNELS, WIDE, LONG) float16, shape features (n, features) float32 and labels (n,) 0 or 1."""

    pictures: NDArray[np.float16]
    features: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class NetFit:
    """Passes over the examples, examples at a time, largest learning rate, weight decay."""

    epochs: int = 8
    batch: int = 128
    rate: float = 3e-3
    decay: float = 1e-3


def fit_net(data: Cutouts, plan: NetFit, seed: int, say: Callable[[str], None]) -> CandidateCnn:
    """Fit a network to cutouts, mirrored at random along and across their lines.

    AdamW (Loshchilov & Hutter 2019, ICLR) under a one-cycle schedule (Smith & Topin 2019, SPIE 11006).
    """
    torch.manual_seed(seed)
    net = CandidateCnn(data.features.shape[1])
    net.mean.copy_(torch.from_numpy(data.features.mean(0)))
    net.scale.copy_(torch.from_numpy(data.features.std(0) + 1e-3))
    steps = len(data.label) // plan.batch or 1
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=steps * plan.epochs, pct_start=0.2)
    net.train()
    rng = np.random.default_rng(seed)
    for epoch in range(plan.epochs):
        order, total = rng.permutation(len(data.label)), 0.0
        for step in range(steps):
            chosen = order[step * plan.batch : (step + 1) * plan.batch]
            loss: Any = _loss(net, data, chosen, rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        say(f"epoch {epoch + 1} of {plan.epochs}: loss {total / steps:.4f}")
    return net.eval()


def _loss(net: CandidateCnn, data: Cutouts, chosen: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
    pictures = data.pictures[chosen].astype(np.float32)
    for axis in (2, 3):
        mirrored = rng.uniform(size=len(chosen)) < 0.5
        pictures[mirrored] = np.flip(pictures[mirrored], axis)
    label = torch.from_numpy(data.label[chosen].astype(np.float32))
    odds = net(torch.from_numpy(pictures), torch.from_numpy(data.features[chosen]))
    weight = 1 + (_POSITIVE - 1) * label
    return nn.functional.binary_cross_entropy_with_logits(odds, label, weight)
