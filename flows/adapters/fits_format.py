"""What the reader must know of a kind of FITS file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from astropy.io import fits
from numpy.typing import NDArray

from schemas.exposure import ExposureKey, PsfModel
from schemas.keyword_mapping import KeywordMapping

Headers = tuple[fits.Header, ...]


class Identity(NamedTuple):
    """Which exposure it is, and when and how it was made."""

    key: ExposureKey
    instrument: str
    band: str
    midpoint_mjd_tai: float
    exposure_time_s: float


class Calibration(NamedTuple):
    """What the pixel values mean; None where the header does not say."""

    pixel_unit: str
    zero_point: float | None
    zero_point_err: float | None
    gain: float | None
    saturation: float | None
    psf: PsfModel | None


@dataclass(frozen=True)
class FitsFormat:
    """One kind of FITS file.

    Parameters
    ----------
    name
        For messages.
    matches
        Whether headers are of this kind, judged by keywords alone.
    layout
        Plane -> index of its HDU; ``difference`` always.
    identity
        Headers, uri, mapping -> `Identity`.
    calibration
        Headers, uri, mapping, WCS cards -> `Calibration`.
    mask_bits
        A mask of this kind and its header -> bits of `MaskPlane`.
    wcs_required
        Whether an image without WCS is bad input, or just flagged.
    """

    name: str
    matches: Callable[[Headers], bool]
    layout: Callable[[Headers, str, KeywordMapping], Mapping[str, int]]
    identity: Callable[[Headers, str, KeywordMapping], Identity]
    calibration: Callable[[Headers, str, KeywordMapping, str | None], Calibration]
    mask_bits: Callable[[NDArray[Any], fits.Header], NDArray[Any]]
    wcs_required: bool
