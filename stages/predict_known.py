"""Stage: known objects that an exposure should show."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.orbits.ephemeris import Ephemeris, FieldCatalogue
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, Place, observatory_of, observer_at, place_on_earth
from kernels.sky.positions import unit_vectors
from kernels.sky.projection import celestial_wcs, pixel_scale
from schemas.errors import Misconfigured
from schemas.exposure import ExposureInfo
from schemas.known_object import ORBITS, SS_EPHEMERIS
from schemas.pixels import MASK, UNUSABLE
from schemas.settings import PredictKnownSettings
from schemas.stage import Context, Stage

_SNR = 5.0  # S/N of the limiting magnitude
_PSF_PIXELS = 2.27  # noise pixels of a round Gaussian PSF, in FWHM^2: 4 pi / 2.355^2
_BEYOND = 0.02  # deg: largest half length of a trail that is centred off the image but partly on it

Floats = NDArray[np.float64]


def predict_known(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the known objects whose trails an exposure may show at least in part.

    Parameters
    ----------
    inputs
        ``mask`` of the whole exposure, and ``orbits``, a `FieldCatalogue`.
    context
        The exposure, and the section `PredictKnownSettings`.

    Returns
    -------
    table
        `SS_EPHEMERIS`, by designation; empty without a WCS.

    Raises
    ------
    Misconfigured
        The code of the observatory is not known.
    Retryable, Misconfigured
        Raised by the catalogue.
    """
    from astropy.coordinates import SkyCoord  # slow to import, and every plan of a run imports the stages

    exposure, settings = context.exposure, context.settings
    if exposure is None or exposure.wcs_header is None:
        return SS_EPHEMERIS.empty()
    catalogue: FieldCatalogue = inputs[ORBITS.name]
    wcs = celestial_wcs(exposure.wcs_header)
    ny, nx = exposure.shape
    ra, dec = _sky(wcs, [(nx - 1) / 2, -0.5, nx - 0.5, nx - 0.5, -0.5], [(ny - 1) / 2, -0.5, -0.5, ny - 0.5, ny - 0.5])
    middle, *corners = unit_vectors(ra, dec)
    radius = float(np.degrees(np.arccos(np.clip(np.stack(corners) @ middle, -1, 1)).max()))
    code, place = _observatory(settings, exposure)
    observer, faintest = observer_at(exposure.midpoint_mjd_tai, place), _faintest(exposure, settings.fainter)
    known, seen, uncertainty = catalogue.in_field(observer, code, middle, 1.01 * radius + _BEYOND, faintest)
    x, y = wcs.world_to_pixel(SkyCoord(seen.ra, seen.dec, unit="deg"))
    half = seen.rate * exposure.exposure_time_s / 48  # of the trail, arcsec
    reach = (uncertainty + half) / pixel_scale(wcs)
    on = (x >= -0.5 - reach) & (x < nx - 0.5 + reach) & (y >= -0.5 - reach) & (y < ny - 0.5 + reach)
    kept = np.flatnonzero(on)
    kept = kept[np.argsort(np.array(known, str)[kept], kind="stable")]
    names = [known[one] for one in kept]
    return _table(names, x[kept], y[kept], seen.take(kept), uncertainty[kept], inputs[MASK.name], exposure)


def _observatory(settings: PredictKnownSettings, exposure: ExposureInfo) -> tuple[str, Place]:
    """Return the code of the observatory and its position, or the Earth's centre if it is not known."""
    if settings.site is not None:
        return GEOCENTRE, place_on_earth(*settings.site)
    code = settings.obscode or observatory_of(exposure.instrument)
    if code not in OBSERVATORIES:
        remedy = f"give predict_known.site, or one of {', '.join(sorted(OBSERVATORIES))}."
        raise Misconfigured("unknown_observatory", "predict_known.obscode", f"is {code!r}, not on our list.", remedy)
    return code, OBSERVATORIES[code]


def _sky(wcs: Any, x: list[float], y: list[float]) -> tuple[Floats, Floats]:
    place = wcs.pixel_to_world(x, y).icrs
    return place.ra.deg, place.dec.deg


def _faintest(exposure: ExposureInfo, fainter: float) -> float:
    """Return the faintest magnitude of listed objects; without a zero point all objects are listed."""
    if exposure.ab_zero_point is None:
        return np.inf
    noise = exposure.noise * exposure.psf.fwhm_px * np.sqrt(_PSF_PIXELS)
    return float(exposure.ab_zero_point - 2.5 * np.log10(_SNR * noise) + fainter)


def _table(
    names: list[str], x: Floats, y: Floats, seen: Ephemeris, uncertainty: Floats, mask: Any, exposure: ExposureInfo
) -> pa.Table:
    ny, nx = exposure.shape
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    usable = [bool(here and not mask[r, c] & UNUSABLE) for here, r, c in zip(inside, row, column, strict=True)]
    count = len(names)
    columns = {
        "ssObjectId": [object_id(name) for name in names],
        "designation": names,
        "visit": np.full(count, exposure.visit),
        "detector": np.full(count, exposure.detector, np.int32),
        "x": x,
        "y": y,
        "ephRa": seen.ra,
        "ephDec": seen.dec,
        "ephRate": seen.rate,
        "ephRateAngle": seen.angle,
        "ephUncertainty": uncertainty,
        "ephVmag": seen.magnitude,
        "topoRange": seen.distance,
        "helioRange": seen.sun_distance,
        "phaseAngle": seen.phase,
        "elongation": seen.elongation,
        "usable": usable,
        "midpointMjdTai": np.full(count, exposure.midpoint_mjd_tai),
    }
    return pa.table(
        [pa.array(columns[field.name], from_pandas=True).cast(field.type) for field in SS_EPHEMERIS.schema],
        schema=SS_EPHEMERIS.schema,
    )


def object_id(designation: str) -> int:
    """Return the ``ssObjectId`` of a designation."""
    return int.from_bytes(hashlib.sha256(designation.encode()).digest()[:8], "big") >> 1


STAGE = Stage(
    name="predict_known",
    version="7",
    per="exposure",
    needs=(MASK, ORBITS),
    gives=SS_EPHEMERIS,
    run=predict_known,
    settings=PredictKnownSettings,
)
