"""Templates for science images that lack difference images: selection, alignment, subtraction."""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import numpy as np
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import NDArray

from flows.inputs.source import RawExposure
from flows.inputs.wcs_cards import pixel_scale_arcsec, same_grid, world_of
from kernels.subtraction.sfft import Subtracted, subtract_template
from schemas.errors import BadInput, missing_extra
from schemas.exposure import PsfModel
from schemas.pixels import UNUSABLE, MaskPlane, is_large

WORST_RESIDUAL = 0.2
"""Maximum median fraction of the light of bright stars that may remain; above it, every star is a detection."""

LEAST_OVERLAP = 0.2
"""Minimum fraction of a science image that its template must cover."""

_FINER = 0.75  # ratio of the template's pixel size to the science image's below which pixels are averaged


@dataclass(frozen=True)
class Reference:
    """Template as read: pixels (ny, nx), which of them are usable, its WCS cards, URI, and band, if any."""

    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    wcs_header: str | None
    uri: str
    band: str | None = None


def require_subtraction() -> None:
    """Check that the packages for aligning and subtracting templates are installed.

    Raises
    ------
    Misconfigured
        ``no_subtraction``: one is missing, so no science image could become an exposure.
    """
    for package in ("sfft", "reproject"):
        if find_spec(package) is None:
            raise missing_extra(package, "subtract", "no_subtraction", "--template")


def subtracted(raw: RawExposure, reference: Reference) -> RawExposure:
    """Subtract a template from an exposure's science image.

    Parameters
    ----------
    raw
        Exposure as read, its science image as the plane ``difference``.
    reference
        Template, on any grid.

    Returns
    -------
    RawExposure
        With the planes ``difference``, ``science``, ``template`` (aligned, in the flux unit of the science image) and
        ``mask`` (NO_DATA also where either image has no value), and the flags ``subtracted`` and, if the template's
        header has another band, ``template_band``.

    Raises
    ------
    BadInput
        ``too_large``, ``no_overlap``; ``not_aligned``: no WCS, and another shape; ``bad_subtraction``: it is the same
        image, there are too few stars, or more than `WORST_RESIDUAL` of their light remains.
    Misconfigured
        As for `require_subtraction`.
    """
    require_subtraction()
    shape = raw.planes["difference"].shape
    if is_large(shape) or is_large(reference.pixels.shape):
        raise _bad("too_large", raw, reference, "an image is too large to be subtracted whole.", "cut it into parts.")
    science = raw.planes["difference"]
    template, seen = _on_grid(raw, reference)
    if np.array_equal(template, science, equal_nan=True):
        problem = "both have the same pixels, so nothing would be left."
        raise _bad("bad_subtraction", raw, reference, problem, "give a template of another time.")
    usable = (raw.planes["mask"] & np.uint16(UNUSABLE)) == 0
    if raw.saturation is not None:
        usable &= science < raw.saturation
    if (share := float((usable & seen).mean())) < LEAST_OVERLAP:
        problem = f"{share:.0%} of the pixels are usable on both, {LEAST_OVERLAP:.0%} are needed."
        raise _bad("no_overlap", raw, reference, problem, "give a template of this field.")
    try:
        found = subtract_template(science, template, (usable, seen))
    except ValueError as error:
        raise _bad(
            "bad_subtraction", raw, reference, f"{error}.", "give a deeper template, or one with stars."
        ) from error
    _require_good(found, raw, reference)
    beyond = found.unusable & ((raw.planes["mask"] & np.uint16(UNUSABLE)) == 0)
    planes = {
        "difference": found.image,
        "mask": raw.planes["mask"] | np.where(beyond, np.uint16(MaskPlane.NO_DATA), np.uint16(0)),
        "science": science,
        "template": np.where(seen, template * np.float32(found.scale), np.float32(np.nan)),
    }
    fwhm, beta = found.psf
    psf = PsfModel(fwhm_px=fwhm, beta=float(np.clip(beta, 1.1, 100)), source="science")
    other = {"template_band"} if reference.band not in (None, raw.band) else set()
    flags = tuple(sorted({*raw.flags, "subtracted", *other}))
    return replace(raw, planes=planes, psf=psf, flags=flags, subtraction_residual=found.residual)


def _on_grid(raw: RawExposure, reference: Reference) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the template on the pixels of the science image, and where it has a usable value."""
    shape, own, theirs = raw.planes["difference"].shape, raw.wcs_header, reference.wcs_header
    if own is None or theirs is None:
        if reference.pixels.shape != shape:
            problem = f"no WCS tells where its {reference.pixels.shape} px lie on the {shape} px of the science image."
            raise _bad("not_aligned", raw, reference, problem, "solve the astrometry of both.")
        return reference.pixels, reference.usable
    if reference.pixels.shape == shape and same_grid(own, theirs, (shape[0], shape[1]), _SAME_PX):
        return reference.pixels, reference.usable
    return _reprojected(reference, world_of(own), shape, pixel_scale_arcsec(theirs) < _FINER * pixel_scale_arcsec(own))


_SAME_PX = 0.02  # px: closer grids are taken to be the same


def _reprojected(
    reference: Reference, onto: WCS, shape: tuple[int, ...], finer: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    from reproject import reproject_adaptive, reproject_interp

    theirs = world_of(reference.wcs_header or "")
    level = np.float32(np.median(reference.pixels[reference.usable]) if reference.usable.any() else 0)
    whole = np.where(reference.usable, reference.pixels, level)
    turn = partial(reproject_adaptive, kernel="gaussian") if finer else partial(reproject_interp, order="bicubic")
    holes = (~reference.usable).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        pixels, footprint = turn((whole, theirs), onto, shape_out=shape)
        near, _ = reproject_interp((holes, theirs), onto, shape_out=shape, order="bilinear")
    seen = (footprint > 0.5) & np.isfinite(pixels) & (np.nan_to_num(near, nan=1.0) < 0.01)
    return np.where(seen, pixels, np.nan).astype(np.float32), seen


def _require_good(found: Subtracted, raw: RawExposure, reference: Reference) -> None:
    if not found.stars:
        problem = "no star is bright enough to tell how good the subtraction is."
        raise _bad("bad_subtraction", raw, reference, problem, "give images with brighter stars.")
    if not found.residual <= WORST_RESIDUAL:
        problem = (
            f"{found.residual:.0%} of the light of {found.stars} bright stars is left, at most {WORST_RESIDUAL:.0%} "
            "may be."
        )
        raise _bad(
            "bad_subtraction", raw, reference, problem, "check that both are of one field and band, and aligned."
        )


def _bad(code: str, raw: RawExposure, reference: Reference, problem: str, remedy: str) -> BadInput:
    return BadInput(code, f"{raw.source_uri} less {reference.uri}", problem, remedy)
