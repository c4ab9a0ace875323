"""Detections on the night page: marks on pictures, and cutouts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.results.page.picture import OUTSIDE, Picture, bin_mean, level_and_noise, png, stretch, usable
from flows.results.page.words import flag_words, grade, number, probability
from flows.storage.zarr_tiles import TileStore
from schemas.exposure import ExposureInfo
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, TEMPLATE

_DRAWN = ("diaSourceId", "x", "y", "snr", "trailLengthPx", "trailAnglePx", "reliability", "flags", "bboxSize")


class ListPlace(NamedTuple):
    """Rank of a detection in the list of the night, and anchor of its entry on the page; "" if it has none."""

    rank: int
    anchor: str


@dataclass(frozen=True)
class PageDetection:
    """Row of `dia_source` to draw.

    Attributes
    ----------
    rank
        Rank of its entry in the list of the night; without a list, 1 for the most reliable on its exposure.
    x, y, length, angle
        Fitted trail, px and deg in pixels.
    side
        Side of the square that contains it, px.
    flags
        Flags in words.
    anchor
        Anchor of its entry on the page; "" if it has none.
    """

    id: int
    rank: int
    x: float
    y: float
    length: float
    angle: float
    side: int
    snr: float
    reliability: float
    grade: str
    flags: tuple[str, ...]
    anchor: str = ""

    @property
    def summary(self) -> str:
        """Return one line of text, for a tooltip and for screen readers."""
        return (
            f"Detection {self.rank}: reliability {probability(self.reliability)}, S/N {number(self.snr)}, "
            f"length {number(self.length)} px at ({number(self.x)}, {number(self.y)})"
        )


def detections(table: pa.Table, places: Mapping[int, ListPlace] | None = None) -> tuple[PageDetection, ...]:
    """Return rows of `dia_source` of one exposure, in the order of the night's list.

    ``places`` maps diaSourceId to the position in that list; without it the order is by reliability, S/N and id.
    """
    rows = table.select(_DRAWN).to_pylist()
    if places is None:
        rows.sort(key=lambda row: (-row["reliability"], -row["snr"], row["diaSourceId"]))
        return tuple(drawn(row, ListPlace(rank, "")) for rank, row in enumerate(rows, start=1))
    rows.sort(key=lambda row: (places[row["diaSourceId"]].rank, row["diaSourceId"]))
    return tuple(drawn(row, places[row["diaSourceId"]]) for row in rows)


def drawn(row: Mapping[str, Any], place: ListPlace) -> PageDetection:
    """Return the parts of a row of `dia_source` that are drawn."""
    return PageDetection(
        id=row["diaSourceId"],
        rank=place.rank,
        x=row["x"],
        y=row["y"],
        length=_finite(row["trailLengthPx"]),
        angle=_finite(row["trailAnglePx"]),
        side=row["bboxSize"],
        snr=row["snr"],
        reliability=row["reliability"],
        grade=grade(row["reliability"]),
        flags=flag_words(row["flags"]),
        anchor=place.anchor,
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


@dataclass(frozen=True)
class Mark:
    """Mark of a detection on a picture: a capsule around a line, in pixels of the exposure, y downwards.

    Attributes
    ----------
    x, y, angle
        Centre, and clockwise rotation, deg.
    length, radius
        Length of the trail, and margin around it.
    """

    detection: PageDetection
    x: float
    y: float
    angle: float
    length: float
    radius: float

    @property
    def label(self) -> tuple[float, float]:
        """Return the position of its number: to the upper right of the capsule."""
        return self.x + 0.8 * self.radius, self.y - 0.8 * self.radius


def place_mark(detection: PageDetection, corner: tuple[float, float], height: float, radius: float) -> Mark:
    """Return the mark on a picture of ``height`` px whose lower left pixel is ``corner`` (x, y)."""
    x, y = detection.x - corner[0] + 0.5, height - (detection.y - corner[1] + 0.5)
    return Mark(detection, x, y, -detection.angle, detection.length, radius)


LEAST_SIDE, MOST_SIDE, MOST_PICTURE = 41, 480, 112
"""Minimum and maximum side of a cutout, px, and side of its picture above which it is binned, px."""

CUT_PLANES = (DIFFERENCE.name, SCIENCE.name, TEMPLATE.name)
"""Planes from which cutouts are made, if the exposure has them."""


@dataclass(frozen=True)
class DetectionCutout:
    """Picture of a detection with its fitted trail.

    Attributes
    ----------
    name
        Name: the plane and, if necessary, the time.
    side
        Side of the square on the exposure, px.
    width
        Side of the drawing, px of the exposure: ``side`` rounded up to whole bins.
    """

    name: str
    picture: Picture
    mark: Mark
    side: int
    width: int


def cutout_box(detection: PageDetection) -> tuple[int, int, int]:
    """Return first row, first column and side of the square around a detection: odd, limited, 1.4 times its box."""
    side = min(max(math.ceil(1.4 * detection.side), LEAST_SIDE), MOST_SIDE) | 1
    return round(detection.y) - side // 2, round(detection.x) - side // 2, side


def cut_square(store: TileStore, plane: str, box: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a square of a plane: first row, first column, side, px; NaN beyond the border and if there is no value.

    On a difference image, masked pixels have no value.

    Raises
    ------
    BadInput
        A tile is damaged.
    """
    y0, x0, side = box
    ny, nx = store.info.shape
    full = np.full((side, side), np.nan, np.float32)
    ya, yb, xa, xb = max(y0, 0), min(y0 + side, ny), max(x0, 0), min(x0 + side, nx)
    if ya >= yb or xa >= xb:
        return full
    pixels = store.read(plane, ya, xa, yb, xb)
    mask = store.read(MASK.name, ya, xa, yb, xb) if plane == DIFFERENCE.name else np.zeros(pixels.shape, np.uint16)
    full[ya - y0 : yb - y0, xa - x0 : xb - x0] = np.where(usable(pixels, mask), pixels, np.nan)
    return full


def detection_cutout(
    square: NDArray[np.float32], plane: str, detection: PageDetection, info: ExposureInfo, name: str = ""
) -> DetectionCutout:
    """Draw the square around a detection.

    Parameters
    ----------
    square : (side, side)
        Result of `cut_square` for the box of the detection.
    plane
        Plane shown: a difference image is scaled by the noise of the exposure, others by that of the square.
    info
        Background, noise, PSF and shape of the exposure. Pixels beyond its border have a colour of their own.
    name
        Its name; by default the plane.
    """
    y0, x0, side = cutout_box(detection)
    ny, nx = info.shape
    factor = math.ceil(side / MOST_PICTURE)
    binned = bin_mean(square, np.isfinite(square), factor)
    if plane == DIFFERENCE.name:
        levels = stretch(binned, info.background, info.noise)
    else:
        levels = stretch(binned, *level_and_noise(binned), high=30.0)
    rows, columns = np.arange(y0, y0 + side), np.arange(x0, x0 + side)
    inside = ((rows >= 0) & (rows < ny))[:, None] & ((columns >= 0) & (columns < nx))[None, :]
    levels[~(bin_mean(inside.astype(np.float32), np.ones_like(inside), factor) >= 0.5)] = OUTSIDE
    width = binned.shape[0] * factor
    radius = max(1.5 * info.psf.fwhm_px, side / 12)
    return DetectionCutout(name or plane, png(levels), place_mark(detection, (x0, y0), width, radius), side, width)


def cutouts_of(store: TileStore, detection: PageDetection, planes: tuple[str, ...], when: str) -> list[DetectionCutout]:
    """Return cutouts of a detection from the given planes that its exposure has, named by plane and time.

    Raises
    ------
    BadInput
        A tile is damaged.
    """
    box = cutout_box(detection)
    return [
        detection_cutout(cut_square(store, plane, box), plane, detection, store.info, f"{plane} {when}".strip())
        for plane in planes
        if plane in store.planes
    ]
