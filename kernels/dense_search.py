"""Log odds of every cell of an image, by a `StreakNet`."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.dense_input import RADIUS, dense_input
from kernels.fused_dense import Precision
from kernels.nets.streak_net import CELL, StreakNet
from kernels.plane import Places, Plane
from kernels.windows import require_on_image
from schemas.model_card import ModelCard
from schemas.search_grid import SearchGrid

_CLAIM = 16  # px: a cell lights up within 3 px of a trail, or a little farther from a bright one
_CORE = 126
"""Cells along the side of a block: half a tile of 1008 px, so that nothing is left over, and small enough for the
processor's cache."""


@dataclass(frozen=True)
class DenseSearch:
    """Search of all cells of an image.

    Parameters
    ----------
    net
        The network, in evaluation mode, on ``device``, in float32 or bfloat16.
    device
        Where it lies.
    card
        What is known of its weights.
    """

    net: StreakNet
    device: torch.device
    card: ModelCard

    @property
    def precision(self) -> Precision:
        """Of weights and activations, the network's own. bfloat16 keeps 8 bits; log odds move by some hundredths."""
        return "bfloat16" if self._type == torch.bfloat16 else "float32"

    @property
    def _type(self) -> torch.dtype:
        return self.net.first.weight.dtype

    @property
    def grid(self) -> SearchGrid:
        """Where its cells lie."""
        return dense_grid(self.net.reach)

    def search(self, plane: Plane, places: Places) -> tuple[NDArray[np.float32], int]:
        """Give the log odds of every cell, and how many could not be scored.

        Parameters
        ----------
        plane
            Pixels of the cells and ``grid.reach`` px around them, as far as the image goes.
        places
            The cells; their stride is `CELL`.

        Returns
        -------
        logits : (rows * columns,) float32
            -inf for cells without a usable pixel.
        unscored : int
            How many those are.

        Raises
        ------
        ValueError
            The cells do not lie on the plane.

        Notes
        -----
        On the processor, a cell's log odds do not depend, to the bit, on the part of the image that is searched with it
        or on the number of threads: every block has the same size, whatever is left of the image, and is computed by
        one thread (several that share a convolution add up in another order), without padding (`StreakNet.inside`).
        """
        y, x, rows, columns, _ = places
        require_on_image(plane.pixels[None, y:, x:].shape, (rows, columns), CELL, CELL)
        halo = self.net.reach
        side = _CORE + 2 * halo
        tall, wide = (_whole(count, _CORE) for count in (rows, columns))
        cells = dense_input(plane, y - halo * CELL, x - halo * CELL, tall + 2 * halo, wide + 2 * halo)
        logits = np.empty((tall, wide), np.float32)
        channels = torch.from_numpy(cells).permute(2, 0, 1)[None]

        def score(top: int, left: int) -> None:
            with torch.inference_mode():
                block = channels[:, :, top : top + side, left : left + side].to(self.device, self._type)
                logits[top : top + _CORE, left : left + _CORE] = self.net.inside(block)[0].float().cpu().numpy()

        corners = [(top, left) for top in range(0, tall, _CORE) for left in range(0, wide, _CORE)]
        _share_out(score, corners, torch.get_num_threads() if self.device.type == "cpu" else 1)
        hidden = cells[halo : halo + rows, halo : halo + columns, 2 * CELL**2 :].all(2)
        scored = np.where(hidden, np.float32(-np.inf), logits[:rows, :columns])
        return scored.ravel(), int(hidden.sum())


def dense_grid(reach: int) -> SearchGrid:
    """Give the grid of a `StreakNet` that looks ``reach`` cells far."""
    return SearchGrid(CELL, CELL, reach * CELL + RADIUS, _CLAIM)


def _share_out(work: Callable[[int, int], None], corners: Sequence[tuple[int, int]], threads: int) -> None:
    """Do the work at all corners, on so many threads; each of them is torch's only one."""
    if threads < 2:
        for corner in corners:
            work(*corner)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, *zip(*corners, strict=True)))
    finally:
        # Threads that are new to torch take the number that was set last, whoever set it.
        torch.set_num_threads(threads)


def _whole(count: int, step: int) -> int:
    return -(-count // step) * step
