"""Cards: of models, and of the WCS of images."""

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from schemas.model_card import ModelCard


def model_card(**known):
    """Card of a detector without weights, but for what is given."""
    usual = {
        "stage": "detect", "name": "test", "version": "1", "sha256": "", "input": {}, "classes": ("nothing", "trail"),
        "training": {}, "metrics": {}, "threshold": 0.5, "false_alarm_rate": "not set",
    }  # fmt: skip
    return ModelCard(**usual | known)


def gnomonic(place, pixel, scale=1.0, rotation=0.0):
    """WCS of square pixels, north up and east left but for a rotation.

    Parameters
    ----------
    place, pixel
        Where the sky is touched: right ascension and declination, deg, and the pixel there, the first being 1.
    scale, rotation
        Side of a pixel, arcsec; from north towards the east, deg.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], place, pixel
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.cd = scale * np.array([[-c, s], [s, c]]) / 3600
    return wcs


def elsewise(wcs):
    """Return two others that touch the sky at the same place: in galactic coordinates, and with the declination first.

    North up is that of the Galaxy in the first.
    """
    place = SkyCoord(*wcs.wcs.crval, unit="deg").galactic
    galactic, swapped = wcs.deepcopy(), wcs.deepcopy()
    galactic.wcs.ctype, galactic.wcs.crval = ["GLON-TAN", "GLAT-TAN"], [place.l.deg, place.b.deg]
    swapped.wcs.ctype, swapped.wcs.crval = ["DEC--TAN", "RA---TAN"], wcs.wcs.crval[::-1]
    swapped.wcs.cd = wcs.wcs.cd[::-1]
    return galactic, swapped


def as_text(wcs):
    """Cards of a WCS, as exposures have them."""
    return wcs.to_header(relax=True).tostring(sep="\n")
