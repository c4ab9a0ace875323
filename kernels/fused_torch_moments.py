"""Mean and standard deviation of every search window, on a torch device."""

from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d

from kernels.fused_statistics import HUGE, TINY
from kernels.windows import FLAT

FARTHEST_MEAN = 32.0
"""Windows whose mean lies farther from the background, in their own std, are scored one by one.

Float32 convolutions that windows share lose digits as the pedestal under a window grows. A pixel can lie up to
``side`` (26) std from the mean of its window anyway: up to 32, the pedestal adds no more error than such a pixel does.
"""


@dataclass(frozen=True)
class Moments:
    """Moments of windows over their usable pixels.

    Parameters
    ----------
    mean, std : (bands, rows, columns) float64
        Less the background; std with ddof 0. Not to be read where not ``shared``.
    enough : (rows, columns) bool
        Half of the window or more is usable.
    shared : (rows, columns) bool
        The float32 maps that windows share are good enough for this one. Where ``enough`` and not ``shared``, there may
        be no spread at all, or a large pedestal: such windows are to be looked at one by one.
    """

    mean: torch.Tensor
    std: torch.Tensor
    enough: torch.Tensor
    shared: torch.Tensor


def window_moments(pixels: torch.Tensor, usable: torch.Tensor, background: float, side: int, stride: int) -> Moments:
    """Measure the windows of an image.

    Parameters
    ----------
    pixels : (bands, ny, nx) float64
        Less the background, zero where not usable.
    usable : (ny, nx) bool
        Pixels that count.
    background
        That was taken off, in the unit of the pixels.
    side, stride
        Of the windows, pixels.

    Returns
    -------
    moments
        Of as many windows as fit into the image.

    Notes
    -----
    Sums over boxes, not running sums: each window is summed in the same order wherever it lies, so that its moments do
    not depend on the tiling, and one bright pixel costs no digits elsewhere. What cancels between the mean of the
    squares and the square of the mean, 1e-16 (mean / std)^2, is nothing up to `FARTHEST_MEAN`.
    """
    count = _box_sums(usable.double()[None], side, stride)
    weight = count.clamp_min(1.0).reciprocal()
    mean = _box_sums(pixels, side, stride) * weight
    std = (_box_sums(pixels.square(), side, stride) * weight - mean.square()).clamp_min(0.0).sqrt()
    enough = 2 * count[0] >= side * side
    largest = abs(background) + mean.abs() + side * std  # no pixel of the window is larger
    # Float32 holds the scaled maps of stds within these bounds, whatever the weights.
    fine = (std > FLAT * largest) & (mean.abs() <= FARTHEST_MEAN * std) & (std > TINY) & (std < HUGE)
    return Moments(mean, std, enough, enough & fine.all(0))


def _box_sums(planes: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    """Sum windows up, (n, ny, nx) -> (n, rows, columns): down first, then across, 2 * side additions each."""
    down = avg_pool2d(planes, (side, 1), (stride, 1), divisor_override=1)
    return avg_pool2d(down, (1, side), (1, stride), divisor_override=1)
