"""Which sources tell of the PSF of an exposure."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.exposure import ExposureInfo

LEAST_SNR = 30.0
"""Of a star that tells of the PSF: its width is then good to 3 %."""


def psf_stars(sources: pa.Table, info: ExposureInfo) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give x and y (px) of the bright sources of an exposure that no flag doubts, brightest first.

    Parameters
    ----------
    sources
        Of `schemas.source.SOURCE`, of this exposure and maybe others.
    info
        The exposure.
    """
    sources = sources.select(["visit", "detector", "flags", "snr", "x", "y"])
    own = (pc.field("visit") == info.visit) & (pc.field("detector") == info.detector)
    bright = sources.filter(own & (pc.field("flags") == 0) & (pc.field("snr") >= LEAST_SNR))
    ordered = bright.sort_by([("snr", "descending"), ("y", "ascending"), ("x", "ascending")])
    return ordered["x"].to_numpy(), ordered["y"].to_numpy()
