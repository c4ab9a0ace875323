"""z-scores of a batch of windows in numpy, for the ways that get their windows from a strided view."""

import numpy as np
import torch

BATCH = 1024


def score_view(windows, seen, net):
    """Score strided windows 1,024 at a time.

    ``windows`` (rows, columns, side, side) float32, filled where it does not count; ``seen`` the same, bool. Gives
    (rows * columns,) log odds, minus infinity where a window is not scored.
    """
    rows, columns = windows.shape[:2]
    logits = np.empty(rows * columns, np.float32)
    with torch.inference_mode():
        for start in range(0, len(logits), BATCH):
            row, column = np.divmod(np.arange(start, min(start + BATCH, len(logits))), columns)
            batch, scored = standardise(windows[row, column], seen[row, column])
            scores = net(torch.from_numpy(batch[:, None])).numpy()
            logits[start : start + len(row)] = np.where(scored, scores[:, 1] - scores[:, 0], -np.inf)
    return logits


def standardise(windows, seen):
    """Return windows (n, side, side) z-scored over the pixels ``seen``, and which of them can be scored."""
    count = np.maximum(seen.sum((1, 2), keepdims=True, dtype=np.float32), 1)
    centred = windows - (windows * seen).sum((1, 2), keepdims=True) / count
    std = np.sqrt((np.square(centred) * seen).sum((1, 2), keepdims=True) / count)
    enough = 2 * count[:, 0, 0] >= seen.shape[1] * seen.shape[2]
    return centred / np.where(std > 0, std, np.float32(1)), enough & (std[:, 0, 0] > 0)


def filled(pixels):
    """Return the image of one band, with the background where a pixel does not count."""
    return np.where(pixels.usable, pixels.image[0], np.float32(pixels.background))
