"""FITS bytes: headers without pixels, and pixels after every check."""

import gzip
import io
import math
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from flows.inputs import source as given
from flows.inputs.files import FITS, GZIP, content_kind
from flows.inputs.fits_header import no_image
from schemas.errors import BadInput, NightstrideError

_MOST_AXES = 999  # FITS 4.0, section 4.4.1
_BLOCK = 2880  # bytes of a FITS block

MOST_HEADER_BYTES = 2**25
"""Of all headers of a file: those of a mosaic of 100 CCDs take 3 MB."""


def read_headers(file: IO[bytes], where: str) -> tuple[fits.Header, ...]:
    """Read the headers of all HDUs as they stand in the file, skipping the pixels.

    Tile-compressed images are the binary tables that they are stored as (``ZIMAGE``, ``ZNAXIS``).

    Raises
    ------
    BadInput
        ``empty_file``, ``not_fits``, ``truncated`` or ``damaged``; ``too_large``: more than `MOST_HEADER_BYTES`, as
        where zeros follow the last image without end, or more than may be unpacked.
    """
    zipped = content_kind(file.read(len(FITS)), where) == "gzip"
    file.seek(0)
    with gzip.GzipFile(fileobj=file) if zipped else _kept_open(file) as plain, damage(where):
        size = None if zipped else plain.seek(0, io.SEEK_END)
        plain.seek(0)
        if zipped:
            content_kind(plain.read(len(FITS)), where)
            plain.seek(0)
        # Not through a path: astropy would map or decompress the file as a whole.
        counted = io.BufferedReader(_Counted(plain, where, zipped=zipped), _BLOCK)
        with fits.open(
            counted, mode="readonly", memmap=False, lazy_load_hdus=True, disable_image_compression=True
        ) as f:
            headers = tuple(hdu.header.copy() for hdu in f)
            if size is not None:
                _require_whole(f, range(len(headers)), size, where)
    return headers


class _Counted(io.RawIOBase):
    """File of which only so much may be read: its headers, while the pixels are skipped."""

    def __init__(self, file: Any, where: str, *, zipped: bool) -> None:
        self._file, self._where, self._zipped, self._read = file, where, zipped, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if self._zipped and whence == io.SEEK_SET:  # all up to there is unpacked
            given.require_allowed(offset, self._where, "the file")
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        if self._read > MOST_HEADER_BYTES:
            raise BadInput(
                "too_large",
                self._where,
                f"its headers take more than {MOST_HEADER_BYTES / 2**20:.0f} MiB.",
                "remove what follows the last image, or fetch the file again.",
            )
        return len(data)


def unzipped(data: bytes, where: str) -> bytes:
    """Undo gzip, if the file is compressed as a whole.

    Raises
    ------
    BadInput
        ``truncated``; ``bad_checksum`` if gzip's CRC does not fit; ``too_large`` (see
        `flows.inputs.source.require_allowed`).
    """
    if not data.startswith(GZIP):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            plain = file.read(given.LARGEST + 1)
    except EOFError as error:
        raise _truncated(where, str(error)) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _bad_checksum(where, f"gzip: {error}") from error
    given.require_allowed(len(plain), where, "the file")
    return plain


class FitsContent:
    """HDUs of one file that is wholly in memory.

    Parameters
    ----------
    data
        The file's bytes, not gzipped.
    where
        Uri, for messages.
    verify
        Compare CHECKSUM and DATASUM of every HDU that is read, where it has them.
    """

    def __init__(self, data: bytes, where: str, *, verify: bool = True) -> None:
        self._data, self._where, self._verify = data, where, verify
        content_kind(data[: len(FITS)], where)
        self.headers = read_headers(io.BytesIO(data), where)

    def image(self, index: int) -> NDArray[Any]:
        """Return the pixels of an image, as stored: any dtype, any rank.

        Raises
        ------
        BadInput
            ``truncated``, ``bad_checksum`` or ``damaged``; ``no_image`` if the HDU holds none; ``too_large`` (see
            `flows.inputs.source.require_allowed`).
        """
        with damage(self._where):
            size = _unpacked_bytes(self.headers[index])
        given.require_allowed(size, self._where, f"HDU {index}")
        with damage(self._where):
            if self._verify:
                self._verify_sums(index)
            with fits.open(io.BytesIO(self._data), memmap=False) as file:
                hdu = file[index]
                pixels = None if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) else hdu.data
        if pixels is None:
            raise no_image(self._where)
        blank = self.headers[index].get("BLANK")
        if blank is not None and pixels.dtype.kind in "iu":
            pixels = np.where(pixels == blank, np.float32(np.nan), pixels)
        return pixels

    def check(self) -> None:
        """Compare CHECKSUM and DATASUM of every HDU that has them; no pixel is decoded.

        Raises
        ------
        BadInput
            ``bad_checksum`` or ``damaged``.
        """
        with damage(self._where):
            for index in range(len(self.headers)):
                self._verify_sums(index)

    def _verify_sums(self, index: int) -> None:
        # The sums are of the bytes on disk: for a compressed image, of its binary table.
        with fits.open(io.BytesIO(self._data), memmap=False, disable_image_compression=True) as file:
            hdu = file[index]
            wrong = [
                name
                for name, verdict in (("DATASUM", hdu.verify_datasum()), ("CHECKSUM", hdu.verify_checksum()))
                if verdict == 0
            ]
        if wrong:
            raise _bad_checksum(self._where, f"{' and '.join(wrong)} of HDU {index}")


def _unpacked_bytes(header: fits.Header) -> int:
    prefix = "Z" if header.get("ZIMAGE") else ""
    axes = int(header.get(f"{prefix}NAXIS", 0))
    if not 0 <= axes <= _MOST_AXES:
        raise ValueError(f"{prefix}NAXIS = {axes}")
    sides = [int(header.get(f"{prefix}NAXIS{axis}", 0)) for axis in range(1, axes + 1)]
    if min(sides, default=0) < 0:
        raise ValueError(f"negative axis among {sides}")
    return math.prod(sides) * abs(int(header.get(f"{prefix}BITPIX", 8))) // 8 if sides else 0


@contextmanager
def _kept_open(file: IO[bytes]) -> Iterator[IO[bytes]]:
    yield file


@contextmanager
def damage(where: str) -> Iterator[None]:
    """Convert what astropy raises to `BadInput`, and silence its warnings: what they report is checked here."""
    with warnings.catch_warnings():
        # Real headers break rules that do not matter here (IRAF dates, lower-case units, missing padding).
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            yield
        except NightstrideError:
            raise
        except Exception as error:  # damaged bytes make astropy and its decoders raise errors of every kind
            if _is_of_network(error) or (isinstance(error, OSError) and not _is_about_bytes(error)):
                raise
            raise BadInput(
                "damaged",
                where,
                f"its bytes cannot be decoded: {type(error).__name__}: {error}.",
                "fetch the file again.",
            ) from error


def _is_of_network(error: Exception) -> bool:
    """Return whether an error is aiohttp's, which is loaded by what reads over HTTP alone: it takes a while."""
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(error, aiohttp.ClientError)


def _is_about_bytes(error: OSError) -> bool:
    """Return whether an error is astropy's or gzip's; those of the file system have a number or their own class."""
    return isinstance(error, gzip.BadGzipFile) or (type(error) is OSError and error.errno is None)


def _require_whole(file: fits.HDUList, indices: range, size: int, where: str) -> None:
    for index in indices:
        end = file.fileinfo(index)["datLoc"] + file[index].size
        if end > size:
            raise _truncated(where, f"HDU {index} ends at byte {end}, the file has {size}")


def _truncated(where: str, detail: str) -> BadInput:
    return BadInput("truncated", where, f"the file ends too early: {detail}.", "fetch it again.")


def _bad_checksum(where: str, detail: str) -> BadInput:
    return BadInput(
        "bad_checksum",
        where,
        f"the bytes do not fit their checksum: {detail}.",
        'fetch the file again, or set fits.checksum = "ignore" if it was edited on purpose.',
    )
