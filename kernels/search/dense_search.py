"""Log odds of every cell of an image from a `StreakNet`."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from kernels.image.gaussian import FAST
from kernels.image.noise import filtered_noise
from kernels.image.search_image import Places, SearchImage, squash
from kernels.nets.streak_net import CELL, PLANES, StreakNet
from kernels.psf.gaussian_mixture import RADIUS, filter_taps
from kernels.search.linear_chain import Precision
from kernels.search.torch_search import precise_on
from kernels.search.windows import require_on_image
from schemas.model_card import ModelCard
from schemas.pixels import SearchGrid

_ALIKE = 0.15  # correlation of neighbours
_SMOOTH = np.outer((_ALIKE, 1.0, _ALIKE), (_ALIKE, 1.0, _ALIKE))
_LEAST_UNIT = 1 / 3  # minimum, since a correlation measured on little sky may have any value
_SHARPEST = 1.6  # px, FWHM of the PSF before the pixels: no network was trained on sharper images
_BAND = 16  # rows of cells that one thread fills at once: their pixels stay in the cache


def dense_input(plane: SearchImage, y: int, x: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Return the network input for each cell of a region, which may extend beyond the plane.

    Parameters
    ----------
    plane
        Image with its noise and the width of its PSF.
    y, x
        First pixel of the region on the plane.
    rows, columns
        Numbers of rows and columns of cells.

    Returns
    -------
    (rows, columns, 48) float32
        For each of the 4 x 4 px of a cell, row by row: its value in units of the noise; the S/N of a point source
        there, from a matched filter with a Gaussian of the PSF's width, in the actual noise; 1 for a pixel that is
        unusable or outside the plane. Both S/N are passed through `kernels.image.search_image.squash`.

    Notes
    -----
    Networks were trained on resampled images, whose noise is smooth. There, a source of given S/N is brighter, in units
    of a pixel's noise, than in images where the noise of neighbours is independent, as after optimal subtraction
    (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27), or anticorrelated. So if the correlation of neighbours is below 0.15,
    the unit of the first number is reduced, down to a third, so that the source is as bright as at that correlation.

    A PSF narrower than 1.6 px puts most light of a point source on one pixel, as a cosmic ray does. The first number is
    then taken from the image smoothed to a PSF of 1.6 px. The second is not smoothed, and keeps all information about
    a point source.
    """
    taps = seen = filter_taps(plane.fwhm_px)
    kernel, blur, spread = np.outer(taps, taps), np.ones(1, np.float32), 1.0
    if plane.fwhm_px < _SHARPEST:
        seen, blur = filter_taps(_SHARPEST), _smoothing(_SHARPEST**2 - plane.fwhm_px**2)
        spread = filtered_noise(np.outer(blur, blur), 1.0, plane.correlation)
    learnt = filtered_noise(np.outer(seen, seen), 1.0, _SMOOTH)
    fainter = float((np.square(seen).sum() / np.square(taps).sum()) ** 2)  # share of a point's light in its filter
    filtered = max(filtered_noise(kernel, 1.0, plane.correlation), _LEAST_UNIT * learnt / fainter)
    unit = min(filtered * fainter / learnt, spread)
    out = np.empty((rows, columns, PLANES * CELL**2), np.float32)
    _fill(
        plane.pixels,
        plane.usable,
        np.float32(plane.background),
        np.float32(1 / (unit * plane.noise)),
        blur,
        taps,
        np.float32(unit / filtered),
        y,
        x,
        out,
    )
    return out


def _smoothing(added: float) -> NDArray[np.float32]:
    """Return a filter, (3,), that adds a given value, px2, to the square of a Gaussian's FWHM."""
    side = added / (8 * math.log(2)) / 2
    return np.array((side, 1 - 2 * side, side), np.float32)


@njit(**FAST, parallel=True)
def _fill(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    per_noise: np.float32,
    blur: NDArray[np.float32],
    taps: NDArray[np.float32],
    scale: np.float32,
    y: int,
    x: int,
    out: NDArray[np.float32],
) -> None:
    rows, columns = out.shape[:2]
    for band in prange((rows + _BAND - 1) // _BAND):
        first = band * _BAND
        count = min(_BAND, rows - first)
        top, tall, wide = y + first * CELL, count * CELL, columns * CELL
        value = np.zeros((tall + 2 * RADIUS, wide + 2 * RADIUS), np.float32)
        _take(pixels, usable, background, per_noise, top - RADIUS, x - RADIUS, value)
        shown, found = np.zeros((tall, wide), np.float32), np.zeros((tall, wide), np.float32)
        _filter(value, blur, np.float32(1), shown)
        _filter(value, taps, scale, found)
        squash(shown)
        squash(found)
        for r in range(count):
            for c in range(columns):
                cell = out[first + r, c]
                for dy in range(CELL):
                    for dx in range(CELL):
                        j, i = r * CELL + dy, c * CELL + dx
                        cell[dy * CELL + dx] = shown[j, i]
                        cell[16 + dy * CELL + dx] = found[j, i]
                        cell[32 + dy * CELL + dx] = _hidden(usable, top + j, x + i)


@njit(**FAST)
def _hidden(usable: NDArray[np.bool_], j: int, i: int) -> np.float32:
    inside = 0 <= j < usable.shape[0] and 0 <= i < usable.shape[1]
    return np.float32(0) if inside and usable[j, i] else np.float32(1)


@njit(**FAST)
def _take(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    per_noise: np.float32,
    y: int,
    x: int,
    value: NDArray[np.float32],
) -> None:
    """Fill ``value``, whose first pixel is (y, x) on the plane, with pixel values in units of the noise."""
    left, right = max(0, -x), min(value.shape[1], pixels.shape[1] - x)
    for j in range(max(0, -y), min(value.shape[0], pixels.shape[0] - y)):
        for i in range(left, right):
            deviation = (pixels[y + j, x + i] - background) * per_noise
            # A comparison with NaN is false.
            known = usable[y + j, x + i] and abs(deviation) < np.float32(1e30)
            value[j, i] = deviation if known else np.float32(0)


@njit(**FAST)
def _filter(
    value: NDArray[np.float32], taps: NDArray[np.float32], scale: np.float32, found: NDArray[np.float32]
) -> None:
    """Filter along columns, then along rows; ``value`` extends `RADIUS` beyond ``found`` on all sides."""
    width, first = found.shape[1], RADIUS - taps.shape[0] // 2
    line = np.empty(value.shape[1], np.float32)
    for j in range(found.shape[0]):
        line[:] = 0
        for k in range(taps.shape[0]):
            tap, row = taps[k] * scale, value[j + first + k]
            for i in range(line.shape[0]):
                line[i] += tap * row[i]
        target = found[j]
        for k in range(taps.shape[0]):
            tap, row = taps[k], line[first + k : first + k + width]
            for i in range(width):
                target[i] += tap * row[i]


_CLAIM = 16  # px: a cell responds within 3 px of a trail, or a little farther from a bright one
_TALL, _WIDE = 132, 260
"""Most rows and columns of cells of a block: what surrounds smaller ones is computed more often."""

_LEAST, _STEP = 40, 4
"""Least side of a block and step of its sides, cells: libraries add in another order in a smaller block, and in what is
left over when its cells are divided into vectors of up to 16."""


@dataclass(frozen=True)
class DenseSearch:
    """Search of all cells of an image.

    Parameters
    ----------
    net
        The network, in evaluation mode, on ``device``, in float32 or bfloat16.
    device
        Device of the network.
    card
        Card of its weights.
    """

    net: StreakNet
    device: torch.device
    card: ModelCard

    @property
    def precision(self) -> Precision:
        """Return the precision of the network's weights and activations.

        bfloat16 keeps 8 bits; log odds change by a few hundredths.
        """
        return "bfloat16" if self._type == torch.bfloat16 else "float32"

    @property
    def _type(self) -> torch.dtype:
        return self.net.first.weight.dtype

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of its cells."""
        return dense_grid(self.net.reach)

    def search(self, plane: SearchImage, places: Places) -> tuple[NDArray[np.float32], int]:
        """Return the log odds of every cell, and the number of cells without a score.

        Parameters and errors are those of `kernels.search.detector.Detector.search`, with cells of stride `CELL`.

        Returns
        -------
        logits : (rows * columns,) float32
            -inf for cells without a usable pixel.
        unscored : int
            Number of cells without a usable pixel.

        Notes
        -----
        On a CPU, a cell's log odds do not depend, to the bit, on the part of the image that is searched with it or on
        the number of threads. Blocks are computed without padding (`StreakNet.inside`), each by one thread, since
        several threads would sum a convolution in another order, and their sides are limited to those that keep the
        order.
        """
        y, x, rows, columns, _ = places
        require_on_image(plane.pixels[None, y:, x:].shape, (rows, columns), CELL, CELL)
        halo, threads = self.net.reach, torch.get_num_threads() if self.device.type == "cpu" else 1
        tall, wide = _side(rows, min(_TALL, -(-rows // threads))), _side(columns, _WIDE)
        all_rows, all_columns = round_up(rows, tall), round_up(columns, wide)
        cells = dense_input(plane, y - halo * CELL, x - halo * CELL, all_rows + 2 * halo, all_columns + 2 * halo)
        logits = np.empty((all_rows, all_columns), np.float32)
        channels = torch.from_numpy(cells).permute(2, 0, 1)[None]

        def score(top: int, left: int) -> None:
            with torch.inference_mode():
                block = channels[:, :, top : top + tall + 2 * halo, left : left + wide + 2 * halo]
                found = self.net.inside(block.to(self.device, self._type))
                logits[top : top + tall, left : left + wide] = found[0].float().cpu().numpy()

        corners = [(top, left) for top in range(0, all_rows, tall) for left in range(0, all_columns, wide)]
        with precise_on(self.device):
            _share_out(score, corners, threads)
        hidden = cells[halo : halo + rows, halo : halo + columns, 2 * CELL**2 :].all(2)
        scored = np.where(hidden, np.float32(-np.inf), logits[:rows, :columns])
        return scored.ravel(), int(hidden.sum())


def _side(count: int, most: int) -> int:
    """Return the side of the blocks, at most ``most`` cells each, that cover ``count`` cells with least left over."""
    blocks = -(-count // most)
    return max(_LEAST, round_up(-(-count // blocks), _STEP))


def dense_grid(reach: int) -> SearchGrid:
    """Return the grid of a `StreakNet` that uses cells up to ``reach`` cells away."""
    return SearchGrid(CELL, CELL, reach * CELL + RADIUS, _CLAIM)


def _share_out(work: Callable[[int, int], None], corners: Sequence[tuple[int, int]], threads: int) -> None:
    """Run the work at all corners on several threads, in each of which torch uses one thread."""
    if threads < 2:
        for corner in corners:
            work(*corner)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, *zip(*corners, strict=True)))
    finally:
        # A new thread takes torch's number of threads as last set by any thread.
        torch.set_num_threads(threads)


def round_up(count: int, step: int) -> int:
    """Return the least multiple of ``step`` that is at least ``count``."""
    return -(-count // step) * step
