"""Search windows looked at one by one, on a torch device."""

import torch

from kernels.windows import FLAT


def single_windows(
    image: torch.Tensor, usable: torch.Tensor, background: float, origin: tuple[torch.Tensor, torch.Tensor], side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut windows out and z-score them in float64 and in two passes, by the rules of `kernels.windows.fill_windows`.

    Parameters
    ----------
    image : (bands, ny, nx) float32
        Pixels.
    usable : (ny, nx) bool
        Pixels that count.
    background
        What stands in for those that do not.
    origin : two of (n,) int64
        y and x of the first pixel of each window.
    side
        Of the windows, pixels.

    Returns
    -------
    windows : (n, bands, side, side) float32
        Zero where not ``scored``.
    scored : (n,) bool
        In every band the usable pixels have spread.
    """
    y, x = origin
    good = usable.unfold(0, side, 1).unfold(1, side, 1)[y, x][:, None]
    raw = image.unfold(1, side, 1).unfold(2, side, 1)[:, y, x].movedim(0, 1).double()
    values = torch.where(good, raw, 0.0)
    count = good.sum((2, 3), keepdim=True).clamp_min(1)
    mean = values.sum((2, 3), keepdim=True) / count
    centred = torch.where(good, raw, background) - mean
    std = (torch.where(good, centred, 0.0).square().sum((2, 3), keepdim=True) / count).sqrt()
    spread = (std > FLAT * values.abs().amax((2, 3), keepdim=True)).all(1, keepdim=True)
    windows = torch.where(spread, centred / std, 0.0).float()
    return windows, spread.flatten()
