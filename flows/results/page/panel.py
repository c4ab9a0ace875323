"""Overview of one exposure: its picture, with its detections marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.results.page.detection import Mark, PageDetection, place_mark
from flows.results.page.picture import Picture, bin_mean, jpeg, level_and_noise, stretch, usable
from flows.results.page.words import count, exposed
from flows.results.quality.measure import Compass, compass
from schemas.exposure import ExposureInfo
from schemas.pixels import BAND

SIDE = 800
"""Maximum side of an overview, px."""
LIMIT = 200_000
"""Maximum size of an overview if there are few, characters: a picture of 150 kB."""
LIMIT_ALL = 1_000_000
"""Maximum size of all overviews, characters."""
MARKS, MARKS_ALL = 400, 1000
"""Maximum number of detections marked on one overview, and on all."""


@dataclass(frozen=True)
class Overview:
    """Picture of an exposure, and the marks drawn on it.

    Attributes
    ----------
    width, height
        Size of the picture in pixels of the exposure: a multiple of ``factor``.
    factor
        Pixels of the exposure per pixel of the picture.
    arrows
        Ends (name, x, y) of arrows to north and east, from the origin, of length 1, y downwards.
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
        """Return a description of the picture."""
        scale = "full resolution" if self.factor == 1 else f"means over {self.factor} × {self.factor} px"
        left_out = f"; {self.unmarked} more are not marked" if self.unmarked else ""
        marked = f"{count(len(self.marks), 'detection')} marked{left_out}" if self.marks else "nothing was detected"
        return f"{self.width} × {self.height} px, {scale}; {marked}."


def overview(
    difference: NDArray[np.float32],
    mask: NDArray[np.uint16],
    found: Sequence[PageDetection],
    directions: Compass | None,
    of: int = 1,
) -> Overview:
    """Bin an exposure to at most `SIDE` px and mark its detections.

    Parameters
    ----------
    difference, mask : (ny, nx)
        Pixels and their mask.
    found
        Detections, the most interesting first.
    directions
        Directions of north and east; None if not known.
    of
        Number of overviews on the page.
    """
    ny, nx = difference.shape
    factor = max(1, math.ceil(max(ny, nx) / SIDE))
    step = factor * math.ceil(BAND / factor)
    strips = ((difference[y : y + step], mask[y : y + step]) for y in range(0, ny, step))
    binned = np.concatenate([bin_mean(pixels, usable(pixels, bits), factor) for pixels, bits in strips])
    levels = stretch(binned, *level_and_noise(binned), high=12.0)
    height, width = binned.shape[0] * factor, binned.shape[1] * factor
    margin, most = max(width, height) / 75, min(MARKS, MARKS_ALL // of)
    marks = tuple(place_mark(detection, (0.0, 0.0), height, margin) for detection in found[:most])
    arrows = () if directions is None else tuple(_arrows(directions))
    picture = jpeg(levels, min(LIMIT, LIMIT_ALL // of))
    return Overview(picture, width, height, factor, marks, max(0, len(found) - most), arrows)


def _arrows(directions: Compass) -> list[tuple[str, float, float]]:
    return [("N", directions.north[0], -directions.north[1]), ("E", directions.east[0], -directions.east[1])]


@dataclass(frozen=True)
class Panel:
    """Part of the page about one exposure; ``source`` is its file."""

    name: str
    title: str
    subtitle: str
    source: str
    overview: Overview


def panel(
    info: ExposureInfo,
    difference: NDArray[np.float32],
    mask: NDArray[np.uint16],
    found: Sequence[PageDetection],
    of: int = 1,
) -> Panel:
    """Draw an exposure and its detections; ``info`` is its metadata, other parameters as in `overview`."""
    return Panel(
        name=info.name,
        title=f"Visit {info.visit}, detector {info.detector}",
        subtitle=f"{info.band} · {exposed(info)}",
        source=info.source_uri,
        overview=overview(difference, mask, found, compass(info), of),
    )
