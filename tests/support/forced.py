"""Small exposures in output folders, and targets on them.

Their WCS is plain: 1 arcsec / px, north up, east left, (150, 20) deg at pixel (150, 140).
"""

import numpy as np
from astropy import units as u

from flows.results.forced.targets import ForcedTargets
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import write_exposure
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.projection import celestial_wcs
from kernels.trails.trail_model import trail_image
from schemas.ledger import ExposureRecord
from schemas.settings import Settings, TileSettings
from tests.support.exposure import exposure_info

SETTINGS = Settings(tiles=TileSettings(tile=504, chunk=252))
SHAPE = (280, 300)
MJD = 61041.25
NOISE = 5.0
WCS_HEADER = "\n".join(
    card.ljust(80)
    for card in (
        "CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CUNIT1  = 'deg'", "CUNIT2  = 'deg'", "RADESYS = 'ICRS'",
        "CRPIX1  = 151.0", "CRPIX2  = 141.0", "CRVAL1  = 150.0", "CRVAL2  = 20.0",
        "CD1_1   = -2.777777777777778E-04", "CD1_2   = 0.0", "CD2_1   = 0.0", "CD2_2   = 2.777777777777778E-04",
    )
)  # fmt: skip


def plain_info(**changes):
    values = {
        "visit": 7, "midpoint_mjd_tai": MJD, "exposure_time_s": 36.0, "shape": SHAPE, "zero_point": 26.0,
        "fwhm_px": 2.2, "noise": NOISE, "wcs_header": WCS_HEADER,
    }  # fmt: skip
    return exposure_info(**(values | changes))


def plain_planes(*trails, seed=1):
    """White noise, an empty mask, and trails (x, y, length, angle, flux)."""
    pixels = np.random.default_rng(seed).normal(0, NOISE, SHAPE)
    for *place, flux in trails:
        pixels += flux * trail_image(SHAPE, *place, moffat_mixture(2.2, 3.0))
    return {"difference": pixels.astype(np.float32), "mask": np.zeros(SHAPE, np.uint16)}


def at_pixel(x, y):
    """Right ascension and declination of a pixel, deg, good to 1e-3 px here."""
    ra, dec = celestial_wcs(WCS_HEADER).all_pix2world(x, y, 0)
    return float(ra), float(dec)


def targets(**places):
    """Targets at pixels (x, y[, rate in arcsec / h towards the west])."""
    rows = [
        (name, *at_pixel(*place[:2]), MJD, *place[2:], *(0.0,) * (3 - len(place)))
        for name, place in sorted(places.items())
    ]
    columns = list(zip(*rows, strict=True)) or [()] * 5
    numbers = (np.array(column, float) for column in columns[1:])
    return ForcedTargets(np.array(columns[0], str), *numbers, np.full(len(rows), 270.0))


def record_of(info, **changes):
    values = {
        **info.model_dump(include={"night", "visit", "detector", "source_uri", "source_sha256"}),
        "digest": "d",
        "software": "0",
        "finished_at": "2026-01-01T00:00:00Z",
    }
    return ExposureRecord(**(values | changes))


def store(out, info, planes):
    """Put an exposure into an output folder as a run does that found nothing on it."""
    write_exposure(out / "tiles" / info.night / f"{info.name}.zarr", info, planes, SETTINGS.tiles, f"d{info.visit}")
    Ledger(out).put(record_of(info))


def flux_of(row):
    """True flux of a row of the truth, nJy."""
    return (row["magnitude"] * u.ABmag).to_value(u.nJy) if row["magnitude"] is not None else np.nan
