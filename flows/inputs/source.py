"""Source of an exposure: its files, the sizes allowed, and the exposure as it was read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsspec.core import split_protocol

from schemas.errors import BadInput
from schemas.exposure import ExposureKey, PsfModel

REFERENCE = "reference"
"""Plane of a template that is to be subtracted; ``template`` is one on the pixels of a difference image."""

AN_ALERT = "<an alert>"
"""Stands for all messages of a topic that are alerts: they name no exposure."""

LARGEST = 4 * 2**30
"""Bytes: a mosaic of 32,768 x 32,768 px in float32."""


@dataclass(frozen=True)
class Source:
    """Files of one exposure.

    Attributes
    ----------
    uri
        Of the difference image: local path or fsspec URL. One that ends in ``/`` is a folder that could not be listed.
    siblings
        (plane, uri) of ``science``, ``template``, ``mask``, ``variance`` and ``psf`` in files of their own; and of
        ``reference``, a template on any grid that is to be subtracted: then ``uri`` is of a science image.
    index
        Which image of an npz stack; None for other files.
    overrides
        (field, value) from a manifest, in place of what the header says: ``visit``, ``detector``, ``band``, ...
    refusal
        Why it cannot be looked at, where that was found while listing.
    """

    uri: str
    siblings: tuple[tuple[str, str], ...] = ()
    index: int | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    refusal: BadInput | None = None

    @property
    def is_folder(self) -> bool:
        """Return whether it stands for a folder that could not be listed; probing it gives the reason."""
        return self.uri.endswith("/")


def uri_of(fs: Any, path: str, given: str) -> str:
    """Write a path of ``fs`` as it can be opened again: local ones plain, others with their protocol."""
    if split_protocol(given)[0] in (None, "file", "local"):
        return path
    url = str(fs.unstrip_protocol(path))
    # fsspec writes memory:///x for memory://x.
    return url if ":///" in given else url.replace(":///", "://", 1)


def name_of(source: Source) -> str:
    """Return the uri of a source, with the place in a stack; equals the ``source_uri`` of the exposure read from it."""
    return source.uri if source.index is None else f"{source.uri}[{source.index}]"


IN_MEMORY = "array in memory"
"""What messages call an image that no file holds."""


@dataclass(frozen=True)
class RawExposure:
    """Pixels, and what the header says of them.

    Attributes
    ----------
    planes
        ``difference`` (float32, may hold NaN and infinities) and ``mask`` (uint16, bits of `MaskPlane`) always;
        ``variance``, ``science`` and ``template`` (float32) where there are any. All (ny, nx); of a large image they
        are `flows.inputs.image_rows.PlaneRows`.
    flags
        What is not known or was assumed: no_wcs, no_zero_point, no_time, template_not_aligned; and subtracted.
    source_sha256
        Of the bytes of all files, in the order difference, then siblings by plane; for an image of a stack, of its
        own bytes.
    file_sha256
        (uri, SHA-256 of its bytes) of each file; empty for an image of a stack.
    subtraction_residual
        Median share of the light of bright stars that is left, where the image was subtracted here.
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
    planes: Mapping[str, Any]
    flags: tuple[str, ...]
    source_uri: str
    source_sha256: str
    file_sha256: tuple[tuple[str, str], ...] = ()
    subtraction_residual: float | None = None


def require_size(size: int, where: str, what: str) -> None:
    """Refuse what would be larger than `LARGEST` before anything of it is unpacked.

    Parameters
    ----------
    size
        Bytes, unpacked.
    where
        Uri, for messages.
    what
        Which part of the file it is.

    Raises
    ------
    BadInput
        ``too_large``.
    """
    if size > LARGEST:
        raise BadInput(
            "too_large",
            where,
            f"{what} unpacks to {size / 2**30:.1f} GiB or more, the limit is {LARGEST / 2**30:.0f} GiB.",
            "if it is an image and no attack, cut it into detectors first.",
        )
