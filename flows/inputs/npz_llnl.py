"""Stacks of difference images from the LLNL challenge, read one image at a time."""

import errno
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from lzma import LZMAError
from pathlib import PurePosixPath
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from flows.inputs.files import open_part
from flows.inputs.source import RawExposure, require_size
from schemas.errors import BadInput, read_failure
from schemas.exposure import ExposureKey

_BLOCK = 2**18
_MEMBER = "data.npy"
_MOST_INFLATED = 1032  # maximum number of bytes per byte of deflate (https://zlib.net/zlib_tech.html)
_LOCAL_HEADER = 30  # bytes of a zip local file header before name and extra field (APPNOTE 4.3.7)


@dataclass(frozen=True)
class StackForm:
    """Shape (n, ny, nx) and dtype of a stack, and the size of the npy header, bytes."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    header_bytes: int

    @property
    def image_bytes(self) -> int:
        """Return the size of one image, bytes."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize


def stack_form(file: IO[bytes], where: str) -> StackForm:
    """Read shape and dtype of a stack without its pixels.

    Raises
    ------
    BadInput
        ``damaged``: not a readable zip or npy; ``missing_member``; ``wrong_dimensions``; ``wrong_dtype``;
        ``too_large`` (see `flows.inputs.source.require_size`); ``truncated``: it claims more images than its bytes
        can hold.
    """
    with zip_damage(where), _archive(file, where) as archive:
        info = archive.getinfo(_MEMBER)
        with archive.open(info) as start:
            form = _form(start, where)
        file.seek(0, io.SEEK_END)
        held = min(info.file_size, _MOST_INFLATED * min(info.compress_size, file.tell()))
        needed = form.header_bytes + form.shape[0] * form.image_bytes
        if needed > held:
            raise BadInput(
                "truncated",
                where,
                f"its header claims {form.shape[0]} images of {form.image_bytes} bytes, it holds {held} bytes at most.",
                "fetch the file again.",
            )
        return form


def stack_image(file: IO[bytes], where: str, index: int) -> NDArray[Any]:
    """Read image ``index`` of a stack; only that image is held in memory.

    In a stored member the image is found by a seek, so the archive's CRC, which covers all images, is not checked; a
    deflated member must be inflated up to the image.

    Returns
    -------
    (ny, nx) array of the stack's dtype

    Raises
    ------
    BadInput
        As for `stack_form`; ``no_such_image``; ``truncated``.
    """
    with zip_damage(where), _archive(file, where) as archive:
        info = archive.getinfo(_MEMBER)
        with archive.open(info) as start:
            form = _form(start, where)
        if not 0 <= index < form.shape[0]:
            raise BadInput(
                "no_such_image", where, f"there is no image {index} among {form.shape[0]}.", "name another index."
            )
        offset = form.header_bytes + index * form.image_bytes
        if info.compress_type == zipfile.ZIP_STORED:
            file.seek(info.header_offset)
            local = file.read(_LOCAL_HEADER)
            names = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            file.seek(info.header_offset + _LOCAL_HEADER + names + offset)
            return _pixels(file, form, where)
        with archive.open(info) as inflated:
            _skip(inflated, offset, where)
            return _pixels(inflated, form, where)


@contextmanager
def zip_damage(where: str) -> Iterator[None]:
    """Convert the errors of zipfile and numpy on damaged bytes to `BadInput`."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, LZMAError, EOFError, ValueError, KeyError, RuntimeError, TokenError, OSError,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a seek before the start of the file
            raise
        raise BadInput(
            "damaged",
            where,
            f"cannot be read as npz: {read_failure(error)}.",
            "fetch the file again, or write it with numpy.savez.",
        ) from error


@contextmanager
def _archive(file: IO[bytes], where: str) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(file) as archive:
        if _MEMBER not in archive.namelist():
            raise BadInput(
                "missing_member",
                where,
                f"the npz has no array 'data', only {', '.join(archive.namelist()) or 'nothing'}.",
                "store the images (n, ny, nx) under the key 'data'.",
            )
        yield archive


def _form(start: IO[bytes], where: str) -> StackForm:
    version = npy.read_magic(start)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, by_columns, dtype = read(start)
    except MemoryError as error:  # from Python's parser, whose stack is limited
        raise ValueError("the header of its array is nested too deep") from error
    if len(shape) != 3 or by_columns:
        raise BadInput(
            "wrong_dimensions",
            where,
            f"the array has shape {shape}{' in column order' if by_columns else ''}, must be (n, ny, nx) by rows.",
            "store a stack of images as a C-ordered array.",
        )
    if dtype.hasobject or dtype.kind not in "fiu":
        raise BadInput("wrong_dtype", where, f"pixels are {dtype}, must be real numbers.", "store them as float32.")
    if min(shape) < 1:
        raise BadInput("wrong_dimensions", where, f"the array has shape {shape}, no image.", "store some images.")
    form = StackForm((shape[0], shape[1], shape[2]), dtype, start.tell())
    require_size(form.image_bytes, where, "an image of the stack")
    return form


def _skip(file: IO[bytes], count: int, where: str) -> None:
    """Read past ``count`` bytes; zipfile's own seek would hold 32 MB at a time."""
    while count:
        block = file.read(min(_BLOCK, count))
        if not block:
            raise BadInput("truncated", where, "the member ends before the image.", "fetch the file again.")
        count -= len(block)


def _pixels(file: IO[bytes], form: StackForm, where: str) -> NDArray[Any]:
    data = bytearray(form.image_bytes)
    view, filled = memoryview(data), 0
    while filled < len(data):
        block = file.read(min(_BLOCK, len(data) - filled))
        if not block:
            raise BadInput(
                "truncated", where, f"the image ends after {filled} of {len(data)} bytes.", "fetch the file again."
            )
        view[filled : filled + len(block)] = block
        filled += len(block)
    return np.frombuffer(data, form.dtype).reshape(form.shape[1:])


_NIGHT, _MIDPOINT = "20000101", 51544.5
"""Assumed night and time: the files have none."""

MOST_IMAGES = 1000
"""Maximum number of images per file: as many as visit numbers have room for."""


def is_truth(uri: str) -> bool:
    """Return whether a file is the table of injected asteroids that belongs to a stack."""
    return PurePosixPath(uri).name.startswith("asteroid_injected_information")


def image_count(uri: str) -> int:
    """Return the number of images in a stack.

    Raises
    ------
    BadInput, Retryable
        See `stack_form` and `failures`.
    """
    with open_part(uri) as file:
        return stack_form(file, uri).shape[0]


def stack_key(uri: str, index: int | None) -> ExposureKey:
    """Return the key of image ``index`` of a stack: the visit is 1000 i + index for ``..._<i>.npz``.

    For a file without a number, i comes from the CRC-32 of its name. Night and detector are always the same.

    Raises
    ------
    BadInput
        ``no_such_image``: no index, or one above 999. If the images could not be counted: as for `image_count`.
    """
    if index is None:
        image_count(uri)  # raises the reason
    if index is None or not 0 <= index < MOST_IMAGES:
        raise BadInput(
            "no_such_image",
            uri,
            f"image {index} of a stack, must be 0 to {MOST_IMAGES - 1}; none behind it is searched.",
            "split the stack.",
        )
    stem = PurePosixPath(uri).stem
    number = re.search(r"(\d{1,9})$", stem)
    file_number = int(number[1]) if number else zlib.crc32(stem.encode())
    return ExposureKey(night=_NIGHT, visit=file_number * MOST_IMAGES + index, detector=0)


def read_stack_image(uri: str, index: int | None) -> RawExposure:
    """Read one image of a stack.

    Raises
    ------
    BadInput, Retryable
        See `stack_image`, `stack_key` and `failures`.
    """
    key = stack_key(uri, index)
    with open_part(uri) as file:
        pixels = stack_image(file, uri, index or 0)
    digest = sha256(repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes()).hexdigest()
    with np.errstate(over="ignore"):
        difference = pixels.astype(np.float32)
    return RawExposure(
        key=key,
        instrument="LLNL challenge",
        band="unknown",
        midpoint_mjd_tai=_MIDPOINT,
        exposure_time_s=0.0,
        zero_point=None,
        zero_point_err=None,
        gain=None,
        saturation=None,
        wcs_header=None,
        psf=None,
        pixel_unit="adu",
        planes={"difference": difference, "mask": np.zeros(difference.shape, np.uint16)},
        flags=("no_time", "no_wcs", "no_zero_point"),
        source_uri=f"{uri}[{index}]",
        source_sha256=digest,
    )
