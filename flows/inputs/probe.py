"""Identity and contents of an exposure in any format."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from flows.inputs.files import (
    PROBE,
    STREAM,
    FileDigests,
    content_kind,
    file_system,
    open_part,
    patient,
    read_bytes,
    read_failures,
)
from flows.inputs.fits_damage import damage, value_of
from flows.inputs.fits_generic import COUNTED, GENERIC, MEASURED, given_mapping
from flows.inputs.fits_header import (
    FitsFormat,
    HeaderCalibration,
    Headers,
    Identity,
    as_integer,
    as_number,
    has_large_image,
    image_shape,
    is_image,
)
from flows.inputs.fits_io import MOST_BEHIND, Extent, FitsContent, read_extent, read_headers, unzipped
from flows.inputs.fits_layout import mapping_for, plane_image, plane_images, require_variance
from flows.inputs.fits_rows import FitsRows
from flows.inputs.fits_rubin import RUBIN
from flows.inputs.fits_units import unit_named
from flows.inputs.fits_ztf import ZTF, is_ztf_mask
from flows.inputs.image_rows import Plane, PlaneRows, changed
from flows.inputs.mask_bits import has_named_planes, named_mask, ztf_mask
from flows.inputs.npz_llnl import read_stack_image, stack_key
from flows.inputs.source import REFERENCE, RawExposure, Source
from flows.inputs.wcs_cards import equinox_of_epoch, equinox_of_primary, same_grid, wcs_cards
from kernels.psf.flux_error import UNKNOWN_FLATNESS
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.psf_field import stamp_ellipticity
from kernels.psf.seeing import fit_moffat
from schemas.errors import BadInput, Retryable, read_failure
from schemas.exposure import SIMULATED, ExposureKey, PsfModel
from schemas.keyword_mapping import KeywordMapping
from schemas.pixels import UNUSABLE
from schemas.settings import Settings

if TYPE_CHECKING:
    from flows.inputs.template import Reference

_LEAST = {**MEASURED, "psf_fwhm_px": 1e-3}

WIDEST_PX = 50.0
"""Maximum FWHM of a PSF, px: 10 arcsec at 0.2 arcsec per px."""

WIDEST_STAMP = 1024
"""Maximum side of a PSF stamp, px."""

_FORMATS = (RUBIN, ZTF, GENERIC)


def probe(source: Source, settings: Settings) -> ExposureKey:
    """Return the key of a source's exposure from its headers, without reading pixels.

    Raises
    ------
    BadInput
        The file cannot be an exposure: not an image file, truncated, or a keyword is missing or invalid.
        ``unreadable_folder``: it is a folder that cannot be listed.
    Retryable
        Reading failed, perhaps temporarily.
    """
    if _kind(source) == "zip":
        return patient(source.uri, lambda: stack_key(source.uri, source.index))
    return patient(source.uri, lambda: fits_identity(source, settings.fits)).key


def read(source: Source, settings: Settings, scratch: Path | None = None) -> RawExposure:
    """Read an exposure with all its planes; for a large FITS image, prepare to read them some rows at a time.

    Parameters
    ----------
    source, settings
        Its files, and settings for reading their headers.
    scratch
        Folder for copies of large files that are gzipped, or not on this machine; None: the system's temporary folder.

    Raises
    ------
    BadInput
        Bytes, headers or pixels are invalid; the message says how.
    Retryable
        Reading failed, perhaps temporarily.
    """
    if _kind(source) == "zip":
        if REFERENCE in dict(source.siblings):
            problem = "a stack holds difference images, from which no template can be subtracted."
            raise BadInput("no_template", source.uri, problem, "leave out --template.")
        return read_stack_image(source.uri, source.index)
    return read_fits(source, settings.fits, scratch)


def _kind(source: Source) -> str:
    if source.index is not None:
        return "zip"
    if source.is_folder:
        _refuse_folder(source.uri)
    return patient(source.uri, lambda: _content_kind(source.uri))


def _content_kind(uri: str) -> str:
    with open_part(uri) as file:
        return content_kind(file.read(9), uri)


def _refuse_folder(uri: str) -> NoReturn:
    """Raise the error for a folder that could not be listed, by trying again."""
    try:
        with read_failures(uri):
            fs, path = file_system(uri)
            fs.ls(path)
    except BadInput as error:
        why = read_failure(error.__cause__ or error)
        raise BadInput(
            "unreadable_folder",
            uri,
            f"the folder cannot be listed, so its exposures are not searched: {why}.",
            "permit reading it (chmod u+rx), or leave it out.",
        ) from error
    raise Retryable("io_error", uri, "the folder could not be listed at first.", "run again.")


def changed_identity(identity: Identity, source: Source) -> Identity:
    """Return the identity with visit, detector and band replaced by those in the manifest.

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    given = dict(source.overrides)
    numbers = {
        name: as_integer(given[name], name, source.uri, below) for name, below in COUNTED.items() if name in given
    }
    return identity._replace(key=identity.key.model_copy(update=numbers), band=given.get("band", identity.band))


def changed_calibration(calibration: HeaderCalibration, source: Source) -> HeaderCalibration:
    """Return the calibration with zero point, gain, saturation and PSF replaced by those in the manifest.

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    given: dict[str, Any] = {
        name: as_number(value, name, source.uri, _LEAST[name]) for name, value in source.overrides if name in _LEAST
    }
    if "psf_fwhm_px" in given:
        given["psf"] = PsfModel(fwhm_px=given.pop("psf_fwhm_px"), source="header", flatness_err=UNKNOWN_FLATNESS)
    return calibration._replace(**given)


def fits_identity(source: Source, mapping: KeywordMapping) -> Identity:
    """Read the identity of an exposure from its headers.

    Raises
    ------
    BadInput, Retryable
        The file cannot be read; a keyword is missing or invalid.
    """
    with open_part(source.uri) as file:
        headers = read_headers(file, source.uri)
    with damage(source.uri):  # a card is parsed only when it is accessed
        known = given_mapping(mapping, source.overrides)
        return changed_identity(format_of(headers).identity(headers, source.uri, known), source)


def read_fits(source: Source, mapping: KeywordMapping, scratch: Path | None = None) -> RawExposure:
    """Read an exposure with all its planes; parameters as for `read`.

    Raises
    ------
    BadInput, Retryable
        The file or a sibling cannot be read; its headers or pixels break a rule.
    """
    with damage(source.uri):
        return _read_fits(source, _Reading(mapping, Path(gettempdir()) if scratch is None else scratch, FileDigests()))


class _Reading(NamedTuple):
    """How files are read, where copies go, and the digests of all files read so far."""

    mapping: KeywordMapping
    scratch: Path
    digests: FileDigests

    def content(self, uri: str, require: Callable[[Headers], None] = lambda _: None) -> FitsContent | FitsRows:
        """Read a file whose size is known from its headers, which must pass ``require``."""
        extent, verify = patient(uri, lambda: _extent(uri, require)), self.mapping.checksum == "check"
        digest = self.digests.begin(uri)
        if has_large_image(extent.headers):
            return FitsRows(uri, extent.headers, extent.end + MOST_BEHIND, digest, self.scratch, verify=verify)
        data = read_bytes(uri)
        digest.update(data)
        return FitsContent(unzipped(data, uri, extent.end + MOST_BEHIND), uri, verify=verify)


def _read_fits(source: Source, reading: _Reading) -> RawExposure:
    mapping, content = given_mapping(reading.mapping, source.overrides), reading.content(source.uri)
    headers = content.headers
    form = format_of(headers)
    identity = changed_identity(form.identity(headers, source.uri, mapping), source)
    layout = form.layout(headers, source.uri, mapping)
    shape = image_shape(headers[layout["difference"]])
    for plane, index in layout.items():
        if is_image(headers[index]):
            _require_flat(image_shape(headers[index]), source.uri)
            if image_shape(headers[index]) != shape:
                raise _other_shape(plane, source.uri, image_shape(headers[index]), shape)
    difference = _real(content.image(layout["difference"]), source.uri)
    own = (headers[layout["difference"]], headers[0])
    ny, nx = difference.shape
    wcs = wcs_cards(own, source.uri, (ny, nx))
    if wcs is None and form.wcs_required:
        raise BadInput("missing_wcs", source.uri, "the header has no keyword CTYPE1.", "solve its astrometry first.")
    calibration = changed_calibration(form.calibration(headers, source.uri, mapping, wcs), source)
    planes: dict[str, Plane] = {"difference": difference, "mask": _no_mask(difference)}
    for plane, index in layout.items():
        if plane != "difference":
            planes[plane] = _plane(plane, content.image(index), _planes_of(headers, index), form, source.uri)
    extra, psf, flags = _siblings(source, reading, wcs, calibration.pixel_unit, shape)
    if any(header.get("SIMULATE") is True for header in own):
        flags = (*flags, SIMULATED)
    if equinox_of_epoch(own) is not None or equinox_of_primary(own) is not None:
        flags = (*flags, "assumed_equinox")
    _require_narrow(psf or calibration.psf, source.uri)
    reference = _reference(source, reading)
    raw = _assembled(source, identity, calibration, wcs, psf, planes | extra, flags, reading.digests)
    if reference is None:
        return raw
    from flows.inputs.template import subtracted  # few nights have templates

    return subtracted(raw, reference)


def _reference(source: Source, reading: _Reading) -> "Reference | None":
    """Read the template to subtract, if there is one; its saturated pixels are unusable."""
    uri = dict(source.siblings).get(REFERENCE)
    if uri is None:
        return None
    from flows.inputs.template import Reference

    content = reading.content(uri)
    form, mapping = format_of(content.headers), mapping_for(content.headers, reading.mapping)
    layout = form.layout(content.headers, uri, mapping)
    index = layout["difference"]
    pixels = real_image(content.image(index)[:], uri)
    wcs = wcs_cards((content.headers[index], content.headers[0]), uri, (pixels.shape[0], pixels.shape[1]))
    saturation = form.saturation(content.headers, uri, mapping)
    usable = np.isfinite(pixels) & (pixels < (np.inf if saturation is None else saturation))
    if "mask" in layout:
        where = layout["mask"]
        mask = _plane("mask", content.image(where), _planes_of(content.headers, where), form, uri)
        usable &= (mask[:] & np.uint16(UNUSABLE)) == 0
    try:
        band = form.band(content.headers, uri, mapping)
    except BadInput:  # a coadd may lack it
        band = None
    return Reference(pixels, usable, wcs, uri, band)


def real_image(pixels: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return pixels as a float32 image.

    Raises
    ------
    BadInput
        ``wrong_dimensions``: not two axes; ``wrong_dtype``: not real numbers.
    """
    _require_flat(pixels.shape, where)
    if pixels.dtype.kind not in "fiu":
        raise BadInput("wrong_dtype", where, f"pixels are {pixels.dtype}, must be real numbers.", "convert them.")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are masked
        return np.ascontiguousarray(pixels, np.float32)


def _require_flat(shape: tuple[int, ...], where: str) -> None:
    if len(shape) != 2:
        raise BadInput(
            "wrong_dimensions",
            where,
            f"the image has {len(shape)} axes {shape}, must have 2.",
            "write the plane to be searched as an image of two.",
        )


def format_of(headers: Headers) -> FitsFormat:
    """Return the format of a FITS file."""
    return next(form for form in _FORMATS if form.matches(headers))


def _extent(uri: str, require: Callable[[Headers], None]) -> Extent:
    with open_part(uri, STREAM if uri.lower().endswith(".gz") else PROBE) as file:
        return read_extent(file, uri, require)


def _real(pixels: Plane, where: str) -> Plane:
    return changed(pixels, lambda some: real_image(some, where), "float32")


def _no_mask(difference: Plane) -> NDArray[np.uint16]:
    if isinstance(difference, PlaneRows):  # a single 0, repeated for all pixels
        return np.broadcast_to(np.uint16(0), difference.shape)
    return np.zeros(difference.shape, np.uint16)


def _plane(plane: str, pixels: Plane, header: fits.Header, form: FitsFormat, where: str) -> Plane:
    if plane != "mask":
        return _real(pixels, where)

    def mask(some: NDArray[Any]) -> NDArray[np.uint16]:
        return form.mask_bits(some if some.dtype.kind in "iub" else real_image(some, where), header)

    return changed(pixels, mask, "uint16")


def _siblings(
    source: Source, reading: _Reading, wcs: str | None, unit: str, shape: tuple[int, ...]
) -> tuple[dict[str, Plane], PsfModel | None, tuple[str, ...]]:
    """Read planes from separate files, the PSF stamp among them."""
    planes: dict[str, Plane] = {}
    psf: PsfModel | None = None
    flags: tuple[str, ...] = ()
    for plane, uri in sorted(source.siblings):
        if plane == REFERENCE:
            continue
        require = partial(_require_sides, plane, uri, shape)
        content = reading.content(uri, require if plane != "template" else lambda _: None)
        index = plane_image(content.headers, plane, uri)
        header = content.headers[index]
        if plane == "template" and not _aligned(wcs, content.headers, uri, image_shape(header)):
            flags = (*flags, "template_not_aligned")
            continue
        require(content.headers)
        if plane == "variance":
            require_variance(header, uri)
        pixels = content.image(index)
        if plane == "psf":
            fwhm, beta = _stamp(real_image(pixels[:], uri), uri)
            ellipticity = stamp_ellipticity(real_image(pixels[:], uri), moffat_mixture(fwhm, beta))
            psf = PsfModel(fwhm_px=fwhm, beta=beta, source="stamp", variation=ellipticity)
        elif plane == "mask":
            planes["mask"] = _foreign_mask(pixels, content.headers, index)
        else:
            planes[plane] = _real(pixels, uri)
        if plane == "science" and _differs(wcs, unit, header, uri):
            flags = (*flags, "science_differs")
    return planes, psf, flags


def _require_sides(plane: str, uri: str, shape: tuple[int, ...], headers: Headers) -> None:
    """Refuse a sibling that does not fit an image of ``shape``, before its pixels are read."""
    images = plane_images(headers, plane)
    if len(images) != 1:
        return
    theirs = image_shape(headers[images[0]])
    if plane != "psf":
        if theirs != shape:
            raise _other_shape(plane, uri, theirs, shape)
    elif len(theirs) != 2 or max(theirs) > WIDEST_STAMP:
        raise BadInput(
            "too_large",
            uri,
            f"the PSF stamp has sides of {theirs} px, must have 2 of {WIDEST_STAMP} px at most.",
            "cut it out around the star.",
        )


def _other_shape(plane: str, uri: str, theirs: tuple[int, ...], shape: tuple[int, ...]) -> BadInput:
    return BadInput(
        "wrong_dimensions",
        uri,
        f"plane {plane!r} has shape {theirs}, the difference image {shape}.",
        "use planes of the same image.",
    )


def _require_narrow(psf: PsfModel | None, where: str) -> None:
    """Refuse a PSF wider than that of any real image, before arrays of its size are made."""
    if psf is not None and psf.fwhm_px > WIDEST_PX:
        raise BadInput(
            "invalid_keyword",
            where,
            f"the PSF ({psf.source}) is {psf.fwhm_px:g} px wide, must be {WIDEST_PX:g} px at most.",
            "correct the header or the settings, section [fits.psf_fwhm].",
        )


def _stamp(stamp: NDArray[np.float32], where: str) -> tuple[float, float]:
    try:
        return fit_moffat(stamp)
    except ValueError as error:
        raise BadInput(
            "bad_psf", where, f"no Moffat profile fits the PSF stamp: {error}.", "leave the PSF out."
        ) from error


def _foreign_mask(pixels: Plane, headers: Headers, index: int) -> Plane:
    header = _planes_of(headers, index)
    is_ztf = not has_named_planes(header) and any(map(is_ztf_mask, headers))
    bits = ztf_mask if is_ztf else named_mask
    return changed(pixels, lambda some: bits(some, header), "uint16")


def _differs(wcs: str | None, unit: str, science: fits.Header, uri: str) -> bool:
    """Return whether a science image has another unit than the difference image, or by its WCS other pixels."""
    theirs = unit_named(str(value_of(science, "BUNIT") or ""))
    try:
        aligned = _aligned(wcs, (science,), uri, image_shape(science))
    except BadInput:  # nothing else of its WCS is used
        aligned = True
    return not aligned or ("unknown" not in (unit, theirs) and theirs != unit)


def _planes_of(headers: Headers, index: int) -> fits.Header:
    """Return the header that numbers the planes of a mask: its own, or else the primary one."""
    return next(filter(has_named_planes, (headers[index], headers[0])), headers[index])


def _aligned(wcs: str | None, headers: Headers, uri: str, shape: tuple[int, ...]) -> bool:
    """Return whether a template is on the grid of the difference image; assumed if either has no WCS."""
    ny, nx = shape
    theirs = wcs_cards(headers, uri, (ny, nx))
    return wcs is None or theirs is None or same_grid(wcs, theirs, (ny, nx))


def _assembled(
    source: Source,
    identity: Identity,
    calibration: HeaderCalibration,
    wcs: str | None,
    stamp: PsfModel | None,
    planes: Mapping[str, Plane],
    flags: tuple[str, ...],
    digests: FileDigests,
) -> RawExposure:
    missing = [flag for flag, value in (("no_wcs", wcs), ("no_zero_point", calibration.zero_point)) if value is None]
    doubts = [one.doubt for one in (*identity.origins, *calibration.origins) if one.doubt]
    return RawExposure(
        key=identity.key,
        instrument=identity.instrument,
        band=identity.band,
        midpoint_mjd_tai=identity.midpoint_mjd_tai,
        exposure_time_s=identity.exposure_time_s,
        zero_point=calibration.zero_point,
        zero_point_err=calibration.zero_point_err,
        gain=calibration.gain,
        saturation=calibration.saturation,
        wcs_header=wcs,
        psf=stamp or calibration.psf,
        pixel_unit=calibration.pixel_unit,
        planes=planes,
        flags=tuple(sorted({*missing, *doubts, *flags})),
        source_uri=source.uri,
        source_sha256=digests.of_all,
        file_sha256=digests.of_each,
    )
