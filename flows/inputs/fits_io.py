"""FITS bytes: headers without pixels, and pixels after all checks."""

import gzip
import io
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import IO, Any, NamedTuple, cast

from astropy.io import fits
from numpy.typing import NDArray

from flows.inputs import source as given
from flows.inputs.files import FITS, GZIP, content_kind
from flows.inputs.fits_damage import bad_checksum, damage, gzip_damage, is_stated, truncated
from flows.inputs.fits_header import Headers, image_shape, no_image, one_image, true_pixels
from flows.inputs.fits_tiles import require_tiles
from schemas.errors import BadInput

BITPIX = (8, 16, 32, 64, -32, -64)
"""Codes of the types of pixels (FITS 4.0, table 8)."""

_BLOCK = 2880  # bytes of a FITS block
_PIECE = 2**16  # bytes read at once
_PADDING = 2**16  # maximum number of zeros after gzipped bytes
_EXTENSION = b"XTENSION"

MOST_HEADER_BYTES = 2**25
"""Maximum size of all headers of a file, bytes: those of a mosaic of 100 CCDs take 3 MB."""


MOST_BEHIND = 2**20
"""Maximum number of bytes after the last HDU of a file: padding; a file with more is refused without unpacking it."""


class Extent(NamedTuple):
    """Contents of a file according to its headers.

    Attributes
    ----------
    headers
        Headers of all HDUs as stored in the file, without their pixels. Tile-compressed images appear as the binary
        tables that hold them (``ZIMAGE``, ``ZNAXIS``).
    end
        End of the last HDU, bytes, unpacked.
    held
        Bytes that the file takes in memory: its own and, if it is gzipped, the unpacked ones.
    """

    headers: tuple[fits.Header, ...]
    end: int
    held: int


def read_headers(file: IO[bytes], where: str) -> tuple[fits.Header, ...]:
    """Read the headers of all HDUs, skipping the pixels; errors as for `read_extent`."""
    return read_extent(file, where).headers


def read_extent(file: IO[bytes], where: str, require: Callable[[Headers], None] = lambda _: None) -> Extent:
    """Read the headers of all HDUs, skipping the pixels, and find where the HDUs end.

    A gzipped file is unpacked only as far as its headers say, and nothing of it is kept.

    Parameters
    ----------
    file, where
        File to read; its URI, for messages.
    require
        Called after each header with those so far; an error that it raises ends the reading.

    Raises
    ------
    BadInput
        ``empty_file``, ``not_fits``, ``truncated``, ``damaged`` or ``bad_checksum`` (gzip's CRC); ``too_large``: more
        than `MOST_HEADER_BYTES` of headers, more than `MOST_BEHIND` after the last HDU, or an unpacked size beyond the
        limit.
    """
    zipped = content_kind(file.read(len(FITS)), where) == "gzip"
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with _unpacked(file, where) if zipped else nullcontext(file) as plain, damage(where), gzip_damage(where):
        if zipped:
            content_kind(plain.read(len(FITS)), where)
            plain.seek(0)
        counted = io.BufferedReader(_Counted(plain, where, given.LARGEST if zipped else size), _BLOCK)
        headers, end = _walked(counted, None if zipped else size, where, require)
        _require_little(max(size, _end_of(plain, end) if zipped else 0) - end, where)
    return Extent(headers, end, size + (end if zipped else 0))


def _walked(
    plain: IO[bytes], size: int | None, where: str, require: Callable[[Headers], None]
) -> tuple[tuple[fits.Header, ...], int]:
    """Read headers as long as an extension follows the previous HDU; return them and the end of the last."""
    headers: list[fits.Header] = []
    start, end = _EXTENSION, 0
    while start == _EXTENSION:
        plain.seek(end)
        headers.append(fits.Header.fromfile(plain))
        require(tuple(headers))
        end = plain.tell() + _stored_bytes(headers[-1])
        if size is not None and end > size:
            raise truncated(where, f"HDU {len(headers) - 1} ends at byte {end}, the file has {size}")
        end += -end % _BLOCK
        plain.seek(end)
        start = plain.read(len(_EXTENSION))
    return tuple(headers), end


def _stored_bytes(header: fits.Header) -> int:
    """Return the stored size of an HDU's data, without padding (FITS 4.0, equations 1 to 3)."""
    sides = [int(header[f"NAXIS{axis}"]) for axis in range(1, int(header["NAXIS"]) + 1)]
    if not sides:
        return 0
    if min(sides) < 0:
        raise ValueError(f"axes {sides}")
    if header.get("GROUPS") is True and sides[:1] == [0]:
        sides = sides[1:]
    groups, before = int(header.get("GCOUNT", 1)), int(header.get("PCOUNT", 0))
    if groups < 0 or before < 0:
        raise ValueError(f"GCOUNT = {groups}, PCOUNT = {before}")
    if (bits := int(header["BITPIX"])) not in BITPIX:
        raise fits.VerifyError(f"BITPIX is {bits}, must be one of {', '.join(map(str, BITPIX))}")
    return abs(bits) // 8 * groups * (before + math.prod(sides))


def _unpacked(file: IO[bytes], where: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=cast("IO[bytes]", _Packed(file, where))))


def _end_of(plain: IO[bytes], end: int) -> int:
    """Return where gzipped bytes end, but no more than a little beyond `MOST_BEHIND`; this also checks gzip's CRC."""
    while plain.tell() <= end + MOST_BEHIND and plain.read(_PIECE):
        pass
    return plain.tell()


def _require_little(behind: int, where: str, most: int = MOST_BEHIND) -> None:
    if behind > most:
        raise BadInput(
            "too_large",
            where,
            f"{behind / 2**10:,.0f} kiB or more stand behind its last HDU, the limit is {most / 2**10:,.0f} kiB.",
            "remove what follows the last image, or fetch the file again.",
        )


class _Packed:
    """Gzipped file with a limited number of zeros at its end, which `gzip` skips one by one."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._file, self._where, self._zeros = file, where, 0
        self.seek, self.seekable, self.tell = file.seek, file.seekable, file.tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._zeros = self._zeros + 1 if data == b"\0" else 0
        _require_little(self._zeros, self._where, _PADDING)
        return data


class _Counted(io.RawIOBase):
    """File of which only a limited amount may be read: headers, while pixels are skipped.

    A seek takes place only with the next read: seeking the end would make gzip unpack everything.
    """

    def __init__(self, file: Any, where: str, size: int) -> None:
        self._file, self._where, self._size, self._at, self._read = file, where, size, 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        if self._at != self._file.tell():
            given.require_size(self._at if isinstance(self._file, gzip.GzipFile) else 0, self._where, "the file")
            self._file.seek(self._at)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        self._read += len(data)
        if self._read > MOST_HEADER_BYTES:
            raise BadInput(
                "too_large",
                self._where,
                f"its headers take more than {MOST_HEADER_BYTES / 2**20:.0f} MiB.",
                "remove what follows the last image, or fetch the file again.",
            )
        return len(data)


def unzipped(data: bytes, where: str, most: int) -> bytes:
    """Unpack the bytes of a file that is gzipped as a whole; return others unchanged.

    Parameters
    ----------
    data
        Bytes of the file.
    where
        URI, for messages.
    most
        Maximum number of unpacked bytes; nothing beyond is unpacked.

    Raises
    ------
    BadInput
        ``truncated``; ``bad_checksum`` if gzip's CRC does not match; ``too_large``.
    """
    if not data.startswith(GZIP):
        return data
    with gzip_damage(where), gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        plain = file.read(most + 1)
    if len(plain) > most:
        raise BadInput("too_large", where, f"it unpacks to more than {most} bytes.", "fetch it again.")
    return plain


class FitsContent:
    """HDUs of a file that is completely in memory.

    Parameters
    ----------
    data
        The file's bytes, not gzipped.
    where
        URI, for messages.
    verify
        Check CHECKSUM and DATASUM of each HDU that is read, if present.
    """

    def __init__(self, data: bytes, where: str, *, verify: bool = True) -> None:
        self._data, self._where, self._verify = data, where, verify
        content_kind(data[: len(FITS)], where)
        self.headers = read_headers(io.BytesIO(data), where)

    def image(self, index: int) -> NDArray[Any]:
        """Return the pixels of an image as stored: any dtype, any number of axes.

        Raises
        ------
        BadInput
            ``truncated``, ``bad_checksum`` or ``damaged``; ``no_image`` if the HDU is not an image; ``too_large`` (see
            `flows.inputs.source.require_size` and `flows.inputs.fits_tiles.require_tiles`).
        """
        with damage(self._where):
            size = _unpacked_bytes(self.headers[index])
        given.require_size(size, self._where, f"HDU {index}")
        with damage(self._where):
            if self._verify:
                self._verify_sums(index)
            require_tiles(self._data, index, self._where)
            with fits.open(io.BytesIO(self._data), memmap=False) as file:
                hdu = file[index]
                pixels = None if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) else hdu.data
        if pixels is None:
            raise no_image(self._where)
        pixels = pixels[one_image(pixels.ndim, image_shape(self.headers[index]))]
        return true_pixels(pixels, self.headers[index])

    def check(self) -> None:
        """Check CHECKSUM and DATASUM of every HDU that has them; no pixel is decoded.

        Raises
        ------
        BadInput
            ``bad_checksum`` or ``damaged``.
        """
        with damage(self._where):
            for index in range(len(self.headers)):
                self._verify_sums(index)

    def _verify_sums(self, index: int) -> None:
        # The sums are of the bytes on disk: of a compressed image, those of its binary table.
        with fits.open(io.BytesIO(self._data), memmap=False, disable_image_compression=True) as file:
            hdu = file[index]
            sums = (("DATASUM", hdu.verify_datasum), ("CHECKSUM", hdu.verify_checksum))
            wrong = [name for name, verdict in sums if is_stated(hdu.header, name) and verdict() == 0]
        if wrong:
            raise bad_checksum(self._where, f"{' and '.join(wrong)} of HDU {index}")


def _unpacked_bytes(header: fits.Header) -> int:
    sides = image_shape(header)
    prefix = "Z" if header.get("ZIMAGE") else ""
    return math.prod(sides) * abs(int(header.get(f"{prefix}BITPIX", 8))) // 8 if sides else 0
