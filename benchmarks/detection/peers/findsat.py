"""`acstools.findsat_mrt`: trails in a median Radon transform (Stark et al., ACS ISR 2022-08; BSD-3).

Run as its own documentation does for full frames: bad pixels NaN, median subtracted, 4 x 4 pixels summed, all other
parameters as they come (angles every 0.5 deg, threshold 5, at least 25 binned pixels long), trails of status 2. It was
made for satellites that cross an image, and gives the line, not where on the line the light is: as centre stands the
middle of the line on the image.
"""

import logging
import warnings

import numpy as np
from astropy.nddata import block_reduce

from flows.results.evaluation.evaluate import Detections

BIN = 4


def findsat_streaks(exposure, threads):
    """Return the trails on one exposure."""
    from acstools.findsat_mrt import TrailFinder

    for name in ("findsat_mrt", "utils_findsat_mrt"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finder = TrailFinder(_binned(exposure), processes=threads)
        finder.run_mrt()
        finder.find_mrt_sources()
        finder.filter_sources()
    table = finder.source_list
    if table is None or not len(table):
        return Detections.of(*np.empty((3, 0)))
    table = table[np.asarray(table["status"]) == 2]
    ends = np.array([np.asarray(ends, float) for ends in table["endpoints"]]).reshape(-1, 2, 2)
    x, y = (ends.mean(1) * BIN + (BIN - 1) / 2).T
    dx, dy = (BIN * (ends[:, 1] - ends[:, 0])).T
    snr = np.asarray(table["snr"], float)
    return Detections(x, y, snr, snr, np.hypot(dx, dy), np.degrees(np.arctan2(dy, dx)) % 180)


def _binned(exposure):
    usable = exposure.pixels.usable
    image = np.where(usable, exposure.difference, np.nan).astype(np.float64)
    image -= np.nanmedian(image)
    ny, nx = (size // BIN * BIN for size in image.shape)
    return block_reduce(image[:ny, :nx], BIN, func=np.nansum)
