"""FITS files of large images, whose pixels are read some rows at a time."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from weakref import finalize

import numpy as np
from astropy.io import fits
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from flows.inputs.files import STREAM, content_kind, file_system, open_part, patient, read_failures
from flows.inputs.fits_damage import bad_checksum, damage, gzip_damage, is_stated
from flows.inputs.fits_header import Headers, image_shape, is_image, no_image, one_image, true_pixels
from flows.inputs.fits_tiles import require_tiles
from flows.inputs.image_rows import PlaneRows
from flows.inputs.source import require_size


class FitsRows:
    """HDUs of a FITS file that stays on disk; the counterpart of `flows.inputs.fits_io.FitsContent`.

    Parameters
    ----------
    uri
        Location of the file; one that is gzipped, or not on this machine, is copied first.
    headers, size
        Headers of all its HDUs, and the maximum number of bytes it may unpack to.
    digest
        Digest that is updated with its bytes.
    scratch
        Folder for copies, which are deleted with the object.
    verify
        Check CHECKSUM and DATASUM of each HDU that is read, if present.

    Raises
    ------
    BadInput, Retryable
        The file cannot be read or copied.
    """

    def __init__(self, uri: str, headers: Headers, size: int, digest: Any, scratch: Path, *, verify: bool) -> None:
        self.headers, self._where, self._verify = headers, uri, verify
        copy = _copied(uri, scratch)
        self._path = Path(str(file_system(uri)[1])) if copy is None else self._kept(copy)
        with self._path.open("rb") as file:
            zipped = content_kind(file.read(9), uri) == "gzip"
            file.seek(0)
            while piece := file.read(STREAM):
                digest.update(piece)
        if zipped:
            self._path = self._kept(_unpacked(self._path, uri, size, scratch))

    def _kept(self, copy: Any) -> Path:
        finalize(self, copy.close)  # which removes it
        return Path(copy.name)

    def image(self, index: int) -> PlaneRows:
        """Return the pixels of an image as stored: any dtype, any number of axes; errors as for `FitsContent.image`."""
        header = self.headers[index]
        with damage(self._where):
            if not is_image(header):
                raise no_image(self._where)
            shape, bits = image_shape(header), int(header.get("ZBITPIX" if header.get("ZIMAGE") else "BITPIX", 8))
            require_size(math.prod(shape) * abs(bits) // 8, self._where, f"HDU {index}")
            if self._verify:
                self._verify_sums(index)
            require_tiles(self._path, index, self._where)
        kind = self._read(index, 0, 1).dtype
        return PlaneRows(shape, kind, lambda y0, y1: self._read(index, y0, y1))

    def _read(self, index: int, y0: int, y1: int) -> NDArray[Any]:
        with damage(self._where), fits.open(self._path, memmap=False) as file:
            image = file[index]
            rows = (*one_image(len(image.shape), image_shape(self.headers[index])), slice(y0, y1))
            return true_pixels(np.asarray(image.section[rows]), self.headers[index])

    def _verify_sums(self, index: int) -> None:
        """Check the sums of the bytes on disk, as `FitsContent` does."""
        with fits.open(self._path, disable_image_compression=True) as file:
            header, place = file[index].header, file[index].fileinfo()
        start, data, end = place["hdrLoc"], place["datLoc"], place["datLoc"] + place["datSpan"]
        with self._path.open("rb") as opened:
            head, body = _sum(opened, start, data), _sum(opened, data, end)
        stated = str(header["DATASUM"] if is_stated(header, "DATASUM") else body).strip()
        wrong = ["DATASUM"] if not stated.isdigit() or int(stated) != body else []
        if is_stated(header, "CHECKSUM") and _folded(head + body) not in (0, 2**32 - 1):
            wrong.append("CHECKSUM")
        if wrong:
            raise bad_checksum(self._where, f"{' and '.join(wrong)} of HDU {index}")


def _sum(file: IO[bytes], start: int, end: int) -> int:
    """Return the ones' complement sum of the 32-bit words in part of a file (FITS 4.0, appendix J)."""
    file.seek(start)
    total = 0
    while piece := file.read(min(STREAM, end - start)):
        start += len(piece)
        total += int(np.frombuffer(piece + b"\0" * (-len(piece) % 4), ">u4").sum(dtype=np.uint64))
    return _folded(total)


def _folded(total: int) -> int:
    while total >= 2**32:
        total = (total & (2**32 - 1)) + (total >> 32)
    return total


def _copied(uri: str, scratch: Path) -> Any:
    """Copy a file that is not on this machine; return None if it is."""
    if isinstance(file_system(uri)[0], LocalFileSystem):
        return None

    def once() -> Any:
        with _new(scratch) as copy, open_part(uri, STREAM) as file:
            while piece := file.read(STREAM):
                copy.write(piece)
        return copy

    return patient(uri, once)


def _unpacked(path: Path, where: str, most: int, scratch: Path) -> Any:
    with _new(scratch) as copy, gzip_damage(where), path.open("rb") as packed, GzipFile(fileobj=packed) as file:
        while copy.tell() <= most and (piece := file.read(STREAM)):
            copy.write(piece)
    return copy


@contextmanager
def _new(scratch: Path) -> Iterator[Any]:
    with read_failures(str(scratch)):
        scratch.mkdir(parents=True, exist_ok=True)
        copy = NamedTemporaryFile(dir=scratch)  # noqa: SIM115 - it is there until it is closed
        try:
            yield copy
            copy.flush()
        except BaseException:
            copy.close()
            raise
