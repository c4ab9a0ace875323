"""The LLNL challenge's stacks of difference images: pixels, and nothing else."""

import re
import zlib
from hashlib import sha256
from pathlib import PurePosixPath

import numpy as np

from flows.adapters.files import open_part
from flows.adapters.npz_stack import stack_form, stack_image
from flows.adapters.raw_exposure import RawExposure
from schemas.errors import BadInput
from schemas.exposure import ExposureKey

_NIGHT, _MIDPOINT = "20000101", 51544.5
"""Assumed: the files say nothing of time."""

_IMAGES = 1000  # room for the images of one file in the visit numbers


def is_truth(uri: str) -> bool:
    """Tell whether a file is the table of injected asteroids that goes with a stack."""
    return PurePosixPath(uri).name.startswith("asteroid_injected_information")


def image_count(uri: str) -> int:
    """Give how many images a stack holds.

    Raises
    ------
    BadInput, Retryable
        See `stack_form` and `failures`.
    """
    with open_part(uri) as file:
        return stack_form(file, uri).shape[0]


def stack_key(uri: str, index: int | None) -> ExposureKey:
    """Name image ``index`` of a stack: the visit is 1000 i + index for ``..._<i>.npz``.

    A file without a number gets one from the CRC-32 of its name. Night and detector are always the same.

    Raises
    ------
    BadInput
        ``no_such_image``: no index, or one above 999.
    """
    if index is None or not 0 <= index < _IMAGES:
        raise BadInput(
            "no_such_image", uri, f"image {index} of a stack, must be 0 to {_IMAGES - 1}.", "split the stack."
        )
    stem = PurePosixPath(uri).stem
    number = re.search(r"(\d{1,9})$", stem)
    file_number = int(number[1]) if number else zlib.crc32(stem.encode())
    return ExposureKey(night=_NIGHT, visit=file_number * _IMAGES + index, detector=0)


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
