"""Tiles of compressed FITS images: their unpacked sizes are checked before decoding."""

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

_WIDEST = 8  # maximum bytes per pixel, for any BITPIX
_SPARE = 4096  # bytes allowed for padding of a tile
_HCOMPRESS = struct.Struct(">2xii")  # White, Postman & Lattanzi 1992: magic number, then the sides
_ZIPPED = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")


def require_tiles(data: bytes | Path, index: int, where: str) -> None:
    """Refuse a compressed image with a tile that unpacks to more than a tile's pixels.

    Other images pass, as do compression types whose decoder is told the number of pixels.

    Parameters
    ----------
    data
        Bytes of the file, not gzipped; or its path, to read it piece by piece.
    index
        Index of the HDU.
    where
        URI, for messages.

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
    """Return the number of pixels in a whole tile: by default a row of the image (FITS 4.0, 10.1)."""
    axes = range(1, int(header["ZNAXIS"]) + 1)
    sides = {axis: int(header[f"ZNAXIS{axis}"]) for axis in axes}
    return math.prod(
        min(int(header.get(f"ZTILE{axis}", side if axis == 1 else 1)), side) for axis, side in sides.items()
    )


class _Heap(NamedTuple):
    """Bytes of a file from a given position on."""

    file: IO[bytes]
    start: int

    def read(self, start: int, count: int) -> bytes:
        self.file.seek(self.start + max(start, 0))
        return self.file.read(count)


def _cells(table: fits.BinTableHDU, heap: _Heap, names: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Yield row and bytes of each cell in variable-length columns, one at a time."""
    rows = table.data.view(np.ndarray)
    for name in names:
        if name in table.columns.names:
            for row in np.flatnonzero(rows[name][:, 0] > 0):
                count, start = map(int, rows[name][row])
                yield int(row), heap.read(start, count)


def _unpacks_beyond(packed: bytes, most: int) -> bool:
    """Return whether gzipped bytes, of one or several members, unpack to more than ``most`` bytes."""
    total = 0
    while packed and total <= most:
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            total += len(unpacking.decompress(packed, most + 1 - total))
        except zlib.error:
            return False  # the decoder reports what is wrong with it
        packed = unpacking.unused_data.lstrip(b"\0")
    return total > most


def _too_large(where: str, index: int, row: int, most: int) -> BadInput:
    return BadInput(
        "too_large",
        where,
        f"tile {row} of HDU {index} unpacks to more than {most} bytes, which is more than its pixels take.",
        "fetch the file again; if it is the same then, it was made to exhaust memory.",
    )
