"""Trails longer than any template: satellites, aeroplanes."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.order_statistic import median
from kernels.segment import Segment, from_ends
from kernels.trail_strip import OFFSET_STEP, cross_filtered, half_width, sky_level, straighten

_CLIP = 1.25  # a star on the trail counts as this much trail
_BOX = np.ones(7)  # px of the running mean along a trail
_SWING = 4.0  # px by which the ends of a piece may be off the line
_MARGIN = 60.0  # px that must have been looked at beyond both ends


class Frame(NamedTuple):
    """Whole image with what is known of its noise.

    Attributes
    ----------
    image : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Pixels that count.
    noise
        Standard deviation of a pixel, times the factor by which correlation raises the noise of a sum along a trail.
    fwhm_px
        Of the PSF.
    """

    image: NDArray[np.float32]
    usable: NDArray[np.bool_]
    noise: float
    fwhm_px: float


class LongTrail(NamedTuple):
    """A trail followed to its ends.

    Attributes
    ----------
    segment
        Where it is.
    half_width
        How far across its light reaches, px.
    coverage
        Share of its usable length that is brighter than half the typical brightness: near 1 for a trail, less for a
        row of stars.
    """

    segment: Segment
    half_width: float
    coverage: float

    @property
    def is_trail(self) -> bool:
        """Whether it is as continuous as a trail, and no row of stars; a long one may have gaps."""
        return self.coverage >= 0.85 - 0.25 * min(1.0, max(0.0, (self.segment.length - 75) / 150))


def grow_trail(frame: Frame, seed: Segment) -> LongTrail:
    """Follow a trail along its line as far as it goes.

    Parameters
    ----------
    frame
        Image.
    seed
        A piece of the trail.

    Returns
    -------
    LongTrail
        Of length 0 if nothing is there.

    Notes
    -----
    The line through the seed is looked at over a strip that doubles in length until both ends lie well inside it. In
    each strip the path across it with the largest sum of clipped cross-sections refines the line, and the ends are
    those of the run that maximises sum(F - A / 2), F the clipped brightness per px and A its median: for a box in
    white noise that is the maximum-likelihood run, and it bridges a gap that is shorter than what follows it.
    Unusable pixels say nothing, either way.
    """
    largest = math.hypot(*frame.image.shape)
    found = LongTrail(seed, 0.0, 0.0)
    reach = max(_MARGIN, seed.length)
    while True:
        before, found = found, _fit_in_strip(frame, found.segment, math.ceil(reach))
        length = found.segment.length
        stable = abs(length - before.segment.length) < 2 or reach >= largest
        if length < 1 or (stable and length + _MARGIN <= reach) or reach >= 2 * largest:
            return found
        reach = min(2 * largest, max(1.5 * reach, length + _MARGIN))


def _fit_in_strip(frame: Frame, seed: Segment, reach: int) -> LongTrail:
    """Refine line and ends within ``reach`` px of the seed's centre."""
    side = math.ceil(3 * frame.fwhm_px) + 6
    strip = straighten(frame.image, frame.usable, (seed.x, seed.y), seed.direction, (side, reach))
    strip -= sky_level(strip, math.ceil(2 * frame.fwhm_px))
    profile = cross_filtered(strip, frame.fwhm_px, _SWING) / np.float32(frame.noise)
    columns = np.arange(profile.shape[1])
    half = max(10, int(0.5 * seed.length))
    first, last = max(0, reach - half), min(len(columns) - 1, reach + half)
    level = _level(profile[profile.shape[0] // 2, first : last + 1])
    for _ in range(2):
        # A little of what lies beyond the ends, so that a path that has just left the trail is drawn back to it.
        more = max(20, (last - first) // 4)
        low, high = max(0, first - more), min(len(columns) - 1, last + more)
        line = _best_path(profile[:, low : high + 1], level, low)
        path = np.clip(np.rint(np.polyval(line, columns)), 0, len(profile) - 1).astype(np.intp)
        first, last, level = _ends(profile[path, columns], level)
    bright = profile[path, columns][first : last + 1]
    seen = bright[np.isfinite(bright)]
    snr = float(np.minimum(seen, 3 * level).sum() / math.sqrt(max(len(seen), 1)))
    offsets = (np.polyval(line, columns) - len(profile) // 2) * OFFSET_STEP
    width = half_width(strip[:, first : last + 1], offsets[first : last + 1], 4 * frame.fwhm_px, frame.noise)
    segment = _placed(seed, (first - reach, last - reach), offsets[[first, last]], snr)
    return LongTrail(segment, width, _coverage(bright, level))


def _placed(seed: Segment, along: tuple[int, int], across: NDArray[np.floating], snr: float) -> Segment:
    """Segment between two points of the strip about ``seed``."""
    (cosine, sine), ends = seed.direction, zip(along, across, strict=True)
    (x1, y1), (x2, y2) = ((seed.x + t * cosine - s * sine, seed.y + t * sine + s * cosine) for t, s in ends)
    return from_ends(float(x1), float(y1), float(x2), float(y2), snr)


def _level(brightness: NDArray[np.float32]) -> float:
    known = brightness[np.isfinite(brightness)].astype(np.float64)
    return max(float(median(known)), 0.5) if len(known) else 0.5


def _best_path(profile: NDArray[np.float32], level: float, first: int) -> tuple[float, float]:
    """Slope and intercept of the line of rows with the largest sum of clipped brightness; columns count from first."""
    clipped = np.clip(np.nan_to_num(profile, nan=0.0), -2 * level, 4 * level)
    left, right = _search_paths(np.ascontiguousarray(clipped.T))
    slope = (right - left) / max(1, profile.shape[1] - 1)
    return slope, left - slope * first


@njit(cache=True, nogil=True)
def _search_paths(clipped: NDArray[np.float32]) -> tuple[int, int]:
    columns, rows = clipped.shape
    best, answer = -np.inf, (rows // 2, rows // 2)
    for left in range(rows):
        for right in range(rows):
            total, slope = 0.0, (right - left) / max(1, columns - 1)
            for column in range(columns):
                total += clipped[column, int(left + slope * column + 0.5)]
            if total > best:
                best, answer = total, (left, right)
    return answer


def _ends(brightness: NDArray[np.float32], level: float) -> tuple[int, int, float]:
    """First and last column of the trail, and its typical brightness, from a first guess of that."""
    known = np.isfinite(brightness)
    values = np.where(known, brightness, np.float32(0))
    first, last = 0, len(values) - 1
    for _ in range(5):
        gain = np.where(known, np.minimum(values, _CLIP * level) - 0.5 * level, 0.0)
        first, last = _heaviest_run(gain)
        level = _level(brightness[first : last + 1])
    return first, last, level


def _heaviest_run(gain: NDArray[np.floating]) -> tuple[int, int]:
    """First and last index of the run with the largest sum (Kadane's algorithm, Bentley 1984, CACM 27, 865)."""
    total = np.concatenate([[0.0], np.cumsum(gain)])
    last = int(np.argmax(total - np.minimum.accumulate(total)))
    first = last - int(np.argmin(total[last::-1]))  # the latest of equals: unknown columns are no part of the trail
    return first, max(first, last - 1)


def _coverage(brightness: NDArray[np.float32], level: float) -> float:
    """Share of usable columns above half of ``level``, after a running mean."""
    known = np.isfinite(brightness)
    if len(known) < len(_BOX) or not known.any():
        return 0.0
    count = np.convolve(known, _BOX, mode="same")
    smooth = np.convolve(np.where(known, np.minimum(brightness, 2 * level), 0.0), _BOX, mode="same")
    return float(np.mean(smooth[known] > 0.5 * level * count[known]))


def erase_trail(usable: NDArray[np.bool_], segment: Segment, radius: float) -> None:
    """Make the pixels within ``radius`` px of a segment unusable, in place."""
    cosine, sine = segment.direction
    _erase(usable, segment.x, segment.y, cosine, sine, 0.5 * segment.length, radius)


@njit(cache=True, nogil=True)
def _erase(
    usable: NDArray[np.bool_], x: float, y: float, cosine: float, sine: float, half: float, radius: float
) -> None:
    half_x, half_y = half * abs(cosine) + radius + 1, half * abs(sine) + radius + 1
    row0, row1 = max(0, math.floor(y - half_y)), min(usable.shape[0], math.ceil(y + half_y) + 1)
    column0, column1 = max(0, math.floor(x - half_x)), min(usable.shape[1], math.ceil(x + half_x) + 1)
    for row in range(row0, row1):
        for column in range(column0, column1):
            along = abs((column - x) * cosine + (row - y) * sine) - half
            across = (row - y) * cosine - (column - x) * sine
            if along <= radius and across * across + max(along, 0.0) ** 2 <= radius * radius:
                usable[row, column] = False
