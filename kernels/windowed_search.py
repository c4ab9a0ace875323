"""Log odds of every window of an image, window by window: for networks that the fused search does not know."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.windows import fill_windows, require_on_image


@dataclass(frozen=True)
class WindowedSearch:
    """Search that fills batches of windows.

    Parameters
    ----------
    score
        Maps (batch, bands, side, side) float32 windows to (batch,) log odds.
    side
        Of a window, pixels.
    batch
        Windows per call.
    """

    score: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    side: int
    batch: int

    def search(
        self,
        image: NDArray[np.float32],
        usable: NDArray[np.bool_],
        background: float,
        grid: tuple[int, int],
        stride: int,
    ) -> tuple[NDArray[np.float32], int]:
        """Give the log odds of every window, and how many could not be scored; see `FusedSearch.search`."""
        require_on_image(image.shape, grid, stride, self.side)
        good = usable & np.isfinite(image).all(0)
        batch = np.empty((self.batch, len(image), self.side, self.side), np.float32)
        logits = np.empty(grid[0] * grid[1], np.float32)
        unscored = 0
        for start in range(0, len(logits), self.batch):
            count, scored = fill_windows(image, good, background, grid, stride, start, batch)
            # The whole batch, also its empty rest: equal sizes give equal bits whatever the tiling.
            found = self.score(batch) if scored.any() else np.zeros(self.batch, np.float32)
            logits[start : start + count] = np.where(scored, found, -np.inf)[:count]
            unscored += count - int(scored[:count].sum())
        return logits, unscored
