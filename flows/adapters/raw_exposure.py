"""An exposure as it was read, before anything is computed from its pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from schemas.exposure import ExposureKey, PsfModel


@dataclass(frozen=True)
class RawExposure:
    """Pixels and what the header says of them.

    Attributes
    ----------
    planes
        ``difference`` (float32, may hold NaN and infinities) and ``mask`` (uint16, bits of `MaskPlane`) always;
        ``variance``, ``science`` and ``template`` (float32) where there are any. All (ny, nx).
    flags
        What is not known or was assumed: no_wcs, no_zero_point, no_time, template_not_aligned.
    source_sha256
        Of the bytes of all files, in the order difference, then siblings by plane; for an image of a stack, of its
        own bytes.
    """

    key: ExposureKey
    instrument: str
    band: str
    midpoint_mjd_tai: float
    exposure_time_s: float
    zero_point: float | None
    zero_point_err: float | None
    gain: float | None
    saturation: float | None
    wcs_header: str | None
    psf: PsfModel | None
    pixel_unit: str
    planes: Mapping[str, NDArray[Any]]
    flags: tuple[str, ...]
    source_uri: str
    source_sha256: str
