"""Squares around detections, cut out of the stored planes of an exposure."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.storage.zarr_tiles import TileStore
from schemas.pixels import MASK, MaskPlane, is_large

_OUTSIDE = MaskPlane.EDGE | MaskPlane.NO_DATA
_AT_ONCE = 256  # squares in memory
_CHUNKS = 1.5  # chunks of the store that a square needs, about

Ints = NDArray[np.int64]


class Stamps(NamedTuple):
    """Squares of one size.

    Attributes
    ----------
    which : (n,)
        Indices of their detections.
    side
        Side, px.
    x0, y0 : (n,)
        Coordinates of the first pixels on the image, 0-based; may be negative.
    planes
        Name -> pixels, (n, side, side); beyond the image NaN, in the mask EDGE and NO_DATA.
    outside : (n,)
        Numbers of pixels beyond the image.
    """

    which: Ints
    side: int
    x0: Ints
    y0: Ints
    planes: Mapping[str, NDArray[Any]]
    outside: Ints


def cut_stamps(
    store: TileStore, x: NDArray[np.float64], y: NDArray[np.float64], side: Ints, at_once: int = _AT_ONCE
) -> Iterator[Stamps]:
    """Yield the squares around positions in all planes of an exposure, in groups of one size.

    Parameters
    ----------
    store
        Tile store of the exposure.
    x, y : (n,)
        Positions, px, 0-based.
    side : (n,)
        Side of each square, px; its middle is as close to the position as whole pixels allow.
    at_once
        Largest number of squares in a group.

    Raises
    ------
    BadInput
        As in `TileStore.read`.
    """
    ny, nx = store.info.shape
    read = _reader(store, len(x))
    for size in np.unique(side).tolist():
        same = np.flatnonzero(side == size)
        for first in range(0, len(same), at_once):
            which = same[first : first + at_once]
            x0, y0 = (np.rint(one[which] - (size - 1) / 2).astype(np.int64) for one in (x, y))
            column, row = x0[:, None] + np.arange(size), y0[:, None] + np.arange(size)
            inside = ((row >= 0) & (row < ny))[:, :, None] & ((column >= 0) & (column < nx))[:, None, :]
            planes = {name: read(name, row, column, inside) for name in store.planes}
            outside = size * size - inside.sum(axis=(1, 2))
            yield Stamps(which, size, x0, y0, planes, outside)


class _Whole:
    """Reader of squares from planes in memory, for many squares."""

    def __init__(self, store: TileStore) -> None:
        self._planes = {name: store.read_all(name) for name in store.planes}

    def __call__(self, plane: str, row: Ints, column: Ints, inside: NDArray[np.bool_]) -> NDArray[Any]:
        pixels = self._planes[plane]
        ny, nx = pixels.shape
        found = pixels[np.clip(row, 0, ny - 1)[:, :, None], np.clip(column, 0, nx - 1)[:, None, :]]
        found[~inside] = _beyond(plane)
        return found


class _Each:
    """Reader of squares one by one, for few of them or an image that is too large for memory."""

    def __init__(self, store: TileStore) -> None:
        self._store = store

    def __call__(self, plane: str, row: Ints, column: Ints, inside: NDArray[np.bool_]) -> NDArray[Any]:
        ny, nx = self._store.info.shape
        found = np.full(inside.shape, _beyond(plane), np.uint16 if plane == MASK.name else np.float32)
        for one, rows, columns in zip(found, row, column, strict=True):
            (y0, y1), (x0, x1) = (np.clip((first[0], first[-1] + 1), 0, most).tolist()
                                  for first, most in ((rows, ny), (columns, nx)))  # fmt: skip
            top, left = y0 - int(rows[0]), x0 - int(columns[0])
            one[top : top + y1 - y0, left : left + x1 - x0] = self._store.read(plane, y0, x0, y1, x1)
        return found


def _reader(store: TileStore, squares: int) -> _Whole | _Each:
    ny, nx = store.info.shape
    chunks = -(-ny // store.chunk[0]) * -(-nx // store.chunk[1])
    return _Each(store) if is_large(store.info.shape) or _CHUNKS * squares < chunks else _Whole(store)


def _beyond(plane: str) -> float | int:
    return int(_OUTSIDE) if plane == MASK.name else np.nan
