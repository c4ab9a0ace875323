"""Matched-filter search: candidates from a bank of trails, with the log odds of a trail against pure noise."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.image.gaussian import FAST
from kernels.image.search_image import Places, SearchImage
from kernels.search.line_peaks import PEAK_REACH, line_peaks
from kernels.search.line_search import (
    CLIP,
    FRAMES,
    LENGTHS,
    STEPS,
    Peaks,
    best_lines,
    line_bank,
    middle_pixels,
    point_map,
)
from schemas.model_card import ModelCard
from schemas.pixels import SearchGrid
from schemas.settings import NOISE_ALONE

CELL = 4
"""Side of the cells for candidates, px."""

CANDIDATE_GRID = SearchGrid(CELL, CELL, PEAK_REACH + 2, 16)
"""A trail claims the cells within 8 px of its centre."""


@dataclass(frozen=True)
class MatchedFilterSearch:
    """Detector from the peaks of a bank of trails; it has no trained weights.

    Parameters
    ----------
    floor
        Least S/N of a candidate.
    card
        Model card.
    """

    floor: float
    card: ModelCard

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of its cells."""
        return CANDIDATE_GRID

    def search(self, plane: SearchImage, places: Places) -> tuple[NDArray[np.float32], int]:
        """Return the log odds of the best candidate centred in each cell.

        Parameters and errors are those of `kernels.search.detector.Detector.search`, with cells of stride `CELL`.

        Returns
        -------
        logits : (rows * columns,) float32
            -inf without a candidate. Log odds do not depend, to the bit, on the part of the image that is searched
            with a cell or on the number of threads.
        unscored : int
            Cells without a usable pixel.
        """
        y, x, rows, columns, _ = places
        cells = plane.usable[y : y + rows * CELL, x : x + columns * CELL]
        if cells.shape != (rows * CELL, columns * CELL):
            raise ValueError(
                f"{rows} x {columns} cells from pixel ({y}, {x}) on do not fit {plane.pixels.shape} pixels"
            )
        snr, peaks = find_candidates(plane, self.floor)
        row, column = (peaks.y - y) // CELL, (peaks.x - x) // CELL
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        logits = np.full((rows, columns), -np.inf, np.float32)
        np.maximum.at(logits, (row[inside], column[inside]), line_score(plane, snr, peaks.take(inside)))
        hidden = ~cells.reshape(rows, CELL, columns, CELL).any((1, 3))
        return logits.ravel(), int(hidden.sum())


def find_candidates(plane: SearchImage, floor: float) -> tuple[NDArray[np.float32], Peaks]:
    """Return the S/N of a point at each pixel of a plane, (ny, nx) float32, and the candidates above a floor."""
    bank = line_bank(plane.fwhm_px, plane.correlation)
    snr = point_map(plane.pixels, plane.usable, plane.background, plane.noise, bank)
    value, code = best_lines(snr, bank, CLIP)
    return snr, line_peaks(value, code, snr, bank.scale, floor)


def line_score(plane: SearchImage, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float32]:
    """Return the log odds of a trail against pure noise, for each candidate.

    Parameters
    ----------
    plane
        Image.
    snr : (ny, nx) float32
        S/N of a point source at each pixel (`kernels.search.line_search.point_map`).
    peaks
        Candidates.

    Returns
    -------
    (n,) float32
        (S/N^2 - 5.77^2) / 2, with the unclipped S/N of the best line around the centre.

    Notes
    -----
    In Gaussian noise the best-fitting trail is exp(S/N^2 / 2) times as likely as no trail. The odds are even at the S/N
    that pure noise reaches once per image. Cosmic rays and badly subtracted stars, which are not noise, reach any S/N.
    """
    scale = line_bank(plane.fwhm_px, plane.correlation).scale.ravel()
    best = np.empty(len(peaks.y), np.float64)
    _best(snr, peaks.y, peaks.x, scale, *_pixels(), best)
    return (0.5 * (np.sign(best) * best**2 - NOISE_ALONE**2)).astype(np.float32)


@lru_cache(maxsize=1)
def _pixels() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the steps (dx, dy) of all lines, (codes, longest, 2), and their numbers of pixels, (codes,)."""
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
