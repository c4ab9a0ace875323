"""Description of an exposure that has been read: background, noise, PSF, usable pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flows.inputs.files import open_part
from flows.inputs.fits_header import has_large_image, is_image
from flows.inputs.fits_io import Extent, read_extent
from flows.inputs.image_rows import Bands, PixelCounts, levels_of_sample, sample_of
from flows.inputs.npz_llnl import stack_form
from flows.inputs.source import IN_MEMORY, RawExposure, Source
from kernels.image.background_map import Levels, level_background, uneven_background
from kernels.image.noise import background_and_noise, noise_correlation
from kernels.image.noise_map import noise_variation
from kernels.image.pixel_state import PixelState, filled, pixel_state, usual_scatter
from kernels.psf.flux_error import UNKNOWN_FLATNESS
from kernels.psf.gaussian_mixture import fwhm_before_pixels, moffat_mixture
from kernels.psf.psf_field import fit_psf_field, variation_of
from kernels.psf.seeing import BRIGHT, Star, StarsPsf, bright_stars, psf_of
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, PsfModel
from schemas.pixels import WINDOW, is_large

FAINT_STARS = 5
"""Number of faint stars that give the PSF if fewer than three are bright."""

_ASSUMED_FWHM, _ASSUMED_ERR = 2.5, 1.0
_PEDESTAL = 10.0  # times the noise: a difference image has less background left, a sky image more
_MOSTLY = 0.5  # share of unusable pixels: a mask upside down has more
_FAINT = 8.0  # minimum peak of a star, times the noise
_UNSURE = 0.05  # errors added to those of width (relative) and 1 / beta if from few faint stars
_FIELD_STARS = 200  # maximum number of stars used for the PSF's variation over the image
_SAME_WIDTH = 0.25  # relative: the seeing in a header may be of another moment, but not more different
_SAME_STAMP = 0.5  # of a stamp: the PSF of a difference image may differ, one with other pixels does so more
_STEP = 4  # pixels between those of which the noise of the science image is taken
_SCIENCE_NOISE = (0.2, 50.0)  # times that of the difference image, beyond which the science image has another unit


def described(raw: RawExposure) -> tuple[ExposureInfo, dict[str, Any]]:
    """Check an exposure and describe its noise.

    Parameters
    ----------
    raw
        Exposure as read.

    Returns
    -------
    info : ExposureInfo
    planes : dict of (ny, nx) arrays
        ``difference`` (float32; finite: pixels without a value hold the background), ``mask`` (uint16, bits of
        `MaskPlane`), and, if given, ``variance``, ``science``, ``template`` (float32, may hold NaN). Of a large image
        they are `flows.inputs.image_rows.PlaneRows`; its background, noise and PSF are those of a sample
        (`flows.inputs.image_rows.sample_of`), but its pixels are all counted.

    Raises
    ------
    BadInput
        The exposure cannot be used; the message says why.
    """
    shape = raw.planes["difference"].shape
    _require_size(shape, raw)
    if not is_large(shape):
        planes = {name: plane[:] for name, plane in raw.planes.items()}
        state = _state(planes, raw)
        seen = _seen(raw, planes, state, PixelCounts.of(state))
        return seen.info, {**planes, "difference": seen.image, "mask": state.mask}
    sample = sample_of(raw.planes)
    bands = Bands(raw.planes, raw.saturation, usual_scatter(sample["difference"]))
    seen = _seen(raw, sample, _state(sample, raw), bands.counts())
    levels = None if seen.levels is None else levels_of_sample(seen.levels, shape)
    return seen.info, {**raw.planes, **bands.planes(seen.info.background, levels)}


class _Seen(NamedTuple):
    info: ExposureInfo
    image: NDArray[np.float32]
    levels: Levels | None  # that were subtracted


def _state(planes: Mapping[str, Any], raw: RawExposure) -> PixelState:
    return pixel_state(planes["difference"], planes["mask"], planes.get("science"), raw.saturation)


def _seen(raw: RawExposure, planes: Mapping[str, Any], state: PixelState, counts: PixelCounts) -> _Seen:
    """Describe an exposure from some pixels, their state, and the counts of all; return these pixels, gaps filled."""
    difference = planes["difference"]
    _require_signal(counts, raw)
    if not state.good:
        raise _bad("all_masked", raw, f"no pixel of {state.usable.size} that are spread over it is usable.")
    background, noise = background_and_noise(difference, state.usable)
    if not noise > 0:
        raise _bad("no_noise", raw, "more than half of its usable pixels have the same value, so it holds no sky.")
    image = filled(difference, state.mask, background)
    if (levels := uneven_background(image, state.usable)) is not None:
        level_background(image, levels)
        background, noise = background_and_noise(image, state.usable)
        image = filled(image, state.mask, background)
    psf, doubts = _psf({**planes, "image": image}, state.usable, raw)
    flags = {*raw.flags, *doubts, *(["infinite_values"] if counts.infinite else [])}
    if levels is not None:
        flags.add("uneven_background")
    if "science" not in planes and abs(background) > _PEDESTAL * noise:
        flags.add("high_background")
    if "science" in planes and _has_other_scale(planes["science"], state.usable, noise):
        flags.add("science_differs")
    shape = raw.planes["difference"].shape
    masked = 1 - counts.good / math.prod(shape)
    if masked > _MOSTLY:
        flags.add("mostly_masked")
    correlation = noise_correlation(image, state.usable, background, noise)
    # A sample of a large image does not tell where its pixels are.
    varying = None if is_large(shape) else noise_variation(image, state.usable, noise, planes.get("variance"))
    info = _info(
        raw,
        shape=shape,
        psf=psf,
        background=background,
        noise=noise,
        noise_correlation=tuple(map(tuple, correlation.tolist())),
        noise_variation=varying,
        masked_fraction=masked,
        planes=tuple(sorted(raw.planes.keys() - {"difference", "mask"})),
        flags=tuple(sorted(flags)),
    )
    return _Seen(info, image, levels)


def _has_other_scale(science: NDArray[np.float32], usable: NDArray[np.bool_], noise: float) -> bool:
    """Return whether the noise of a science image says that its unit is another than that of the difference image."""
    some, seen = science[::_STEP, ::_STEP], usable[::_STEP, ::_STEP]
    seen = seen & np.isfinite(some)
    if not seen.any():
        return False
    _, theirs = background_and_noise(some, seen)
    return theirs > 0 and not _SCIENCE_NOISE[0] < theirs / noise < _SCIENCE_NOISE[1]


def _as_defined(psf: PsfModel) -> PsfModel:
    """Remove the pixel's share from a width stated in a header; a fit to a stamp has already done so."""
    if psf.source != "header":
        return psf
    return psf.model_copy(update={"fwhm_px": fwhm_before_pixels(psf.fwhm_px, psf.beta)})


def _require_size(shape: tuple[int, ...], raw: RawExposure) -> None:
    if min(shape) < WINDOW:
        raise _bad("wrong_dimensions", raw, f"the image is {shape}, smaller than a search window of {WINDOW} px.")


def _require_signal(counts: PixelCounts, raw: RawExposure) -> None:
    if not counts.finite:
        raise _bad("all_nan", raw, "no pixel has a finite value.")
    if counts.constant:
        raise _bad("constant", raw, f"all pixels are {counts.first:g}.")
    if counts.good < WINDOW * WINDOW:
        raise _bad("all_masked", raw, f"{counts.good} pixels are usable, fewer than one search window has.")


def _psf(planes: Mapping[str, Any], usable: NDArray[np.bool_], raw: RawExposure) -> tuple[PsfModel, tuple[str, ...]]:
    """Return the PSF that was read, with the slope from stars if only its width is known; otherwise the stars' PSF."""
    given = raw.psf
    if given is not None and given.flatness_err < UNKNOWN_FLATNESS:
        stars = _stars(planes["science"], usable, raw.saturation) if "science" in planes else []
        known, of_stars = _as_defined(given), psf_of(stars)
        limit = _SAME_WIDTH if given.source == "header" else _SAME_STAMP
        differs = of_stars is not None and abs(known.fwhm_px / of_stars.fwhm_px - 1) > limit
        return _varying(known, stars, raw, given), ("psf_differs",) if differs else ()
    seen = stars_psf(planes, usable, raw.saturation, faint=given is None)
    if given is not None:
        if seen is None:
            return _as_defined(given), ()
        found = seen.psf
        known = _as_defined(given.model_copy(update={"beta": found.beta, "flatness_err": found.flatness_err}))
        differs = abs(known.fwhm_px / found.fwhm_px - 1) > _SAME_WIDTH
        stars = [] if seen.plane == "template" else seen.stars
        return _varying(known, stars, raw, known), ("psf_differs",) if differs else ()
    if seen is not None:
        model = PsfModel(source=seen.plane, **_model(seen.psf))
        return model if seen.plane == "template" else _varying(model, seen.stars, raw), ()
    error = {"fwhm_err": _ASSUMED_ERR, "flatness_err": UNKNOWN_FLATNESS}
    return PsfModel(fwhm_px=_ASSUMED_FWHM, source="assumed", **error), ("assumed_psf",)


def _varying(psf: PsfModel, stars: Sequence[Star], raw: RawExposure, given: PsfModel | None = None) -> PsfModel:
    """Add how the PSF varies over the image, according to its stars; of a large image, those of a sample."""
    shape = raw.planes["difference"].shape
    if is_large(shape) or not stars:
        return psf
    stamps = np.stack([one.stamp for one in stars])
    x, y = (np.array([getattr(one, axis) for one in stars]) for axis in ("x", "y"))
    field = fit_psf_field(stamps, x, y, moffat_mixture(psf.fwhm_px, psf.beta), (shape[0], shape[1]))
    error = round(field.error, 5)
    return psf.model_copy(update={"variation": variation_of(field, given), "ellipticity_err": error})


def _model(psf: StarsPsf) -> dict[str, Any]:
    return {name: getattr(psf, name) for name in ("fwhm_px", "beta", "fwhm_err", "flatness_err")}


class SeenPsf(NamedTuple):
    """PSF of the stars on a plane: ``science``, ``template``, or ``image``, the difference image."""

    psf: StarsPsf
    plane: str
    stars: Sequence[Star]


def stars_psf(
    planes: Mapping[str, Any], usable: NDArray[np.bool_], saturation: float | None, *, faint: bool = True
) -> SeenPsf | None:
    """Measure the PSF on stars of the science image, else of the template, else on bright sources of the difference.

    If a sharper template was convolved to match, the difference image has the PSF of the science image. If no plane
    has three bright stars, five or more with peaks above 8 times the noise are used, to 5 % and their scatter.

    Parameters
    ----------
    planes
        Pixels (ny, nx): ``image``, the difference image without gaps, and any others.
    usable : (ny, nx)
        Pixels with a trustworthy value.
    saturation
        Saturation level, pixel units.
    faint
        Whether to use faint stars.
    """
    shown = _shown(planes)
    for plane, pixels in shown.items():
        stars = _stars(pixels, usable, saturation)
        if (found := psf_of(stars)) is not None:
            return SeenPsf(found, plane, stars)
    for plane, pixels in shown.items() if faint else ():
        found = psf_of(_stars(pixels, usable, saturation, _FAINT))
        if found is not None and found.stars >= FAINT_STARS:
            width, flatness = np.hypot(
                (found.fwhm_err, found.flatness_err), (_UNSURE * found.fwhm_px, _UNSURE)
            ).tolist()
            return SeenPsf(found._replace(fwhm_err=width, flatness_err=flatness), plane, ())
    return None


class FewStars(NamedTuple):
    """Round, isolated stars on a plane, and how many of them are bright."""

    seen: int
    bright: int


def few_stars(planes: Mapping[str, Any], usable: NDArray[np.bool_], saturation: float | None) -> FewStars:
    """Return the stars of the plane that shows most."""
    shown = _shown(planes).values()
    counts = (FewStars(*(len(_stars(one, usable, saturation, least)) for least in (_FAINT, BRIGHT))) for one in shown)
    return max(counts, key=lambda one: (one.bright, one.seen))


def _shown(planes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the planes that may show stars, in order of preference."""
    return {name: planes[name] for name in ("science", "template", "image") if planes.get(name) is not None}


def _stars(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], saturation: float | None, least: float = BRIGHT
) -> Sequence[Star]:
    """Return the stars whose peaks exceed ``least`` times the noise; none if the image has no noise."""
    seen = usable & np.isfinite(pixels)
    if seen.sum() < WINDOW * WINDOW:
        return []
    background, noise = background_and_noise(pixels, seen)
    if not noise > 0:
        return []
    return bright_stars(pixels, seen, background, noise, saturation, _FIELD_STARS, least)


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
            subtraction_residual=raw.subtraction_residual,
            **computed,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise _bad("invalid_keyword", raw, f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}.") from error


def _bad(code: str, raw: RawExposure, problem: str) -> BadInput:
    remedy = "look at the array." if raw.source_uri == IN_MEMORY else "leave the exposure out, or fetch it again."
    return BadInput(code, raw.source_uri, problem, remedy)


class SourceSize(NamedTuple):
    """Size of a source.

    Attributes
    ----------
    shape
        Shape (ny, nx) of its largest image, px.
    held
        Bytes of its files that are held in memory at once, used or not; of a stack only the image itself is read, and
        files of large images are not in memory.
    """

    shape: tuple[int, int]
    held: int


def size_of(source: Source) -> SourceSize:
    """Return the size of a source according to its headers.

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
    siblings = sorted(_held(uri) for _, uri in source.siblings)  # one is released once the next has been read
    return SourceSize(max(sizes, key=math.prod, default=(0, 0)), _of_file(extent) + sum(siblings[-2:]))


def _held(uri: str) -> int:
    with open_part(uri) as file:
        return _of_file(read_extent(file, uri))


def _of_file(extent: Extent) -> int:
    return 0 if has_large_image(extent.headers) else extent.held
