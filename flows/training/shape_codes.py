"""Training of a network on the shapes of simulated galaxies, whose codes also describe real ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from flows.runtime.parallel import map_in_processes
from flows.simulation.galaxy_pictures import LEVELS, GalaxyShape, drawn_shape, galaxy_picture
from kernels.pictures.augment import Augment, augmented
from kernels.pictures.compact_net import PictureNet
from kernels.pictures.picture_model import squared

Say = Callable[[str], None]

_SHAPE = ("radius", "ratio", "bulge", "arms")

OUTPUTS = len(LEVELS) + len(_SHAPE)
"""Number of outputs: scores of the levels, then the shape in units of its spread."""


@dataclass(frozen=True)
class CodesPlan:
    """Number of simulated galaxies, passes over them, batch size, largest learning rate, and weight decay."""

    galaxies: int = 6400
    epochs: int = 30
    batch: int = 64
    rate: float = 2e-3
    decay: float = 1e-2


def simulated_galaxies(
    count: int, crop: float, side: int, seed: int, workers: int
) -> tuple[torch.Tensor, list[GalaxyShape]]:
    """Return pictures of simulated galaxies, (n, 3, side, side) uint8, cycling through the levels, and their shapes."""
    found = list(map_in_processes(partial(_simulated, crop, side, seed), range(count), workers))
    return torch.from_numpy(np.stack([one for one, _ in found])), [shape for _, shape in found]


def _simulated(crop: float, side: int, seed: int, number: int) -> tuple[NDArray[np.uint8], GalaxyShape]:
    rng = np.random.default_rng([seed, number])
    shape = drawn_shape(number % len(LEVELS), rng)
    return squared(galaxy_picture(shape, rng), crop, side).numpy(), shape


def fit_shape_codes(
    pictures: torch.Tensor, shapes: list[GalaxyShape], plan: CodesPlan, seed: int, say: Say
) -> PictureNet:
    """Fit a network to the level of detail, radius, axis ratio, bulge and arms of simulated galaxies.

    Parameters
    ----------
    pictures : (n, 3, side, side) uint8
        Pictures of the galaxies.
    shapes
        Shapes of the galaxies.
    plan, seed
        Settings; seed of weights, order and changes.
    say
        Receives a line on each pass.
    """
    torch.manual_seed(seed)
    net, generator = PictureNet(classes=OUTPUTS), torch.Generator().manual_seed(seed)
    level = torch.tensor([one.level for one in shapes])
    shape = torch.tensor([[getattr(one, name) for name in _SHAPE] for one in shapes], dtype=torch.float32)
    shape = (shape - shape.mean(0)) / shape.std(0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    steps = max(1, len(pictures) // plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=plan.epochs * steps)
    how = Augment(zoom=1.001, shift=0.05)
    net.train()
    for number in range(plan.epochs):
        total = 0.0
        for chosen in torch.tensor_split(torch.randperm(len(pictures), generator=generator), steps):
            given = net(augmented(pictures[chosen].float() / 255, how, generator))
            loss = cross_entropy(given[:, : len(LEVELS)], level[chosen])
            loss = loss + ((given[:, len(LEVELS) :] - shape[chosen]) ** 2).mean()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        say(f"shapes, pass {number + 1} of {plan.epochs}: loss {total / len(pictures):.4f}")
    return net.eval()
