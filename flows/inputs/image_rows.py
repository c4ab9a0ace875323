"""Planes of images too large for memory: read some rows at a time, or as a sample."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.image.background_map import Levels, level_background
from kernels.image.pixel_state import REACH, PixelState, filled, pixel_state
from schemas.pixels import BAND, MaskPlane, band_rows


@dataclass(frozen=True)
class PlaneRows:
    """Plane of an image whose rows are read by ``plane[y0:y1]``; only its origin is kept in memory.

    Attributes
    ----------
    shape
        (ny, nx), px.
    dtype
        Dtype of the pixels.
    read
        Function that returns rows y0 to y1 (exclusive), (y1 - y0, nx).
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        return self.read(start, stop)


Plane = NDArray[Any] | PlaneRows


def changed(plane: Plane, change: Callable[[NDArray[Any]], NDArray[Any]], dtype: str) -> Plane:
    """Return a plane with each pixel changed on its own; ``dtype`` is that of the result."""
    if not isinstance(plane, PlaneRows):
        return change(plane)
    return replace(plane, dtype=np.dtype(dtype), read=lambda y0, y1: change(plane[y0:y1]))


BLOCK = 512
"""Side of the squares in a sample of an image, px."""

BLOCKS = 8
"""Number of squares along each axis, spaced as far apart as possible: 16.8 million pixels in all."""


def sample_of(planes: Mapping[str, Plane]) -> dict[str, NDArray[Any]]:
    """Assemble squares spread over a large image into a smaller one.

    Parameters
    ----------
    planes : (ny, nx) each
        ``difference`` and ``mask``, and ``science`` and ``template`` if present; other planes are ignored.

    Returns
    -------
    dict
        The same planes, `BLOCKS` x `BLOCKS` adjoining squares of `BLOCK` px; fewer or smaller ones if a side is too
        short. Rows and columns along the cuts are masked as EDGE, so that sources that are cut are not measured.
    """
    names = [name for name in ("difference", "mask", "science", "template") if name in planes]
    rows, columns = (_starts(side) for side in planes["difference"].shape)
    made = {name: _squares(planes[name], rows, columns) for name in names}
    made["mask"][_seams(rows, planes["mask"].shape[0])] |= np.uint16(MaskPlane.EDGE)
    made["mask"][:, _seams(columns, planes["mask"].shape[1])] |= np.uint16(MaskPlane.EDGE)
    return made


def levels_of_sample(levels: Levels, shape: tuple[int, ...]) -> Levels:
    """Return levels of the `sample_of` an image (ny, nx) with the places of their cells in the image."""
    y, x = (
        np.array(_starts(side))[(places / min(BLOCK, side)).astype(np.intp)] + places % min(BLOCK, side)
        for places, side in zip((levels.y, levels.x), shape, strict=True)
    )
    return levels._replace(y=y, x=x)


def _seams(starts: Sequence[int], side: int) -> list[int]:
    """Return the first and last rows of squares, except at the border of the image."""
    size = min(BLOCK, side)
    first = [i * size for i, start in enumerate(starts) if start > 0]
    return first + [(i + 1) * size - 1 for i, start in enumerate(starts) if start + size < side]


def _starts(side: int) -> list[int]:
    count = max(1, min(BLOCKS, side // BLOCK))
    return [round(start) for start in np.linspace(0, max(0, side - BLOCK), count)]


def _squares(plane: Plane, rows: Sequence[int], columns: Sequence[int]) -> NDArray[Any]:
    bands = []
    for y in rows:
        band = plane[y : y + BLOCK]
        bands.append(np.hstack([band[:, x : x + BLOCK] for x in columns]))
    return np.vstack(bands)


class PixelCounts(NamedTuple):
    """Number of pixels of an image by state; names as in `kernels.image.pixel_state.PixelState`."""

    finite: int
    infinite: int
    good: int
    first: float
    constant: bool

    @classmethod
    def of(cls, state: PixelState) -> "PixelCounts":
        """Return the counts for a state."""
        return cls(state.finite, state.infinite, state.good, state.first, state.constant)

    def and_below(self, other: "PixelCounts") -> "PixelCounts":
        """Return the counts of two parts, the other being below."""
        alike = math.isnan(self.first) or math.isnan(other.first) or self.first == other.first
        return PixelCounts(
            self.finite + other.finite,
            self.infinite + other.infinite,
            self.good + other.good,
            other.first if math.isnan(self.first) else self.first,
            self.constant and other.constant and alike,
        )


class _Band(NamedTuple):
    """Pixels of some rows, their mask, and their counts: ``good`` in these rows, the others with their neighbours."""

    pixels: NDArray[np.float32]
    mask: NDArray[np.uint16]
    counts: PixelCounts


class Bands:
    """State of the pixels of a large image, computed in bands of rows, but equal to that of the whole.

    Parameters
    ----------
    planes : (ny, nx) each
        ``difference`` and ``mask``, and ``science`` if present.
    saturation, usual
        As for `kernels.image.pixel_state.pixel_state`.
    """

    def __init__(self, planes: Mapping[str, Plane], saturation: float | None, usual: float) -> None:
        self._planes, self._saturation, self._usual = planes, saturation, usual
        self._last: tuple[tuple[int, int], _Band] | None = None  # image and mask of a band are read in turn

    def counts(self) -> PixelCounts:
        """Return the counts of the whole image."""
        ny, nx = self._planes["difference"].shape
        step = band_rows(nx, BAND)
        return reduce(PixelCounts.and_below, (self._of(y0, min(y0 + step, ny)).counts for y0 in range(0, ny, step)))

    def planes(self, background: float, levels: Levels | None = None) -> dict[str, Plane]:
        """Return the image, less ``levels`` and with ``background`` for missing values, and its mask."""
        shape = self._planes["difference"].shape

        def image(y0: int, y1: int) -> NDArray[np.float32]:
            band = self._of(y0, y1)
            pixels = filled(band.pixels, band.mask, background)
            if levels is None:
                return pixels
            level_background(pixels, levels, y0)
            return filled(pixels, band.mask, background)

        mask = PlaneRows(shape, np.dtype("uint16"), lambda y0, y1: self._of(y0, y1).mask)
        return {"difference": PlaneRows(shape, np.dtype("float32"), image), "mask": mask}

    def _of(self, y0: int, y1: int) -> _Band:
        if self._last is None or self._last[0] != (y0, y1):
            self._last = None  # to free memory before the next is made
            self._last = (y0, y1), self._found(y0, y1)
        return self._last[1]

    def _found(self, y0: int, y1: int) -> _Band:
        low = max(0, y0 - REACH) // 4 * 4
        rows, inner = slice(low, y1 + REACH + -(y1 + REACH) % 4), slice(y0 - low, y1 - low)
        pixels, mask = self._planes["difference"][rows], self._planes["mask"][rows]
        science = self._planes["science"][rows] if "science" in self._planes else None
        state = pixel_state(pixels, mask, science, self._saturation, self._usual)
        good = int(np.count_nonzero(state.usable[inner]))
        return _Band(pixels[inner], state.mask[inner], PixelCounts.of(state)._replace(good=good))
