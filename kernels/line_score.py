"""The classical matched filter's score of a candidate: its S/N alone."""

from functools import lru_cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.bell import FAST
from kernels.line_bank import FRAMES, LENGTHS, STEPS, line_bank, middle_pixels
from kernels.line_peaks import Peaks
from kernels.plane import Plane
from schemas.settings import NOISE_ALONE


def line_score(plane: Plane, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float32]:
    """Give candidates the log odds of a trail against noise alone.

    Parameters
    ----------
    plane, snr, peaks
        See `kernels.candidate_search.Judge`.

    Returns
    -------
    (n,) float32
        (S/N^2 - 5.77^2) / 2, with the S/N of the best line about the middle, nothing clipped.

    Notes
    -----
    In Gaussian noise the best-fitting trail is exp(S/N^2 / 2) times as likely as none; the odds are even at the S/N
    that noise alone reaches once per image. Of noise alone: cosmic rays and stars that do not subtract reach any S/N.
    """
    scale = line_bank(plane.fwhm_px, plane.correlation).scale.ravel()
    best = np.empty(len(peaks.y), np.float64)
    _best(snr, peaks.y, peaks.x, scale, *_pixels(), best)
    return (0.5 * (np.sign(best) * best**2 - NOISE_ALONE**2)).astype(np.float32)


@lru_cache(maxsize=1)
def _pixels() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give steps (dx, dy) of all lines, (codes, longest, 2), and their numbers of pixels, (codes,)."""
    count = np.tile(LENGTHS, len(FRAMES) * (STEPS + 1))
    steps = np.zeros((len(count), int(LENGTHS[-1]), 2), np.int64)
    for code, length in enumerate(count.tolist()):
        frame, rise = divmod(code // len(LENGTHS), STEPS + 1)
        steps[code, :length] = np.stack(middle_pixels(frame, rise, length), 1)
    return steps, count


@njit(**FAST, parallel=True)
def _best(
    snr: NDArray[np.float32],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    scale: NDArray[np.float32],
    steps: NDArray[np.int64],
    count: NDArray[np.int64],
    best: NDArray[np.float64],
) -> None:
    for n in prange(y.shape[0]):
        most = -np.inf
        for code in range(scale.shape[0]):
            if scale[code] == 0:
                continue
            total = 0.0
            for k in range(count[code]):
                i, j = x[n] + steps[code, k, 0], y[n] + steps[code, k, 1]
                if 0 <= i < snr.shape[1] and 0 <= j < snr.shape[0]:
                    total += snr[j, i]
            most = max(most, total * scale[code])
        best[n] = most
