"""Source of an exposure: its files, size limits, and the exposure as read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsspec.core import split_protocol

from schemas.errors import BadInput
from schemas.exposure import ExposureKey, PsfModel

REFERENCE = "reference"
"""Plane of a template to be subtracted; ``template`` is one already on the pixels of a difference image."""

AN_ALERT = "<an alert>"
"""Placeholder for all messages of a topic that are alerts, which name no exposure."""

LARGEST = 4 * 2**30
"""Maximum size of a file's contents, bytes: a mosaic of 32,768 x 32,768 px in float32."""


@dataclass(frozen=True)
class Source:
    """Files of one exposure.

    Attributes
    ----------
    uri
        Local path or fsspec URL of the difference image; if it ends in ``/``, a folder that could not be listed.
    siblings
        (plane, uri) of ``science``, ``template``, ``mask``, ``variance`` and ``psf`` in separate files; and of
        ``reference``, a template on any grid to be subtracted from ``uri``, which is then a science image.
    index
        Index of the image in an npz stack; None for other files.
    overrides
        (field, value) from a manifest that replace the header's: ``visit``, ``detector``, ``band``, ...
    refusal
        Error that was found during listing, if any.
    """

    uri: str
    siblings: tuple[tuple[str, str], ...] = ()
    index: int | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    refusal: BadInput | None = None

    @property
    def is_folder(self) -> bool:
        """Return whether this is a folder that could not be listed; probing it gives the reason."""
        return self.uri.endswith("/")

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Return (plane, uri) of all files: ``difference``, then the siblings by plane."""
        return (("difference", self.uri), *sorted(self.siblings))


def uri_of(fs: Any, path: str, given: str) -> str:
    """Convert a path in ``fs`` to a path or URL that can be opened: local paths plain, others with their protocol."""
    if split_protocol(given)[0] in (None, "file", "local"):
        return path
    url = str(fs.unstrip_protocol(path))
    # fsspec writes memory:///x for memory://x.
    return url if ":///" in given else url.replace(":///", "://", 1)


def name_of(source: Source) -> str:
    """Return the URI of a source, with the index in a stack; equals ``source_uri`` of the exposure read from it."""
    return source.uri if source.index is None else f"{source.uri}[{source.index}]"


IN_MEMORY = "array in memory"
"""Name in messages for an image without a file."""


@dataclass(frozen=True)
class RawExposure:
    """Pixels, and the information in their header.

    Attributes
    ----------
    planes
        Always ``difference`` (float32, may hold NaN and infinities) and ``mask`` (uint16, bits of `MaskPlane`); also
        ``variance``, ``science`` and ``template`` (float32) if given. All (ny, nx); of a large image they are
        `flows.inputs.image_rows.PlaneRows`.
    flags
        What is unknown or assumed: no_wcs, no_zero_point, no_time, template_not_aligned, ...; and subtracted.
    source_sha256
        Digest of the bytes of all files, in the order difference, then siblings by plane; for an image in a stack, of
        its own bytes.
    file_sha256
        (uri, SHA-256 of its bytes) of each file; empty for an image in a stack.
    subtraction_residual
        Median fraction of the light of bright stars that remains, if the image was subtracted here.
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
    """Refuse data larger than `LARGEST` before any of it is unpacked.

    Parameters
    ----------
    size
        Unpacked size, bytes.
    where
        URI, for messages.
    what
        Part of the file, for messages.

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
