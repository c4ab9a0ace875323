"""Detections on the night page: their rows, cutouts and marks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.results.page.picture import OUTSIDE, Picture, bin_mean, png, stretch, usable
from flows.results.page.words import NOTHING, flag_words, grade, number
from schemas.exposure import ExposureInfo

COLUMNS = (
    "diaSourceId", "x", "y", "ra", "dec", "band", "magAB", "magABErr", "snr", "trailLength", "trailAngle",
    "trailLengthPx", "trailAnglePx", "reliability", "reliabilityVersion",
    "flags", "bboxSize",
)  # fmt: skip
"""Columns of `dia_source` that the page reads."""


@dataclass(frozen=True)
class MotionNote:
    """Motion of a detection in words, and the place on the page that says more, if there is one."""

    text: str
    anchor: str = ""


@dataclass(frozen=True)
class PageDetection:
    """Row of `dia_source`, in words.

    Attributes
    ----------
    rank
        1 for the most reliable of its exposure.
    x, y, length, angle
        Fitted trail, px and deg in pixels.
    side
        Side of the square that holds it, px.
    facts
        What to print beneath it: pairs of a name and a value with its unit.
    motion
        Its tracklet, or that it is at rest; None if neither.
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
    facts: tuple[tuple[str, str], ...]
    motion: MotionNote | None = None

    @property
    def anchor(self) -> str:
        """Return the name of its cutout on the page."""
        return f"d{self.id}"

    @property
    def summary(self) -> str:
        """Return one line of text: for a tooltip, and for readers who cannot see the picture."""
        return (
            f"Detection {self.rank}: reliability {self.reliability:.2f}, S/N {number(self.snr)}, "
            f"length {number(self.length)} px at ({number(self.x)}, {number(self.y)})"
        )


def detections(table: pa.Table, motions: Mapping[int, MotionNote] | None = None) -> tuple[PageDetection, ...]:
    """Return the rows of one exposure's `dia_source` table, the most reliable first, then by S/N, then by id.

    ``motions`` tells by diaSourceId how some of them move.
    """
    rows = table.select(COLUMNS).to_pylist()
    rows.sort(key=lambda row: (-row["reliability"], -row["snr"], row["diaSourceId"]))
    known = motions or {}
    return tuple(_detection(row, rank, known.get(row["diaSourceId"])) for rank, row in enumerate(rows, start=1))


def _detection(row: Mapping[str, Any], rank: int, motion: MotionNote | None) -> PageDetection:
    return PageDetection(
        id=row["diaSourceId"],
        rank=rank,
        x=row["x"],
        y=row["y"],
        length=_finite(row["trailLengthPx"]),
        angle=_finite(row["trailAnglePx"]),
        side=row["bboxSize"],
        snr=row["snr"],
        reliability=row["reliability"],
        grade=grade(row["reliability"]),
        flags=flag_words(row["flags"]),
        facts=_facts(row),
        motion=motion,
    )


def _facts(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    magnitude = number(row["magAB"], 2)
    if magnitude != NOTHING and row["magABErr"] is not None:
        magnitude += f" ± {number(row['magABErr'], 2)}"
    length, angle = number(row["trailLengthPx"], 1, " px"), number(row["trailAnglePx"], 0, "°")
    if row["trailLength"] is not None:
        length += f", {number(row['trailLength'], 1, '″')}"
    if row["trailAngle"] is not None:
        angle += f", PA {number(row['trailAngle'], 0, '°')}"
    return (
        ("S/N", number(row["snr"])),
        (f"mag {row['band']}", magnitude),
        ("Length", length),
        ("Angle", angle),
        ("RA", number(row["ra"], 5, "°")),
        ("Dec", number(row["dec"], 5, "°")),
        ("x, y", f"{number(row['x'])}, {number(row['y'])}"),
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


@dataclass(frozen=True)
class Mark:
    """Mark of a detection on a picture: a capsule around a line, in pixels of the exposure, y downwards from the top.

    Attributes
    ----------
    x, y, angle
        Centre, and rotation clockwise, deg.
    length, radius
        Trail, and margin around it.
    """

    detection: PageDetection
    x: float
    y: float
    angle: float
    length: float
    radius: float

    @property
    def label(self) -> tuple[float, float]:
        """Return the place of its number: to the upper right of the capsule."""
        return self.x + 0.8 * self.radius, self.y - 0.8 * self.radius


def place_mark(detection: PageDetection, corner: tuple[float, float], height: float, radius: float) -> Mark:
    """Place ``detection`` on a picture of ``height`` px whose lowest, leftmost pixel is ``corner`` (x, y)."""
    x, y = detection.x - corner[0] + 0.5, height - (detection.y - corner[1] + 0.5)
    return Mark(detection, x, y, -detection.angle, detection.length, radius)


LEAST_SIDE, MOST_SIDE, MOST_PICTURE = 41, 480, 160
"""Bounds of a cutout's side, px, and the side of its picture beyond which it is binned, px."""


@dataclass(frozen=True)
class DetectionCutout:
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


def cutout_box(detection: PageDetection) -> tuple[int, int, int]:
    """Return first row, first column and side of the square around ``detection``: odd, bounded, 1.4 times its box."""
    side = min(max(math.ceil(1.4 * detection.side), LEAST_SIDE), MOST_SIDE) | 1
    return round(detection.y) - side // 2, round(detection.x) - side // 2, side


def detection_cutout(
    difference: NDArray[np.float32], mask: NDArray[np.uint16], detection: PageDetection, info: ExposureInfo
) -> DetectionCutout:
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
    return DetectionCutout(png(levels), place_mark(detection, (x0, y0), width, radius), side, width)
