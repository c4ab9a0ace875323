"""The search as one would first write it: what every speed is compared with."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.bench.pixels import Pixels
from kernels.nets.basic_cnn import BasicCnn

BATCH = 64


def plain_logits(pixels: Pixels, net: BasicCnn) -> NDArray[np.float32]:
    """Loop over windows, z-score each with numpy, and send batches of 64 through the network.

    Parameters
    ----------
    pixels
        What to search.
    net
        In evaluation mode.

    Returns
    -------
    (windows,) float32
        Log odds; minus infinity where a window is not scored. The rules are those of `kernels.windows.fill_windows`.
    """
    rows, columns = pixels.grid
    logits = np.full(rows * columns, -np.inf, np.float32)
    batch: list[NDArray[np.float32]] = []
    places: list[int] = []
    for row in range(rows):
        for column in range(columns):
            window = _standardised(pixels, row * pixels.stride, column * pixels.stride, net.side)
            if window is None:
                continue
            batch.append(window)
            places.append(row * columns + column)
            if len(batch) == BATCH:
                logits[places] = _scores(net, batch)
                batch, places = [], []
    if batch:
        logits[places] = _scores(net, batch)
    return logits


def _standardised(pixels: Pixels, y: int, x: int, side: int) -> NDArray[np.float32] | None:
    window: NDArray[np.float32] = pixels.image[:, y : y + side, x : x + side]
    good = pixels.usable[y : y + side, x : x + side]
    if good.all():
        mean, std = window.mean((1, 2), np.float64), window.std((1, 2), np.float64)
    elif 2 * int(good.sum()) >= good.size:
        values = window[:, good]
        mean, std = values.mean(1, np.float64), values.std(1, np.float64)
        window = np.where(good, window, np.float32(pixels.background))
    else:
        return None
    if not (std > 0).all():
        return None
    scaled: NDArray[Any] = (window - mean[:, None, None]) / std[:, None, None]
    return scaled.astype(np.float32)


def _scores(net: BasicCnn, batch: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    with torch.inference_mode():
        scores = net(torch.from_numpy(np.stack(batch)))
        return (scores[:, 1] - scores[:, 0]).numpy()
