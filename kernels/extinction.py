"""Light that the Milky Way's dust takes away."""

import numpy as np
from numpy.typing import NDArray

COEFFICIENTS = {"u": 4.145, "g": 3.237, "r": 2.273, "i": 1.684, "z": 1.323, "y": 1.088}
"""A / E(B-V), mag, of the reddening of Schlegel, Finkbeiner & Davis (1998), for R_V = 3.1 in LSST's bands: Schlafly &
Finkbeiner 2011, ApJ 737, 103, table 6. Those of SDSS and DECam are within 4 % but in u, z and y."""


def dereddened(magnitude: NDArray[np.float64], band: str, ebv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give magnitudes without the extinction of a reddening of ``ebv``, mag; NaN where that is not known."""
    return magnitude - COEFFICIENTS[band] * ebv
