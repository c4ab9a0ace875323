"""Tiles of compressed FITS images: what each unpacks to, before any is decoded."""

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from astropy.io import fits

from schemas.errors import BadInput

_WIDEST = 8  # bytes of a pixel, whatever BITPIX
_SPARE = 4096  # bytes: a tile may be padded
_HCOMPRESS = struct.Struct(">2xii")  # White, Postman & Lattanzi 1992: magic number, then the sides
_ZIPPED = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")


def require_tiles(data: bytes | Path, index: int, where: str) -> None:
    """Refuse a compressed image of which a tile unpacks to more than the pixels of a tile.

    Other images pass, and so do the kinds of compression whose decoder is told how many pixels to make.

    Parameters
    ----------
    data
        Of the file, not gzipped; or where it lies: then it is read piece by piece.
    index
        Of the HDU.
    where
        Uri, for messages.

    Raises
    ------
    BadInput
        ``too_large``.
    """
    with (
        data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as opened,
        fits.open(opened, memmap=False, disable_image_compression=True) as file,
    ):
        table = file[index]
        if not table.header.get("ZIMAGE"):
            return
        pixels = tile_pixels(table.header)
        most = pixels * _WIDEST + _SPARE
        kind = str(table.header.get("ZCMPTYPE", "")).strip()
        heap = _Heap(opened, file.fileinfo(index)["datLoc"] + table._theap)
        for row, cell in _cells(table, heap, _ZIPPED if kind.startswith("GZIP") else _ZIPPED[1:]):
            if _unpacks_beyond(cell, most):
                raise _too_large(where, index, row, most)
        for row, cell in _cells(table, heap, _ZIPPED[:1] if kind == "HCOMPRESS_1" else ()):
            if len(cell) >= _HCOMPRESS.size and math.prod(map(abs, _HCOMPRESS.unpack_from(cell))) > pixels:
                raise _too_large(where, index, row, most)


def tile_pixels(header: fits.Header) -> int:
    """Return the pixels of a whole tile: a row of the image, where the header does not say (FITS 4.0, 10.1)."""
    axes = range(1, int(header["ZNAXIS"]) + 1)
    sides = {axis: int(header[f"ZNAXIS{axis}"]) for axis in axes}
    return math.prod(
        min(int(header.get(f"ZTILE{axis}", side if axis == 1 else 1)), side) for axis, side in sides.items()
    )


class _Heap(NamedTuple):
    """Bytes of a file from a place on."""

    file: IO[bytes]
    start: int

    def read(self, start: int, count: int) -> bytes:
        self.file.seek(self.start + max(start, 0))
        return self.file.read(count)


def _cells(table: fits.BinTableHDU, heap: _Heap, names: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Yield the row and the bytes of each cell of columns of variable length, one at a time."""
    rows = table.data.view(np.ndarray)
    for name in names:
        if name in table.columns.names:
            for row in np.flatnonzero(rows[name][:, 0] > 0):
                count, start = map(int, rows[name][row])
                yield int(row), heap.read(start, count)


def _unpacks_beyond(packed: bytes, most: int) -> bool:
    """Return whether gzip's bytes, of one member or several, unpack to more than ``most``."""
    total = 0
    while packed and total <= most:
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            total += len(unpacking.decompress(packed, most + 1 - total))
        except zlib.error:
            return False  # the decoder says what is wrong with it
        packed = unpacking.unused_data.lstrip(b"\0")
    return total > most


def _too_large(where: str, index: int, row: int, most: int) -> BadInput:
    return BadInput(
        "too_large",
        where,
        f"tile {row} of HDU {index} unpacks to more than {most} bytes, which is more than its pixels take.",
        "fetch the file again; if it is the same then, it was made to exhaust memory.",
    )
