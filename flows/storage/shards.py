"""Pixels of a sharded Zarr array, chunk by chunk.

The format is Zarr's (sharding_indexed, https://zarr-specs.readthedocs.io, ZEP 2), and zarr reads the same files. It
takes 0.2 ms of Python per chunk to do so, more than the chunk takes to decompress. The faster zarrs does not check the
CRC of a chunk in a shard that is read in part, as any shard is that reaches beyond the image, and hands out damaged
pixels silently. Here every chunk that is read is checked.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from flows.storage.bucket_path import BucketPath, read_files

_CRC = 4
_ENTRY = 16  # bytes of the index per chunk: offset and length
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CHECKSUM = {"name": "crc32c"}


@dataclass(frozen=True)
class ShardedArray:
    """Two-dimensional array as `flows.storage.zarr_tiles` writes it.

    Attributes
    ----------
    folder
        Of the array.
    shape, shard, chunk
        (ny, nx) of the array, of a file and of what is compressed at a time, px.
    dtype
        Of the pixels, in this machine's order of bytes.
    packed
        Whether chunks are compressed.
    fetched
        Of an array in a bucket: the shards that were read last, whole.
    """

    folder: Path
    shape: tuple[int, int]
    shard: tuple[int, int]
    chunk: tuple[int, int]
    dtype: np.dtype[Any]
    packed: bool
    fetched: "FetchedBytes | None" = field(default=None, compare=False)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the metadata of an array.

        Raises
        ------
        OSError
            There is none, or it cannot be read.
        ValueError, TypeError, LookupError, ArithmeticError
            It is damaged, or describes an array of another form.
        """
        metadata = json.loads((folder / "zarr.json").read_bytes())
        (sharding,) = metadata["codecs"]
        form = sharding["configuration"]
        ny, nx = metadata["shape"]
        rows, columns = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        height, width = form["chunk_shape"]
        packed = len(form["codecs"]) == 3
        if sharding["name"] != "sharding_indexed" or not _as_written(form, packed) or rows % height or columns % width:
            raise ValueError(f"its codecs are {json.dumps(metadata['codecs'])}")
        dtype = np.dtype(metadata["data_type"])
        fetched = FetchedBytes(folder) if isinstance(folder, BucketPath) else None
        return cls(folder, (ny, nx), (rows, columns), (height, width), dtype, packed, fetched)

    def read(self, y0: int, x0: int, y1: int, x1: int) -> NDArray[Any]:
        """Return the pixels [y0:y1, x0:x1], half open; they lie within the array.

        Raises
        ------
        OSError
            A shard is missing or cannot be read.
        ValueError, RuntimeError
            A shard is too short, or a chunk or the index does not match its checksum.
        """
        found = np.empty((y1 - y0, x1 - x0), self.dtype)
        pixels = np.empty(self.chunk, self.dtype)
        cells = list(_cells(self.shard, y0, x0, y1, x1))
        for n, (row, column) in enumerate(cells):
            corner = row * self.shard[0], column * self.shard[1]
            inside = _overlap(corner, self.shard, (y0, x0, y1, x1))
            with self._opened(cells[n:]) as shard:
                for place in _cells(self.chunk, *(inside[i] - corner[i % 2] for i in range(4))):
                    start = corner[0] + place[0] * self.chunk[0], corner[1] + place[1] * self.chunk[1]
                    top, left, bottom, right = _overlap(start, self.chunk, inside)
                    self._decode(shard.chunk(*place), pixels)
                    found[top - y0 : bottom - y0, left - x0 : right - x0] = pixels[
                        top - start[0] : bottom - start[0], left - start[1] : right - start[1]
                    ]
        return found

    @contextmanager
    def _opened(self, cells: Sequence[tuple[int, int]]) -> "Iterator[_Shard]":
        """Open the first of some shards to be read; in a bucket the others are fetched concurrently."""
        if self.fetched is not None:
            content = self.fetched.first(cells)
            yield _Shard(lambda length, offset: content[offset : offset + length], len(content), self.shard, self.chunk)
            return
        row, column = cells[0]
        with (self.folder / "c" / str(row) / str(column)).open("rb", buffering=0) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            yield _Shard(partial(os.pread, descriptor), size, self.shard, self.chunk)

    def _decode(self, content: bytes, pixels: NDArray[Any]) -> None:
        if self.packed:
            blosc.decompress(content, pixels)
        else:
            pixels[:] = np.frombuffer(content, pixels.dtype).reshape(pixels.shape)


class FetchedBytes:
    """Shards of an array in a bucket, each read by one request; some are kept for the tile that is read next."""

    KEPT = 8
    """Shards at a time, of up to 4 MB each."""

    def __init__(self, folder: BucketPath) -> None:
        self._folder = folder
        self._kept: dict[tuple[int, int], bytes] = {}

    def first(self, cells: Sequence[tuple[int, int]]) -> bytes:
        """Return the bytes of the first shard; those after it are asked for at the same time.

        Raises
        ------
        FileNotFoundError, Misconfigured, Retryable
            As `BucketPath.read_bytes`.
        """
        if cells[0] not in self._kept:
            # Of the shards of the tile before, those that this one needs are there already.
            self._kept = {cell: self._kept[cell] for cell in cells[: self.KEPT] if cell in self._kept}
            wanted = [cell for cell in cells[: self.KEPT] if cell not in self._kept]
            found = read_files(self._folder / "c" / str(row) / str(column) for row, column in wanted)
            for cell, content in zip(wanted, found, strict=True):
                if not isinstance(content, bytes):
                    raise content
                self._kept[cell] = content
        return self._kept[cells[0]]


class _Shard:
    """Bytes of one shard: chunks, then their index."""

    def __init__(
        self, read: Callable[[int, int], bytes], size: int, shard: tuple[int, int], chunk: tuple[int, int]
    ) -> None:
        self._read = read
        rows, columns = shard[0] // chunk[0], shard[1] // chunk[1]
        length = rows * columns * _ENTRY + _CRC
        self._end = size - length
        if self._end < 0:
            raise ValueError("a shard is shorter than its index")
        self._index = np.frombuffer(self._checked(self._end, length), "<u8").reshape(rows, columns, 2)

    def chunk(self, row: int, column: int) -> bytes:
        """Return the bytes of a chunk, without its checksum."""
        offset, length = self._index[row, column].tolist()
        if offset + length > self._end:  # also where a chunk was never written
            raise ValueError(f"chunk {row}, {column} of a shard is not in its file")
        return self._checked(offset, length)

    def _checked(self, offset: int, length: int) -> bytes:
        content = self._read(length, offset)
        body, checksum = content[:-_CRC], content[-_CRC:]
        if len(content) != length or google_crc32c.value(body) != int.from_bytes(checksum, "little"):
            raise ValueError(f"bytes {offset} to {offset + length} of a shard do not match their checksum")
        return body


def _as_written(form: Mapping[str, Any], packed: bool) -> bool:
    codecs = form["codecs"]
    return bool(
        codecs[0] == _LITTLE
        and codecs[-1] == _CHECKSUM
        and len(codecs) == 2 + packed
        and (not packed or codecs[1]["name"] == "blosc")
        and form["index_codecs"] == [_LITTLE, _CHECKSUM]
        and form.get("index_location", "end") == "end"
    )


def _cells(side: tuple[int, int], y0: int, x0: int, y1: int, x1: int) -> Iterator[tuple[int, int]]:
    """Yield the rows and columns of the cells of a grid that a range of pixels touches."""
    for row in range(y0 // side[0], -(-y1 // side[0]) if y1 > y0 and x1 > x0 else 0):
        for column in range(x0 // side[1], -(-x1 // side[1])):
            yield row, column


def _overlap(
    start: tuple[int, int], side: tuple[int, int], box: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Return what a cell and a range of pixels share: y0, x0, y1, x1."""
    return (
        max(start[0], box[0]),
        max(start[1], box[1]),
        min(start[0] + side[0], box[2]),
        min(start[1] + side[1], box[3]),
    )
