"""Search for candidates: the places where a trail of a bank stands out, each with a score."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.line_bank import line_bank
from kernels.line_peaks import PEAK_REACH, Peaks, line_peaks
from kernels.line_search import CLIP, best_lines, point_map
from kernels.plane import Places, Plane
from schemas.model_card import ModelCard
from schemas.search_grid import SearchGrid

CELL = 4
"""Side of the cells that take the candidates, px."""

CANDIDATE_GRID = SearchGrid(CELL, CELL, PEAK_REACH + 2, 16)
"""A cell is in the claim of a trail whose middle is within 8 px."""

Judge = Callable[[Plane, NDArray[np.float32], Peaks], NDArray[np.float32]]
"""Gives the log odds of candidates from the plane, the S/N of a point at each of its pixels, and the candidates."""


@dataclass(frozen=True)
class CandidateSearch:
    """A detector that judges the peaks of a bank of trails.

    Parameters
    ----------
    judge
        What scores them.
    floor
        Least S/N of a candidate.
    card
        What is known of its weights.
    """

    judge: Judge
    floor: float
    card: ModelCard

    @property
    def grid(self) -> SearchGrid:
        """Where its cells lie."""
        return CANDIDATE_GRID

    def search(self, plane: Plane, places: Places) -> tuple[NDArray[np.float32], int]:
        """Give each cell the log odds of the best candidate whose middle lies in it.

        Parameters
        ----------
        plane
            Pixels of the cells and ``grid.reach`` px around them, as far as the image goes.
        places
            The cells; their stride is `CELL`.

        Returns
        -------
        logits : (rows * columns,) float32
            -inf where there is no candidate. They do not depend, to the bit, on the part of the image that is searched
            with a cell or on the number of threads.
        unscored : int
            Cells without a usable pixel.

        Raises
        ------
        ValueError
            The cells do not lie on the plane.
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
        np.maximum.at(logits, (row[inside], column[inside]), self.judge(plane, snr, peaks.take(inside)))
        hidden = ~cells.reshape(rows, CELL, columns, CELL).any((1, 3))
        return logits.ravel(), int(hidden.sum())


def find_candidates(plane: Plane, floor: float) -> tuple[NDArray[np.float32], Peaks]:
    """Give the S/N of a point at each pixel of a plane, (ny, nx) float32, and the candidates above a floor."""
    bank = line_bank(plane.fwhm_px, plane.correlation)
    snr = point_map(plane.pixels, plane.usable, plane.background, plane.noise, bank)
    value, code = best_lines(snr, bank, CLIP)
    return snr, line_peaks(value, code, snr, bank.scale, floor)
