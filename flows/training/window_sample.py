"""Windows to learn from: at streaks, and away from everything real."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.matching import LEAST_VISIBLE, segment_distance
from kernels.windows import fill_windows

SIDE = 26
LEAST_SNR = 4.0
"""Fainter streaks are noise to a window: they teach nothing."""
CLEARANCE_PX = 24.0
"""From the centre of an empty window to the axis of anything real: beyond the window's corner and a PSF."""


def streak_corners(truth: pa.Table, shape: tuple[int, int], per_streak: int, seed: int) -> NDArray[np.int64]:
    """Draw first pixels of windows that hold a good part of a streak.

    Parameters
    ----------
    truth
        `TRUTH` rows of the image; streaks below S/N 4 or less than half visible are left out.
    shape
        (ny, nx) of the image, px.
    per_streak
        Windows per streak.
    seed
        Of the draw.

    Returns
    -------
    (n, 2) int64
        (y0, x0). A window is centred on a point of the trail, uniform along it, give or take 8 px in x and y.
    """
    rng = np.random.default_rng(seed)
    is_streak = np.array(truth["kind"].to_pylist(), dtype=np.str_) == "streak"
    x, y, length, angle, snr, visible = (
        truth[name].to_numpy() for name in ("x", "y", "length_px", "angle_deg", "snr", "visible")
    )
    chosen = np.flatnonzero(is_streak & (snr >= LEAST_SNR) & (visible >= LEAST_VISIBLE))
    index = np.repeat(chosen, per_streak)
    # A window must hold more than a trail's tip: stay 6 px inside the ends of a long one.
    along = rng.uniform(-0.5, 0.5, len(index)) * np.maximum(length[index] - 12, 0)
    direction = np.radians(angle[index])
    jitter = rng.uniform(-8, 8, (2, len(index)))
    centre_y = y[index] + along * np.sin(direction) + jitter[1]
    centre_x = x[index] + along * np.cos(direction) + jitter[0]
    corners = np.round(np.stack([centre_y, centre_x], 1) - (SIDE - 1) / 2).astype(np.int64)
    inside: NDArray[np.bool_] = np.all((corners >= 0) & (corners <= np.subtract(shape, SIDE)), axis=1)
    return corners[inside]


def empty_corners(truth: pa.Table, shape: tuple[int, int], count: int, seed: int) -> NDArray[np.int64]:
    """Draw first pixels of windows that hold nothing real.

    Parameters
    ----------
    truth, shape, seed
        See `streak_corners`.
    count
        Windows to draw; fewer come back, since those near a source are dropped.

    Returns
    -------
    (n, 2) int64
        (y0, x0).
    """
    rng = np.random.default_rng(seed)
    corners = np.stack([rng.integers(0, shape[0] - SIDE + 1, count), rng.integers(0, shape[1] - SIDE + 1, count)], 1)
    return corners[away(truth, corners)]


def away(truth: pa.Table, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which windows keep their centre 24 px from the axis of every real source, (n, 2) -> (n,)."""
    y, x = (corners + (SIDE - 1) / 2).T
    clear = np.ones(len(corners), bool)
    for x0, y0, length, angle in zip(
        *(truth[name].to_numpy() for name in ("x", "y", "length_px", "angle_deg")), strict=True
    ):
        clear &= segment_distance(x, y, x0, y0, length, angle) > CLEARANCE_PX
    return clear


def cut_windows(
    image: NDArray[np.float32], usable: NDArray[np.bool_], background: float, corners: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Cut and z-score windows as the search does; those that cannot be scored are left out, -> (n, 1, 26, 26)."""
    out = np.empty((len(corners), 1, SIDE, SIDE), np.float32)
    kept = np.zeros(len(corners), bool)
    for n, (y0, x0) in enumerate(corners):
        box = (slice(y0, y0 + SIDE), slice(x0, x0 + SIDE))
        pixels, good = np.ascontiguousarray(image[box])[None], np.ascontiguousarray(usable[box])
        kept[n] = fill_windows(pixels, good, background, (1, 1), 1, 0, out[n : n + 1])[1][0]
    return out[kept]
