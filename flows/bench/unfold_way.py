"""The search as torch offers it: `Tensor.unfold`, large batches."""

import numpy as np
import torch
from numpy.typing import NDArray

from flows.bench.pixels import Pixels
from kernels.nets.basic_cnn import BasicCnn

BATCH = 1024


def unfold_logits(pixels: Pixels, net: BasicCnn) -> NDArray[np.float32]:
    """Take windows from an unfolded view, z-score and score 1,024 at a time, all in torch.

    Parameters
    ----------
    pixels
        What to search.
    net
        In evaluation mode.

    Returns
    -------
    (windows,) float32
        As of `flows.bench.plain_way.plain_logits`.
    """
    rows, columns = pixels.grid
    side, stride = net.side, pixels.stride
    filled = np.where(pixels.usable, pixels.image, np.float32(pixels.background))
    view = torch.from_numpy(filled).unfold(1, side, stride).unfold(2, side, stride)
    seen = torch.from_numpy(pixels.usable).unfold(0, side, stride).unfold(1, side, stride)
    logits = torch.empty(rows * columns)
    with torch.inference_mode():
        for start in range(0, len(logits), BATCH):
            place = torch.arange(start, min(start + BATCH, len(logits)))
            row, column = place // columns, place % columns
            windows, scored = _standardised(view[:, row, column].transpose(0, 1), seen[row, column])
            scores = net(windows)
            logits[place] = torch.where(scored, scores[:, 1] - scores[:, 0], -torch.inf)
    return logits.numpy()


def _standardised(windows: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """z-score (n, bands, side, side) over the pixels ``seen`` (n, side, side); tell which windows can be scored."""
    weight = seen[:, None].float()
    count = weight.sum((2, 3), keepdim=True).clamp(min=1)
    centred = windows - (windows * weight).sum((2, 3), keepdim=True) / count
    std = ((centred.square() * weight).sum((2, 3), keepdim=True) / count).sqrt()
    enough = 2 * seen.sum((1, 2)) >= seen.shape[1] * seen.shape[2]
    return centred / torch.where(std > 0, std, 1.0), enough & (std > 0).flatten(1).all(1)
