"""Cards: of models, and of the WCS of images."""

import numpy as np
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


def as_text(wcs):
    """Cards of a WCS, as exposures have them."""
    return wcs.to_header(relax=True).tostring(sep="\n")
