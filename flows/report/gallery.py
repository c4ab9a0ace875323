"""Difference cutouts of detections."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.report.detection import Detection
from flows.report.mark import Mark, place
from flows.report.picture import OUTSIDE, Picture, bin_mean, png, stretch, usable
from schemas.exposure import ExposureInfo

LEAST_SIDE, MOST_SIDE, MOST_PICTURE = 41, 480, 160
"""Bounds of a cutout's side, px, and the side of its picture beyond which it is binned, px."""


@dataclass(frozen=True)
class Cutout:
    """Picture of a detection with its fitted trail.

    Attributes
    ----------
    side
        Side of the square on the exposure, px.
    width
        Side of the drawing, px of the exposure: ``side`` rounded up to whole bins.
    """

    picture: Picture
    mark: Mark
    side: int
    width: int


def cutout_box(detection: Detection) -> tuple[int, int, int]:
    """First row, first column and side of the square around ``detection``: odd, within bounds, 1.4 times its box."""
    side = min(max(math.ceil(1.4 * detection.side), LEAST_SIDE), MOST_SIDE) | 1
    return round(detection.y) - side // 2, round(detection.x) - side // 2, side


def cutout(
    difference: NDArray[np.float32], mask: NDArray[np.uint16], detection: Detection, info: ExposureInfo
) -> Cutout:
    """Cut the square around ``detection`` out of an exposure.

    Parameters
    ----------
    difference, mask : (ny, nx)
        Pixels of the whole exposure and their mask. What lies beyond its border is shown in a colour of its own.
    info
        Its background, noise and PSF.
    """
    y0, x0, side = cutout_box(detection)
    ny, nx = difference.shape
    rows, columns = slice(max(y0, 0), min(y0 + side, ny)), slice(max(x0, 0), min(x0 + side, nx))
    factor = math.ceil(side / MOST_PICTURE)
    full = np.full((side, side), np.nan, np.float32)
    inside = np.zeros((side, side), bool)
    here = (slice(rows.start - y0, rows.stop - y0), slice(columns.start - x0, columns.stop - x0))
    full[here] = np.where(usable(difference[rows, columns], mask[rows, columns]), difference[rows, columns], np.nan)
    inside[here] = True
    binned = bin_mean(full, np.isfinite(full), factor)
    levels = stretch(binned, info.background, info.noise)
    levels[~(bin_mean(inside.astype(np.float32), np.ones_like(inside), factor) >= 0.5)] = OUTSIDE
    width = binned.shape[0] * factor
    radius = max(1.5 * info.psf.fwhm_px, side / 12)
    return Cutout(png(levels), place(detection, (x0, y0), width, radius), side, width)
