"""Stage: objects of a patch of the sky in a night, built from the sources of all its exposures."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.image.science_image import NeededPlaces, image_of
from kernels.measure.photometry import ab_magnitude, njy_per_unit
from kernels.objects.source_photometry import PSF_REACH, BandFlux, FluxSum, aperture_fluxes, dereddened, psf_fluxes
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.positions import merge_positions, object_ids, sky_position, unit_vectors
from kernels.sky.projection import celestial_wcs, pixel_scale, pixels_of
from schemas.errors import Misconfigured
from schemas.exposure import ExposureInfo
from schemas.objects import BANDS, OBJECT, SOURCE
from schemas.settings import GatherObjectsSettings
from schemas.stage import Context, NightPixels, Stage

Columns = dict[str, Any]


def gather_objects(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Merge the sources of all exposures by position, and return each object measured in every band.

    Parameters
    ----------
    inputs
        ``source`` of the patch, and of as much of its surroundings as can affect objects within its margin. Sources
        without a sky position are left out.
    context
        The section `GatherObjectsSettings`, the pixels of the patch and, if there is a dust map,
        ``models["dust_map"]``: a callable from (ra, dec), deg, to E(B-V), mag.

    Returns
    -------
    pyarrow.Table
        Rows of `OBJECT` in the patch and its margin, sorted by objectId. An object depends only on sources near it and
        on the exposures that show it, so it is the same in every patch.
    """
    settings: GatherObjectsSettings = context.settings
    if context.pixels is None:
        raise Misconfigured("no_pixels", "stage gather_objects", "it works on the pixels of a patch.", "give it them.")
    sources = inputs[SOURCE.name]
    sources = sources.filter(pa.array(np.isfinite(_numbers(sources, "ra"))))
    if not len(sources):
        return OBJECT.empty()
    columns = _merged(sources, settings.match_fwhm)
    if context.patch is not None:
        near = context.patch.holds(columns["ra"], columns["dec"], context.patch.margin)
        columns = {name: values[near] for name, values in columns.items()}
    seen = _measured(columns["ra"], columns["dec"], context.pixels, settings)
    dust = context.models.get("dust_map")
    ebv = np.full(len(columns["ra"]), np.nan) if dust is None else np.asarray(dust(columns["ra"], columns["dec"]))
    columns |= {"ebv": ebv} | _photometry(seen, ebv)
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in OBJECT.schema]
    return pa.Table.from_arrays(arrays, schema=OBJECT.schema)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    return table[name].to_numpy().astype(np.float64)


def _merged(sources: pa.Table, match_fwhm: float) -> Columns:
    """Return the columns of the objects other than those of single bands, sorted by id."""
    vectors = unit_vectors(_numbers(sources, "ra"), _numbers(sources, "dec"))
    names = np.stack([sources["visit"].to_numpy(), sources["detector"].to_numpy().astype(np.int64)], axis=1)
    _, exposure = np.unique(names, axis=0, return_inverse=True)
    snr, scale = _numbers(sources, "snr"), _numbers(sources, "pixelScale")
    radius = match_fwhm * _numbers(sources, "fwhm") * scale
    member = merge_positions(vectors, exposure.reshape(-1).astype(np.int64), snr, radius)
    count = int(member.max()) + 1
    weight = _numbers(sources, "posErr") ** -2.0
    total = np.zeros((count, 3))
    np.add.at(total, member, weight[:, None] * vectors)
    ra, dec = sky_position(total)
    best = np.lexsort((-snr, member))[np.searchsorted(np.sort(member), np.arange(count))]
    flags = np.zeros(count, np.int32)
    np.bitwise_or.at(flags, member, sources["flags"].to_numpy())
    band = np.array(sources["band"].to_pylist())
    shape = sources.take(pa.array(best))
    columns: Columns = {
        "objectId": object_ids(ra, dec),
        "ra": ra,
        "dec": dec,
        "posErr": np.bincount(member, weight) ** -0.5,
        "nSources": np.bincount(member),
        "nBands": sum(np.bincount(member[band == one], minlength=count) > 0 for one in np.unique(band)),
        "refBand": band[best],
        "snr": snr[best],
        "halfLightRadius": _numbers(shape, "halfLightRadius") * scale[best],
        "petrosianRadius": _numbers(shape, "petrosianRadius") * scale[best],
        "elongation": _numbers(shape, "elongation"),
        "positionAngle": _numbers(shape, "positionAngle"),
        "flags": flags,
    }
    order = np.unique(columns["objectId"], return_index=True)[1]
    return {name: values[order] for name, values in columns.items()}


class Seen(NamedTuple):
    """Objects on the exposures of a band: fluxes in nJy, and FWHM of the sharpest exposure, arcsec; NaN if missing."""

    psf: FluxSum
    aperture: FluxSum
    fwhm: NDArray[np.float64]


def _measured(
    ra: NDArray[np.float64], dec: NDArray[np.float64], pixels: NightPixels, settings: GatherObjectsSettings
) -> dict[str, Seen]:
    """Return the measurements of all objects on all exposures, made one exposure at a time."""
    count = len(ra)
    seen = {band: Seen(FluxSum(count), FluxSum(count), np.full(count, np.nan)) for band in BANDS}
    for info in pixels.exposures():
        if info.wcs_header is None or info.ab_zero_point is None or info.band not in seen:
            continue
        which, x, y = pixels_of(celestial_wcs(info.wcs_header), info.shape, ra, dec)
        if which.size:
            _measure(info, pixels, which, x, y, settings, seen[info.band])
    return seen


def _measure(
    info: ExposureInfo,
    pixels: NightPixels,
    which: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    settings: GatherObjectsSettings,
    seen: Seen,
) -> None:
    if info.ab_zero_point is None or info.wcs_header is None:
        return
    psf, fwhm = moffat_mixture(info.psf.fwhm_px, info.psf.beta), info.psf.fwhm_px
    correlation, gain = np.array(info.noise_correlation), np.inf if info.gain is None else info.gain
    scale, radius = njy_per_unit(info.ab_zero_point), settings.aperture_fwhm * fwhm
    with image_of(pixels, info, settings.mesh, NeededPlaces(x, y, max(radius, PSF_REACH * fwhm) + 2)) as image:
        if image is None:
            return
        point = psf_fluxes(image, x, y, psf, fwhm, correlation, gain)
        circle = aperture_fluxes(image, x, y, radius, psf, correlation, gain)
    seen.psf.add(which, point, scale)
    seen.aperture.add(which, circle, scale)
    measured = which[np.isfinite(point.value)]
    arcsec = fwhm * pixel_scale(celestial_wcs(info.wcs_header))
    seen.fwhm[measured] = np.fmin(seen.fwhm[measured], arcsec)


def _photometry(seen: Mapping[str, Seen], ebv: NDArray[np.float64]) -> Columns:
    """Return the columns of the bands and the colours."""
    columns: Columns = {}
    for band, one in seen.items():
        point = one.psf.mean()
        columns[f"{band}_nExposures"] = point.exposures
        columns[f"{band}_fwhm"] = one.fwhm
        columns |= _of_kind(f"{band}_psf", band, point, ebv)
        columns |= _of_kind(f"{band}_ap", band, one.aperture.mean(), ebv)
    for blue, red in pairwise(BANDS):
        name = f"{blue}Minus{red.upper()}"
        columns[name] = columns[f"{blue}_apMag"] - columns[f"{red}_apMag"]
        columns[f"{name}Err"] = np.hypot(columns[f"{blue}_apMagErr"], columns[f"{red}_apMagErr"])
    return columns


def _of_kind(name: str, band: str, flux: BandFlux, ebv: NDArray[np.float64]) -> Columns:
    magnitude, error = ab_magnitude(flux.value, flux.error)
    return {
        f"{name}Flux": flux.value,
        f"{name}FluxErr": flux.error,
        f"{name}Mag": magnitude,
        f"{name}MagErr": error,
        f"{name}Mag0": dereddened(magnitude, band, ebv),
    }


STAGE = Stage(
    name="gather_objects",
    version="3",
    per="patch",
    needs=(SOURCE,),
    gives=OBJECT,
    run=gather_objects,
    settings=GatherObjectsSettings,
    margin=True,
    pixels=True,
)
