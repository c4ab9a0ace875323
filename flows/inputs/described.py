"""Description of an exposure that was read: background, noise, PSF, usable pixels."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flows.inputs.files import open_part
from flows.inputs.fits_header import is_image
from flows.inputs.fits_io import read_extent
from flows.inputs.npz_llnl import stack_form
from flows.inputs.source import RawExposure, Source
from kernels.image.noise import background_and_noise, noise_correlation
from kernels.image.pixel_state import PixelState, filled, pixel_state
from kernels.psf.gaussian_mixture import fwhm_before_pixels
from kernels.psf.seeing import estimate_psf
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, PsfModel
from schemas.pixels import WINDOW

_ASSUMED_FWHM = 2.5


def described(raw: RawExposure) -> tuple[ExposureInfo, dict[str, NDArray[Any]]]:
    """Check an exposure, and find out what its noise is like.

    Parameters
    ----------
    raw
        As it was read.

    Returns
    -------
    info : ExposureInfo
    planes : dict of (ny, nx) arrays
        ``difference`` (float32; finite: the background where there is no value), ``mask`` (uint16, bits of
        `MaskPlane`), and ``variance``, ``science``, ``template`` (float32, may hold NaN) where there are any.

    Raises
    ------
    BadInput
        The exposure cannot be used; the message says why.
    """
    difference = raw.planes["difference"]
    _require_size(difference, raw)
    state = pixel_state(difference, raw.planes["mask"], raw.planes.get("science"), raw.saturation)
    _require_signal(state, raw)
    background, noise = background_and_noise(difference, state.usable)
    if not noise > 0:
        raise _bad("no_noise", raw, "more than half of its usable pixels have the same value, so it holds no sky.")
    image = filled(difference, state.mask, background)
    psf = _as_defined(raw.psf) if raw.psf else _psf(raw, image, state.usable)
    flags = {
        *raw.flags,
        *(["infinite_values"] if state.infinite else []),
        *(["assumed_psf"] if psf.source == "assumed" else []),
    }
    correlation = noise_correlation(image, state.usable, background, noise)
    planes = {**raw.planes, "difference": image, "mask": state.mask}
    info = _info(
        raw,
        shape=image.shape,
        psf=psf,
        background=background,
        noise=noise,
        noise_correlation=tuple(map(tuple, correlation.tolist())),
        masked_fraction=1 - state.good / image.size,
        planes=tuple(sorted(planes.keys() - {"difference", "mask"})),
        flags=tuple(sorted(flags)),
    )
    return info, planes


def _as_defined(psf: PsfModel) -> PsfModel:
    """Remove the pixels from a width that a header states; a fit to a stamp has done so already."""
    if psf.source != "header":
        return psf
    return psf.model_copy(update={"fwhm_px": fwhm_before_pixels(psf.fwhm_px, psf.beta)})


def _require_size(difference: NDArray[np.float32], raw: RawExposure) -> None:
    if min(difference.shape) < WINDOW:
        raise _bad(
            "wrong_dimensions", raw, f"the image is {difference.shape}, smaller than a search window of {WINDOW} px."
        )


def _require_signal(state: PixelState, raw: RawExposure) -> None:
    if not state.finite:
        raise _bad("all_nan", raw, "no pixel has a finite value.")
    if state.constant:
        difference = raw.planes["difference"]
        raise _bad("constant", raw, f"all pixels are {difference[np.isfinite(difference)][0]:g}.")
    if state.good < WINDOW * WINDOW:
        raise _bad("all_masked", raw, f"{state.good} pixels are usable, fewer than one search window has.")


def _psf(raw: RawExposure, image: NDArray[np.float32], usable: NDArray[np.bool_]) -> PsfModel:
    """Measure the PSF on stars of the science image, else of the template, else on what shines in the difference image.

    Where a sharper template was convolved to match, the difference image has the PSF of the science image.
    """
    planes = {"science": raw.planes.get("science"), "template": raw.planes.get("template"), "image": image}
    for source, pixels in planes.items():
        if pixels is not None and (found := _stars_psf(pixels, usable, raw.saturation)) is not None:
            return PsfModel(fwhm_px=found[0], beta=found[1], source=source)
    return PsfModel(fwhm_px=_ASSUMED_FWHM, source="assumed")


def _stars_psf(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], saturation: float | None
) -> tuple[float, float] | None:
    seen = usable & np.isfinite(pixels)
    if seen.sum() < WINDOW * WINDOW:
        return None
    background, noise = background_and_noise(pixels, seen)
    if not noise > 0:
        return None
    return estimate_psf(np.where(seen, pixels, np.float32(background)), seen, background, noise, saturation)


def _info(raw: RawExposure, **computed: Any) -> ExposureInfo:
    try:
        return ExposureInfo(
            **raw.key.model_dump(),
            instrument=raw.instrument,
            band=raw.band,
            midpoint_mjd_tai=raw.midpoint_mjd_tai,
            exposure_time_s=raw.exposure_time_s,
            pixel_unit=raw.pixel_unit,
            zero_point=raw.zero_point,
            zero_point_err=raw.zero_point_err,
            gain=raw.gain,
            saturation=raw.saturation,
            wcs_header=raw.wcs_header,
            source_uri=raw.source_uri,
            source_sha256=raw.source_sha256,
            **computed,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise _bad("invalid_keyword", raw, f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}.") from error


def _bad(code: str, raw: RawExposure, problem: str) -> BadInput:
    return BadInput(code, raw.source_uri, problem, "leave the exposure out, or fetch it again.")


class SourceSize(NamedTuple):
    """Size of a source.

    Attributes
    ----------
    shape
        (ny, nx) of its largest image, px.
    held
        Bytes of its files that are in memory while they are read, whatever of them is used; of an image of a stack
        nothing else is read.
    """

    shape: tuple[int, int]
    held: int


def size_of(source: Source) -> SourceSize:
    """Return the size of a source, from its headers.

    Raises
    ------
    BadInput, Retryable
        A file cannot be read.
    """
    with open_part(source.uri) as file:
        if source.index is not None:
            return SourceSize(stack_form(file, source.uri).shape[1:], 0)
        extent = read_extent(file, source.uri)
    prefixes = ["ZNAXIS" if header.get("ZIMAGE") else "NAXIS" for header in extent.headers]
    sizes = [
        (int(header.get(f"{prefix}2", 1)), int(header.get(f"{prefix}1", 1)))
        for header, prefix in zip(extent.headers, prefixes, strict=True)
        if is_image(header)
    ]
    siblings = sorted(_held(uri) for _, uri in source.siblings)  # one is let go when the next has been read
    return SourceSize(max(sizes, key=math.prod, default=(0, 0)), extent.held + sum(siblings[-2:]))


def _held(uri: str) -> int:
    with open_part(uri) as file:
        return read_extent(file, uri).held
