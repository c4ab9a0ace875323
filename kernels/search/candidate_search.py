"""Search for candidates: places where a trail of a bank stands out, each with a score."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from kernels.image.gaussian import FAST
from kernels.image.search_image import Places, SearchImage, squash
from kernels.nets.candidate_nets import LINE_CHANNELS, CandidateCnn
from kernels.nets.tree_ensemble import TreeEnsemble, tree_logits
from kernels.search.line_peaks import PEAK_REACH, line_peaks, refine_lines
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
from kernels.search.shape_features import shape_features
from kernels.search.torch_search import precise_on
from schemas.model_card import ModelCard
from schemas.pixels import SearchGrid
from schemas.settings import NOISE_ALONE

CELL = 4
"""Side of the cells that take the candidates, px."""

CANDIDATE_GRID = SearchGrid(CELL, CELL, PEAK_REACH + 2, 16)
"""A cell is in the claim of a trail whose middle is within 8 px."""

Judge = Callable[[SearchImage, NDArray[np.float32], Peaks], NDArray[np.float32]]
"""Gives the log odds of candidates from the plane, the S/N of a point at each of its pixels, and the candidates."""


@dataclass(frozen=True)
class CandidateSearch:
    """Detector that judges the peaks of a bank of trails.

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
        """Return the grid of its cells."""
        return CANDIDATE_GRID

    def search(self, plane: SearchImage, places: Places) -> tuple[NDArray[np.float32], int]:
        """Return each cell the log odds of the best candidate whose middle lies in it.

        Parameters and errors are those of `kernels.search.detector.Detector.search`, with cells of stride `CELL`.

        Returns
        -------
        logits : (rows * columns,) float32
            -inf where there is no candidate. They do not depend, to the bit, on the part of the image that is searched
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
        np.maximum.at(logits, (row[inside], column[inside]), self.judge(plane, snr, peaks.take(inside)))
        hidden = ~cells.reshape(rows, CELL, columns, CELL).any((1, 3))
        return logits.ravel(), int(hidden.sum())


def find_candidates(plane: SearchImage, floor: float) -> tuple[NDArray[np.float32], Peaks]:
    """Return the S/N of a point at each pixel of a plane, (ny, nx) float32, and the candidates above a floor."""
    bank = line_bank(plane.fwhm_px, plane.correlation)
    snr = point_map(plane.pixels, plane.usable, plane.background, plane.noise, bank)
    value, code = best_lines(snr, bank, CLIP)
    return snr, line_peaks(value, code, snr, bank.scale, floor)


LONG, WIDE = 64, 24
"""Pixels along and across the line."""


def line_cutouts(
    plane: SearchImage, snr: NDArray[np.float32], peaks: Peaks, lines: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Cut out candidates.

    Parameters
    ----------
    plane
        The image.
    snr : (ny, nx) float32
        S/N of a point source at each of its pixels (`kernels.search.line_search.point_map`).
    peaks
        The candidates.
    lines : (n, 5)
        Of theirs, from `kernels.search.line_peaks.refine_lines`.

    Returns
    -------
    (n, CHANNELS, WIDE, LONG) float32
        Sampled between pixels, bilinear: value in units of the noise and S/N of a point, both through
        `kernels.image.search_image.squash`; share that does not count or is not part of the plane.
    """
    out = np.zeros((len(peaks.y), LINE_CHANNELS, WIDE, LONG), np.float32)
    pixel = np.stack([peaks.y, peaks.x], 1)
    _cut(plane.pixels, plane.usable, plane.background, 1 / plane.noise, snr, pixel, lines, out)
    return out


@njit(**FAST, parallel=True)
def _cut(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    per_noise: float,
    snr: NDArray[np.float32],
    pixel: NDArray[np.int64],
    lines: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    ny, nx = pixels.shape
    long, wide = out.shape[3], out.shape[2]
    for n in prange(out.shape[0]):
        dx, dy, _, angle, _ = lines[n]
        ux, uy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        for r in range(wide):
            v = r - 0.5 * (wide - 1)
            for c in range(long):
                u = c - 0.5 * (long - 1)
                # Counted from the candidate's own pixel: what is found does not depend on where the plane begins.
                x, y = dx + u * ux - v * uy, dy + u * uy + v * ux
                i, j = math.floor(x), math.floor(y)
                p, q = x - i, y - j
                for step in range(4):
                    right, down = step % 2, step // 2
                    weight = (p if right else 1 - p) * (q if down else 1 - q)
                    k, m = pixel[n, 0] + j + down, pixel[n, 1] + i + right
                    if not (0 <= k < ny and 0 <= m < nx):
                        out[n, 2, r, c] += weight
                        continue
                    value = (pixels[k, m] - background) * per_noise
                    if usable[k, m] and abs(value) < 1e30:
                        out[n, 0, r, c] += weight * value
                    else:
                        out[n, 2, r, c] += weight
                    out[n, 1, r, c] += weight * snr[k, m]
        squash(out[n, :2])


_BATCH = 64


@dataclass(frozen=True)
class TreeJudge:
    """Boosted trees on shape features."""

    trees: TreeEnsemble

    def __call__(self, plane: SearchImage, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float32]:
        """Return the log odds of candidates: see `kernels.search.candidate_search.Judge`."""
        return tree_logits(shape_features(plane, snr, peaks, lines_of(plane, snr, peaks)), self.trees)


@dataclass(frozen=True)
class TwoStageJudge:
    """Judge in two stages: boosted trees drop what is plainly false, a network judges the rest.

    Parameters
    ----------
    trees
        The first stage.
    floor
        Log odds of the trees from which on the network is used; others keep theirs, less 10.
    net
        The second, in evaluation mode, on ``device``.
    share
        Weight of the network's log odds in the sum; that of the trees is 1 less it.
    device
        Where the network lies.
    """

    trees: TreeEnsemble
    floor: float
    net: CandidateCnn
    share: float
    device: torch.device

    def __call__(self, plane: SearchImage, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float32]:
        """Return the log odds of candidates: see `kernels.search.candidate_search.Judge`."""
        lines = lines_of(plane, snr, peaks)
        features = shape_features(plane, snr, peaks, lines)
        odds = tree_logits(features, self.trees)
        asked = np.flatnonzero(odds >= self.floor)
        cutouts = line_cutouts(plane, snr, peaks.take(asked), lines[asked])
        judged = np.float32(self.share) * net_logits(self.net, cutouts, features[asked], self.device)
        out = odds - np.float32(10)
        out[asked] = judged + np.float32(1 - self.share) * odds[asked]
        return out


def lines_of(plane: SearchImage, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float64]:
    """Return the refined lines of candidates, (n, 5): see `kernels.search.line_peaks.refine_lines`."""
    return refine_lines(snr, peaks, line_bank(plane.fwhm_px, plane.correlation), CLIP)


def net_logits(
    net: CandidateCnn, cutouts: NDArray[np.float32], features: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Return the network's log odds of candidates, (n,) float32, batch by batch of one size.

    Batches are filled up with zeros: equal sizes give equal bits, however many candidates a tile has.
    """
    out = np.empty(len(features), np.float32)
    for start in range(0, len(out), _BATCH):
        part = [torch.zeros(_BATCH, *values.shape[1:]) for values in (cutouts, features)]
        count = min(_BATCH, len(out) - start)
        for batch, values in zip(part, (cutouts, features), strict=True):
            batch[:count] = torch.from_numpy(values[start : start + count])
        with torch.inference_mode(), precise_on(device):
            out[start : start + count] = net(*(batch.to(device) for batch in part))[:count].cpu().numpy()
    return out


def line_score(plane: SearchImage, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float32]:
    """Return candidates the log odds of a trail against noise alone.

    Parameters
    ----------
    plane, snr, peaks
        See `kernels.search.candidate_search.Judge`.

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
    """Return steps (dx, dy) of all lines, (codes, longest, 2), and their numbers of pixels, (codes,)."""
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
