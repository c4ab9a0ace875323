"""Picture and cutouts of one exposure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.results.page.detection import (
    DetectionCutout,
    Mark,
    MotionNote,
    PageDetection,
    detection_cutout,
    detections,
    place_mark,
)
from flows.results.page.night import Exposure
from flows.results.page.picture import Picture, bin_mean, jpeg, stretch, usable
from flows.results.page.words import utc
from flows.results.quality.measure import Compass, compass
from schemas.exposure import ExposureInfo
from schemas.pixels import BAND

SIDE = 800
"""Longest side of an overview, px."""
LIMIT = 200_000
"""Characters of an overview on the page: 150 kB of picture."""
MARKS = 400
"""Detections marked on one overview."""

_SPREAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation


@dataclass(frozen=True)
class Overview:
    """Picture of an exposure and the marks drawn over it.

    Attributes
    ----------
    width, height
        Pixels of the exposure that the picture stands for: a multiple of ``factor``.
    factor
        Pixels of the exposure to a pixel of the picture.
    arrows
        Ends (name, x, y) of the arrows to north and east from the origin, of length 1, y downwards.
    """

    picture: Picture
    width: int
    height: int
    factor: int
    marks: tuple[Mark, ...]
    unmarked: int
    arrows: tuple[tuple[str, float, float], ...]

    @property
    def lettering(self) -> float:
        """Return the height of the numbers, px of the exposure."""
        return round(max(self.width, self.height) / 42, 1)

    @property
    def caption(self) -> str:
        """Return in words what the picture shows."""
        scale = "full resolution" if self.factor == 1 else f"means over {self.factor} × {self.factor} px"
        left_out = f"; {self.unmarked} more are not marked" if self.unmarked else ""
        return f"{self.width} × {self.height} px, {scale}; {len(self.marks)} detections marked{left_out}."


def overview(
    difference: NDArray[np.float32],
    mask: NDArray[np.uint16],
    found: Sequence[PageDetection],
    directions: Compass | None,
) -> Overview:
    """Bin an exposure to at most `SIDE` px and mark what was found on it.

    Parameters
    ----------
    difference, mask : (ny, nx)
        Pixels and their mask.
    found
        Detections, the most reliable first.
    directions
        Of north and east, None if not known.
    """
    ny, nx = difference.shape
    factor = max(1, math.ceil(max(ny, nx) / SIDE))
    step = factor * math.ceil(BAND / factor)
    strips = ((difference[y : y + step], mask[y : y + step]) for y in range(0, ny, step))
    binned = np.concatenate([bin_mean(pixels, usable(pixels, bits), factor) for pixels, bits in strips])
    levels = stretch(binned, *_level_and_noise(binned), high=12.0)
    height, width = binned.shape[0] * factor, binned.shape[1] * factor
    margin = max(width, height) / 75
    marks = tuple(place_mark(detection, (0.0, 0.0), height, margin) for detection in found[:MARKS])
    arrows = () if directions is None else tuple(_arrows(directions))
    return Overview(jpeg(levels, LIMIT), width, height, factor, marks, max(0, len(found) - MARKS), arrows)


def _arrows(directions: Compass) -> list[tuple[str, float, float]]:
    return [("N", directions.north[0], -directions.north[1]), ("E", directions.east[0], -directions.east[1])]


def _level_and_noise(binned: NDArray[np.float64]) -> tuple[float, float]:
    """Return robust level and spread of the bins; 0 and 1 without any."""
    values = binned[np.isfinite(binned)]
    if not values.size:
        return 0.0, 1.0
    level = float(np.median(values))
    return level, _SPREAD * float(np.median(np.abs(values - level))) or 1.0


@dataclass(frozen=True)
class Panel:
    """Part of the page about one exposure.

    Attributes
    ----------
    left_out
        Detections without a cutout: the least reliable.
    """

    name: str
    title: str
    subtitle: str
    overview: Overview
    cutouts: tuple[DetectionCutout, ...]
    left_out: int

    @property
    def caption(self) -> str:
        """Return in words what is shown, and what is not."""
        if not self.left_out:
            return self.overview.caption
        kept = f"Cutouts: the {len(self.cutouts)} most reliable" if self.cutouts else "Without cutouts"
        return f"{self.overview.caption} {kept}; {self.left_out} are left out."

    @property
    def shown(self) -> frozenset[int]:
        """Return the ids of the detections that have a cutout."""
        return frozenset(cutout.mark.detection.id for cutout in self.cutouts)


def panel(
    exposure: Exposure,
    info: ExposureInfo,
    difference: NDArray[np.float32],
    mask: NDArray[np.uint16],
    most_cutouts: int,
    motions: Mapping[int, MotionNote] | None = None,
) -> Panel:
    """Draw an exposure and the ``most_cutouts`` most reliable of its detections.

    Parameters
    ----------
    difference, mask : (ny, nx)
        Its pixels, in pixel units, and their mask.
    motions
        Of `flows.results.page.detection.detections`.
    """
    found = detections(exposure.sources, motions)
    return Panel(
        name=info.name,
        title=f"Visit {info.visit}, detector {info.detector}",
        subtitle=f"{info.band} · {utc(info.midpoint_mjd_tai)} UTC",
        overview=overview(difference, mask, found, compass(info)),
        cutouts=tuple(detection_cutout(difference, mask, detection, info) for detection in found[:most_cutouts]),
        left_out=max(0, len(found) - most_cutouts),
    )


def share_cutouts(wanted: Sequence[int], each: int, total: int) -> tuple[int, ...]:
    """Share ``total`` cutouts among exposures by the numbers they want: at most ``each``, evenly, one after another.

    What an exposure does not need goes to the others.
    """
    given = [0] * len(wanted)
    limits = [min(want, each) for want in wanted]
    left = total
    while left > 0 and (hungry := [place for place, limit in enumerate(limits) if given[place] < limit]):
        portion = max(1, left // len(hungry))
        for place in hungry:
            taken = min(portion, limits[place] - given[place], left)
            given[place] += taken
            left -= taken
    return tuple(given)
