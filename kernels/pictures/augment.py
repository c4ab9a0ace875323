"""Random changes of pictures that leave what they show the same; for training alone."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class Augment:
    """How far pictures are changed.

    Attributes
    ----------
    turn
        Largest angle, degrees; 180 for what has no up and down.
    zoom
        Largest factor of size, up or down.
    shift
        Largest shift, as a share of half the side.
    gain, tint
        Standard deviations of the log of the brightness, of all planes and of each by itself.
    noise
        Standard deviation of the largest noise that is added, of the full range.
    """

    turn: float = 180.0
    zoom: float = 1.25
    shift: float = 0.1
    gain: float = 0.15
    tint: float = 0.08
    noise: float = 0.02


def augmented(pictures: torch.Tensor, how: Augment, generator: torch.Generator) -> torch.Tensor:
    """Return pictures turned, mirrored, zoomed, shifted, brightened, tinted and with noise, each in its own way.

    Parameters
    ----------
    pictures : (n, planes, side, side)
        From 0 to 1.
    how, generator
        How far, and of the draws; on the device of the pictures.
    """
    count, planes = pictures.shape[:2]
    draw: dict[str, Any] = {"generator": generator, "device": pictures.device}

    def uniform(most: float) -> torch.Tensor:
        return (2 * torch.rand(count, **draw) - 1) * most

    turn, size = uniform(math.radians(how.turn)), torch.exp(uniform(math.log(how.zoom)))
    mirror = torch.where(torch.rand(count, **draw) < 0.5, 1.0, -1.0)
    c, s = torch.cos(turn) * size, torch.sin(turn) * size
    first, second = (c * mirror, -s, uniform(how.shift)), (s * mirror, c, uniform(how.shift))
    grid = affine_grid(
        torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1), list(pictures.shape), align_corners=False
    )
    moved = grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    gain = how.gain * torch.randn(count, 1, 1, 1, **draw)
    tint = how.tint * torch.randn(count, planes, 1, 1, **draw)
    level = how.noise * torch.rand(count, 1, 1, 1, **draw)
    noisy = moved * torch.exp(gain + tint) + level * torch.randn(moved.shape, **draw)
    return noisy.clamp(0, 1)
