"""Exposures written as multi-extension FITS with mask planes, as Rubin's pipelines do."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from flows.simulation.conditions import Conditions
from flows.simulation.exposure import SimulatedExposure
from schemas.mask import MaskPlane

PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "STREAK": 9,
}
"""Bit number of each mask plane, as the headers say it in ``MP_<plane>``."""


def rubin_name(conditions: Conditions, product: str = "difference") -> str:
    """Give the file name of a product: difference, science or template."""
    return f"{product}Exp_LSSTCam_{conditions.band}_{conditions.visit}_{conditions.detector:03d}.fits"


def write_rubin(exposure: SimulatedExposure, folder: Path, planes: dict[str, NDArray[np.float32]]) -> tuple[Path, ...]:
    """Write the difference image with its mask and variance, and the planes given as files of their own.

    Returns
    -------
    tuple of Path
        The difference image first.
    """
    conditions = exposure.conditions
    products = {"difference": exposure.difference, **planes}
    paths = []
    for product, pixels in products.items():
        wcs = conditions.header
        mask = fits.ImageHDU(_bits(exposure.mask), wcs, name="MASK")
        for plane, bit in PLANES.items():
            mask.header[_keyword(f"MP_{plane}")] = bit
        image = fits.ImageHDU(pixels, wcs, name="IMAGE")
        image.header["BUNIT"] = "nJy"
        variance = fits.ImageHDU(exposure.variance, wcs, name="VARIANCE")
        variance.header["BUNIT"] = "nJy2"
        path = folder / rubin_name(conditions, product)
        primary = fits.PrimaryHDU(header=rubin_header(conditions))
        fits.HDUList([primary, image, mask, variance]).writeto(path, overwrite=True)
        paths.append(path)
    return tuple(paths)


def _keyword(name: str) -> str:
    """Keyword of any length: beyond eight characters FITS needs the HIERARCH convention."""
    return name if len(name) <= 8 else f"HIERARCH {name}"


def _bits(mask: NDArray[np.uint16]) -> NDArray[np.int32]:
    out = np.zeros(mask.shape, np.int32)
    for plane, bit in PLANES.items():
        out |= np.where(mask & np.uint16(MaskPlane[plane]), np.int32(1 << bit), np.int32(0))
    return out


def rubin_header(conditions: Conditions) -> fits.Header:
    """Give the primary header: who took the visit, when, and how it is calibrated."""
    preset = conditions.preset
    half = preset.exposure_time / 2 / 86400
    middle = conditions.midpoint_mjd_tai
    header = fits.Header()
    header["INSTRUME"] = preset.instrument
    header["TELESCOP"] = "Simonyi Survey Telescope"
    header["SIMULATE"] = (True, "Simulated by nightstride")
    header["HIERARCH LSST BUTLER DATAID INSTRUMENT"] = preset.instrument
    header["HIERARCH LSST BUTLER DATAID VISIT"] = conditions.visit
    header["HIERARCH LSST BUTLER DATAID DETECTOR"] = conditions.detector
    header["HIERARCH LSST BUTLER DATAID BAND"] = conditions.band
    header["DETECTOR"] = conditions.detector
    header["DAY_OBS"] = conditions.visit // 100_000
    header["TIMESYS"] = ("TAI", "Time scale of the dates here")
    for name, mjd in (("BEG", middle - half), ("AVG", middle), ("END", middle + half)):
        header[f"DATE-{name}"] = Time(mjd, format="mjd", scale="tai").isot
        header[f"MJD-{name}"] = mjd
    header["EXPTIME"] = (preset.exposure_time, "s")
    header["FILTER"] = f"{conditions.band}_01"
    header["BAND"] = conditions.band
    header["BUNIT"] = "nJy"
    header["MAGZERO"] = (conditions.zero_point, "AB magnitude of 1 nJy")
    header["GAINNJY"] = (preset.gain, "electrons per nJy")
    header["SATNJY"] = (preset.saturation, "Saturation level [nJy]")
    header["PSF_FWHM"] = (round(conditions.psf.fwhm, 3), "FWHM [pixels]")
    return header
