"""Search of an image in batches of z-scored windows."""

from collections.abc import Callable
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

MARGIN = 0.125
"""Distance below the floor to which log odds in bfloat16 are computed again in float32: eight times the largest error
seen near the floor, on simulated exposures with the shipped weights."""

FLAT = 1.2e-7
"""Standard deviation, relative to the largest value, that counts as zero: float32 pixels cannot resolve it."""


def fill_windows(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    grid: tuple[int, int],
    stride: int,
    start: int,
    out: NDArray[np.float32],
) -> tuple[int, NDArray[np.bool_]]:
    """Write windows ``start``, ``start + 1``, ... of the grid, z-scored, into ``out``.

    The caller reuses ``out`` for each batch, so the windows of an image (515 MB for a ZTF quadrant) are never all in
    memory.

    Parameters
    ----------
    image : (bands, ny, nx) float32
        Pixels, any unit. Values under ``~usable`` are not read.
    usable : (ny, nx) bool
        Pixels that count, the same for all bands.
    background
        Value that replaces pixels that do not count, in the unit of ``image``.
    grid
        Rows and columns of windows. Window n starts at pixel (n // columns * stride, n % columns * stride).
    stride
        Step between windows, pixels.
    start
        First window to write.
    out : (batch, bands, window, window) float32
        Receives the windows; the rest of the batch after the last window is set to zero.

    Returns
    -------
    count : int
        Windows written.
    scored : (batch,) bool
        False if more than half of the window is unusable or, in any band, the usable pixels have no spread; such
        windows are zero.

    Notes
    -----
    Per window and band z = (value - mean) / std, with mean and std (ddof 0) over the usable pixels, in float64 and two
    passes, so a pedestal of 10,000 on noise of 5 costs no digits. "No spread" means a std that float32 pixels of that
    size cannot resolve.
    """
    count = min(out.shape[0], grid[0] * grid[1] - start)
    scored = np.zeros(out.shape[0], np.bool_)
    out[count:] = 0.0
    _fill(image, usable, np.float32(background), grid[1], stride, start, count, out, scored)
    return count, scored


def require_on_image(shape: tuple[int, ...], grid: tuple[int, int], stride: int, side: int) -> None:
    """Check that the windows of a grid lie on an image of (..., ny, nx); compiled code would read beyond it.

    Raises
    ------
    ValueError
        A window is not on the image.
    """
    ends = tuple((count - 1) * stride + side for count in grid)
    if all(grid) and any(end > pixels for end, pixels in zip(ends, shape[-2:], strict=True)):
        raise ValueError(f"a grid of {grid} windows of {side} px at stride {stride} does not fit {shape[-2:]} pixels")


@nb.njit(parallel=True, cache=True)
def _fill(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    columns: int,
    stride: int,
    start: int,
    count: int,
    out: NDArray[np.float32],
    scored: NDArray[np.bool_],
) -> None:
    window = out.shape[2]
    for n in nb.prange(count):
        y0 = (start + n) // columns * stride
        x0 = (start + n) % columns * stride
        good = 0
        for y in range(y0, y0 + window):
            for x in range(x0, x0 + window):
                good += usable[y, x]
        fine = 2 * good >= window * window
        for band in range(image.shape[0]):
            fine = fine and _standardise(image[band], usable, background, y0, x0, good, out[n, band])
        if not fine:
            out[n] = 0.0
        scored[n] = fine


@nb.njit(cache=True)
def _standardise(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    y0: int,
    x0: int,
    good: int,
    out: NDArray[np.float32],
) -> bool:
    window = out.shape[0]
    total, largest = 0.0, 0.0
    for y in range(window):
        for x in range(window):
            if usable[y0 + y, x0 + x]:
                value = np.float64(image[y0 + y, x0 + x])
                total += value
                largest = max(largest, abs(value))
    mean = total / good
    square = 0.0
    for y in range(window):
        for x in range(window):
            if usable[y0 + y, x0 + x]:
                square += (np.float64(image[y0 + y, x0 + x]) - mean) ** 2
    std = np.sqrt(square / good)
    if std <= FLAT * largest:
        return False
    for y in range(window):
        for x in range(window):
            value = np.float64(image[y0 + y, x0 + x]) if usable[y0 + y, x0 + x] else np.float64(background)
            out[y, x] = (value - mean) / std
    return True


@dataclass(frozen=True)
class WindowedSearch:
    """Search that fills batches of windows.

    Parameters
    ----------
    score
        Function from (batch, bands, side, side) float32 windows to (batch,) log odds.
    side
        Side of a window, pixels.
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
        """Return the log odds of every window, and the number without a score; see `FusedSearch.search`."""
        require_on_image(image.shape, grid, stride, self.side)
        good = usable & np.isfinite(image).all(0)
        batch = np.empty((self.batch, len(image), self.side, self.side), np.float32)
        logits = np.empty(grid[0] * grid[1], np.float32)
        unscored = 0
        for start in range(0, len(logits), self.batch):
            count, scored = fill_windows(image, good, background, grid, stride, start, batch)
            # Score the whole batch, including its empty rest: equal sizes give equal bits whatever the tiling.
            found = self.score(batch) if scored.any() else np.zeros(self.batch, np.float32)
            logits[start : start + count] = np.where(scored, found, -np.inf)[:count]
            unscored += count - int(scored[:count].sum())
        return logits, unscored
