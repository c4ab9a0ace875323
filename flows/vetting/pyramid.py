"""Whole detectors as pyramids of PNG tiles, made on request and kept while there is room."""

import base64
import math
from collections import OrderedDict
from pathlib import Path
from threading import Lock, Semaphore

import numpy as np
from numpy.typing import NDArray

from flows.results.page.picture import bin_mean, png, stretch, usable
from flows.storage.zarr_tiles import TileStore
from flows.vetting.stamps import open_tiles
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.pixels import DIFFERENCE, MASK

SIDE = 256
"""Side of a tile, px."""

MOST_BYTES = 64 * 2**20
"""Largest size of the tiles kept in memory, bytes; least recently requested ones are dropped first."""

STRIP = 2**21
"""Number of pixels of an exposure read at a time for a tile: 12 MB with the mask, however coarse the tile."""

_AT_ONCE = 3  # number of tiles made at the same time
_SAMPLES = 16  # number of squares, `_SAMPLE` px wide, from which the level and noise of a plane are measured
_SAMPLE = 128
_SPREAD = 1.4826


def levels(shape: tuple[int, int]) -> int:
    """Return the number of levels for (ny, nx) px: level n bins 2^n px, and the last level is a single tile."""
    return max(0, math.ceil(math.log2(max(shape) / SIDE))) + 1


class TilePyramid:
    """Tiles of the exposures of an output folder; thread-safe.

    Parameters
    ----------
    out
        Output folder.
    most_bytes
        Largest size of the tiles kept in memory.
    """

    def __init__(self, out: Path, most_bytes: int = MOST_BYTES) -> None:
        self._out, self._most = out, most_bytes
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._scales: dict[tuple[str, str, str], tuple[float, float]] = {}
        self._mutex, self._making, self._bytes = Lock(), Semaphore(_AT_ONCE), 0

    @property
    def held(self) -> int:
        """Return the size of the tiles in memory, bytes."""
        return self._bytes

    def tile(self, key: ExposureKey, plane: str, level: int, row: int, column: int) -> bytes:
        """Return a tile as PNG with row 0 at the bottom; tiles at the upper and right edges are smaller.

        Parameters
        ----------
        key, plane
            Exposure and plane.
        level
            Pixels are means over 2^level x 2^level px.
        row, column
            Indices of the tile, from the bottom left.

        Raises
        ------
        BadInput
            The tile does not exist (``no_tile``), or its pixels are damaged.
        """
        store = open_tiles(self._out, key)
        if store is None or plane not in store.planes or plane == MASK.name:
            raise _missing(key, plane)
        ny, nx = store.info.shape
        span = SIDE << level if 0 <= level < levels((ny, nx)) else 0
        if not span or not (0 <= row * span < ny and 0 <= column * span < nx):
            raise _missing(key, plane)
        name = (key.night, key.name, plane, level, row, column, store.digest)
        with self._mutex:
            if (found := self._kept.get(name)) is not None:
                self._kept.move_to_end(name)
                return found
        with self._making:
            content = self._make(store, plane, level, row, column)
        self._keep(name, content)
        return content

    def _keep(self, name: tuple[object, ...], content: bytes) -> None:
        with self._mutex:
            if name not in self._kept:
                self._kept[name] = content
                self._bytes += len(content)
            while self._bytes > self._most and self._kept:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def _make(self, store: TileStore, plane: str, level: int, row: int, column: int) -> bytes:
        factor, (ny, nx) = 1 << level, store.info.shape
        y0, x0, span = row * SIDE * factor, column * SIDE * factor, SIDE * factor
        y1, x1 = min(y0 + span, ny), min(x0 + span, nx)
        step = factor * max(1, STRIP // ((x1 - x0) * factor))
        strips = [_binned(store, plane, (y, min(y + step, y1), x0, x1), factor) for y in range(y0, y1, step)]
        binned = np.concatenate(strips)
        level_at, noise = self._scale(store, plane)
        # Averaging n pixels reduces the noise of the difference by less than sqrt(n), since it is correlated.
        quiet = noise / math.sqrt(factor) if plane == DIFFERENCE.name else noise
        drawn = stretch(binned, level_at, quiet, high=8.0 if plane == DIFFERENCE.name else 30.0)
        return base64.b64decode(png(drawn).uri.partition(",")[2])

    def _scale(self, store: TileStore, plane: str) -> tuple[float, float]:
        """Return level and noise of a plane, the same for all its tiles."""
        if plane == DIFFERENCE.name:
            return store.info.background, store.info.noise
        name = (str(store.path), store.digest, plane)
        if name not in self._scales:
            ny, nx = store.info.shape
            places = np.linspace(0, 1, math.isqrt(_SAMPLES))
            values = [
                _pixels(store, plane, (y, min(y + _SAMPLE, ny), x, min(x + _SAMPLE, nx)))[0].ravel()
                for y in (places * max(ny - _SAMPLE, 0)).astype(int).tolist()
                for x in (places * max(nx - _SAMPLE, 0)).astype(int).tolist()
            ]
            finite = np.concatenate(values)
            finite = finite[np.isfinite(finite)]
            level = float(np.median(finite)) if finite.size else 0.0
            spread = _SPREAD * float(np.median(np.abs(finite - level))) if finite.size else 1.0
            self._scales[name] = level, spread or 1.0
        return self._scales[name]


def _pixels(
    store: TileStore, plane: str, box: tuple[int, int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the pixels of a box (y0, y1, x0, x1), and which of them are usable."""
    y0, y1, x0, x1 = box
    pixels = store.read(plane, y0, x0, y1, x1)
    if plane != DIFFERENCE.name:
        return pixels, np.isfinite(pixels)
    return pixels, usable(pixels, store.read(MASK.name, y0, x0, y1, x1))


def _binned(store: TileStore, plane: str, box: tuple[int, int, int, int], factor: int) -> NDArray[np.float64]:
    pixels, good = _pixels(store, plane, box)
    return np.where(good, pixels, np.nan).astype(np.float64) if factor == 1 else bin_mean(pixels, good, factor)


def _missing(key: ExposureKey, plane: str) -> BadInput:
    return BadInput("no_tile", f"{key.night}/{key.name}", f"has no such tile of {plane}.", "load the exposure again.")
