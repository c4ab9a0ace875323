"""Stage: sources on the science image of an exposure."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.image.science_image import ScienceImage, block_pixels, science_image
from kernels.measure.photometry import njy_per_unit
from kernels.objects.source_photometry import Fluxes, psf_fluxes
from kernels.objects.source_shapes import Shapes, any_in_boxes, find_shapes
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.projection import celestial_wcs, pixel_scale, sky_trails
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureInfo
from schemas.objects import SOURCE, SourceFlag
from schemas.pixels import MASK, SCIENCE, MaskPlane
from schemas.settings import FindSourcesSettings
from schemas.stage import EXPOSURE_PIXEL, Context, Stage, as_found, piecewise_memory

_PLACE, _PHASE = 1.1, 0.05  # of a windowed centre: in FWHM / snr; px, by where it lies between pixels
_NEARLY = 0.8  # share of the least S/N at the pixels' centroid above which a windowed centre is computed
_WHOLE = 0.98  # share of a point source's light; with less on usable pixels a source is MASKED


def find_sources(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the sources on the science image of an exposure, whether or not they are on the difference image.

    Parameters
    ----------
    inputs
        ``science`` and ``mask``.
    context
        The exposure, and the section `FindSourcesSettings`.

    Returns
    -------
    pyarrow.Table
        Rows of `SOURCE`, sorted by (y, x); none if the image has no usable pixel.

    Raises
    ------
    BadInput
        The WCS cannot be read (code ``bad_wcs``).
    """
    info, settings = context.exposure, context.settings
    if info is None:
        raise Misconfigured("no_exposure", "stage find_sources", "it works on one exposure.", "give it one.")
    image = science_image(inputs[SCIENCE.name], inputs[MASK.name], settings.mesh, context.allocate)
    if image is None:
        return SOURCE.empty()
    worth = partial(_is_worth, info, _NEARLY * settings.min_snr)
    found = find_shapes(image, info.psf.fwhm_px, settings.threshold, settings.min_area, settings.contrast, worth)
    columns = _columns(image, inputs[MASK.name], found, info)
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in SOURCE.schema]
    table = pa.Table.from_arrays(arrays, schema=SOURCE.schema)
    return table.filter(pa.array(np.nan_to_num(columns["snr"]) >= settings.min_snr))


def _fluxes(info: ExposureInfo, image: ScienceImage, x: NDArray[np.float64], y: NDArray[np.float64]) -> Fluxes:
    psf = moffat_mixture(info.psf.fwhm_px, info.psf.beta)
    gain = np.inf if info.gain is None else info.gain
    return psf_fluxes(image, x, y, psf, info.psf.fwhm_px, np.array(info.noise_correlation), gain)


def _is_worth(
    info: ExposureInfo, least: float, image: ScienceImage, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.bool_]:
    flux = _fluxes(info, image, x, y)
    return np.asarray(np.nan_to_num(flux.value / flux.error) >= least, np.bool_)


def _columns(image: ScienceImage, mask: NDArray[np.uint16], found: Shapes, info: ExposureInfo) -> dict[str, Any]:
    flux = _fluxes(info, image, found.x, found.y)
    scale = np.nan if info.ab_zero_point is None else njy_per_unit(info.ab_zero_point)
    count = len(found.x)
    snr = flux.value / flux.error
    sky = _sky(found, info)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = sky["pixelScale"] * np.hypot(_PLACE * info.psf.fwhm_px / snr, _PHASE)
    return sky | {
        "visit": np.full(count, info.visit),
        "detector": np.full(count, info.detector, np.int32),
        "band": [info.band] * count,
        "midpointMjdTai": np.full(count, info.midpoint_mjd_tai),
        "x": found.x,
        "y": found.y,
        "posErr": error,
        "snr": snr,
        "psfFlux": scale * flux.value,
        "psfFluxErr": scale * flux.error,
        "halfLightRadius": found.half_light,
        "petrosianRadius": found.petrosian,
        "elongation": found.elongation,
        "anglePx": found.angle,
        "fwhm": np.full(count, info.psf.fwhm_px),
        "flags": _flags(image, mask, found, flux.seen, info),
    }


def _flags(
    image: ScienceImage, mask: NDArray[np.uint16], found: Shapes, seen: NDArray[np.float64], info: ExposureInfo
) -> NDArray[np.int32]:
    ny, nx = image.pixels.shape
    first, last = found.box[:, ::2].min(axis=1, initial=ny), found.box[:, 1::2] >= [ny - 1, nx - 1]
    flags = np.zeros(len(found.x), np.int32)
    for flag, holds in (
        (SourceFlag.EDGE, (first <= 0) | last.any(axis=1) | found.truncated),
        (SourceFlag.SATURATED, any_in_boxes(mask, np.uint16(MaskPlane.SAT), found.box)),
        (SourceFlag.MASKED, seen < _WHOLE),
        (SourceFlag.BLENDED, found.blended),
        (SourceFlag.NO_WCS, np.full(len(flags), info.wcs_header is None)),
        (SourceFlag.NO_ZERO_POINT, np.full(len(flags), info.ab_zero_point is None)),
    ):
        flags[holds] |= flag.value
    return flags


def _sky(found: Shapes, info: ExposureInfo) -> dict[str, NDArray[np.float64]]:
    """Return the sky columns; NaN without a WCS."""
    count = len(found.x)
    if info.wcs_header is None:
        return {name: np.full(count, np.nan) for name in ("ra", "dec", "positionAngle", "pixelScale")}
    try:
        wcs = celestial_wcs(info.wcs_header)
    except ValueError as error:
        remedy = "correct the header of the exposure, or ingest it without WCS."
        raise BadInput("bad_wcs", f"exposure {info.name}", f"{error}.", remedy) from error
    sky = sky_trails(wcs, found.x, found.y, np.ones(count), found.angle, np.zeros((count, 4, 4)))
    scale = np.full(count, pixel_scale(wcs))
    return {"ra": sky.ra, "dec": sky.dec, "positionAngle": sky.angle, "pixelScale": scale}


def _memory(shape: tuple[int, int], settings: FindSourcesSettings) -> int:
    return max(piecewise_memory(shape, settings), block_pixels(shape, settings.mesh) * EXPOSURE_PIXEL)


STAGE = Stage(
    name="find_sources",
    version="3",
    per="exposure",
    needs=(SCIENCE, MASK),
    gives=SOURCE,
    run=find_sources,
    settings=FindSourcesSettings,
    memory=_memory,
    warm_up=as_found,
)
