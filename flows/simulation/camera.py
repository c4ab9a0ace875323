"""Camera: position of a detector in the focal plane, and its distorted projection onto the sky."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from flows.simulation.presets import Preset, random_stream

_CCD_STEP = (1.80, 1.87)  # deg between CCDs of the ZTF mosaic, in x and y
_QUADRANT_OFFSET = {0: (1, 1), 1: (-1, 1), 2: (-1, -1), 3: (1, -1)}  # from the centre of the CCD, in half quadrants
_DETECTORS = {"ztf": 64, "rubin": 189, "decam": 62}
_GRIDS = {"rubin": (14, 0.235, 0.235), "decam": (8, 0.154, 0.304)}
"""Number of columns of detectors, and spacing in x and y, deg; DECam's round focal plane is treated as square."""

_TPV_TERMS = (4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16)


def detector_count(preset: Preset) -> int:
    """Return the number of detectors of the camera."""
    return _DETECTORS[preset.layout]


def projection(preset: Preset, detector: int, pointing: tuple[float, float]) -> fits.Header:
    """Return the WCS cards of a detector for a telescope pointed at (ra, dec), deg.

    ZTF-like headers are TPV with quadratic and cubic PV terms around the centre of the CCD; others are TAN-SIP. The
    distortion belongs to the detector: it is the same on every visit.
    """
    return _tpv(preset, detector, pointing) if preset.layout == "ztf" else _sip(preset, detector, pointing)


def solution(header: fits.Header) -> WCS:
    """Return the astropy WCS for cards from `projection`."""
    return WCS(header)


def _tpv(preset: Preset, detector: int, pointing: tuple[float, float]) -> fits.Header:
    ccd, quadrant = divmod(detector, 4)
    row, column = divmod(ccd, 4)
    ra, dec = _offset(pointing, (column - 1.5) * _CCD_STEP[0], (row - 1.5) * _CCD_STEP[1])
    rng = random_stream(f"{preset.layout}/camera", detector)
    scale = preset.pixel_scale / 3600
    ny, nx = preset.shape
    half_y, half_x = (side / 2 + 15 for side in preset.full_shape)
    side_x, side_y = _QUADRANT_OFFSET[quadrant]
    header = _frame(("RA---TPV", "DEC--TPV"), (ra, dec))
    header["CRPIX1"] = (nx + 1) / 2 - side_x * half_x
    header["CRPIX2"] = (ny + 1) / 2 - side_y * half_y
    rotation = np.deg2rad(rng.normal(0, 0.15))
    header["CD1_1"] = -scale * np.cos(rotation)
    header["CD1_2"] = scale * np.sin(rotation)
    header["CD2_1"] = -scale * np.sin(rotation)
    header["CD2_2"] = -scale * np.cos(rotation)
    for axis in (1, 2):
        header[f"PV{axis}_0"] = rng.normal(0, 3e-5)
        header[f"PV{axis}_1"] = 1 + rng.normal(0, 5e-5)
        header[f"PV{axis}_2"] = rng.normal(0, 1e-4)
        for term in _TPV_TERMS:
            header[f"PV{axis}_{term}"] = rng.normal(0, 3e-4)
    return header


def _sip(preset: Preset, detector: int, pointing: tuple[float, float]) -> fits.Header:
    columns, step_x, step_y = _GRIDS[preset.layout]
    row, column = divmod(detector, columns)
    middle = (columns - 1) / 2
    ra, dec = _offset(pointing, (column - middle) * step_x, (row - middle) * step_y)
    rng = random_stream(f"{preset.layout}/camera", detector)
    scale = preset.pixel_scale / 3600
    ny, nx = preset.shape
    header = _frame(("RA---TAN-SIP", "DEC--TAN-SIP"), (ra, dec))
    header["CRPIX1"], header["CRPIX2"] = (nx + 1) / 2, (ny + 1) / 2
    rotation = np.deg2rad(rng.normal(0, 0.1))
    header["CD1_1"], header["CD1_2"] = -scale * np.cos(rotation), scale * np.sin(rotation)
    header["CD2_1"], header["CD2_2"] = scale * np.sin(rotation), scale * np.cos(rotation)
    for axis in "AB":
        header[f"{axis}_ORDER"] = 3
        for i in range(4):
            for j in range(4 - i):
                if i + j >= 2:
                    header[f"{axis}_{i}_{j}"] = rng.normal(0, 2e-7 if i + j == 2 else 5e-11)
    return header


def _frame(kinds: tuple[str, str], centre: tuple[float, float]) -> fits.Header:
    header = fits.Header()
    header["WCSAXES"] = 2
    header["RADESYS"] = "ICRS"
    header["EQUINOX"] = 2000.0
    for axis, kind in enumerate(kinds, 1):
        header[f"CTYPE{axis}"] = kind
        header[f"CUNIT{axis}"] = "deg"
    header["CRVAL1"], header["CRVAL2"] = centre
    return header


def _offset(pointing: tuple[float, float], east: float, north: float) -> tuple[float, float]:
    """Return the point ``east``, ``north`` deg away on the tangent plane (Calabretta & Greisen 2002, A&A 395, 1077)."""
    ra, dec = np.deg2rad(pointing)
    xi, eta = np.deg2rad((east, north))
    across = np.cos(dec) - eta * np.sin(dec)
    new_ra = ra + np.arctan2(xi, across)
    new_dec = np.arctan2(np.sin(dec) + eta * np.cos(dec), np.hypot(xi, across))
    return float(np.rad2deg(new_ra) % 360), float(np.rad2deg(new_dec))
