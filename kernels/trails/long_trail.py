"""Trails longer than any template, such as those of satellites and aeroplanes."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.order_statistic import median
from kernels.trails.geometry import DetectedSegment, from_ends

OFFSET_STEP = 0.5
"""Step across between the rows of `cross_filtered`, px."""

_SKY_BLOCK = 32  # columns with a common sky level


def straighten(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    centre: tuple[float, float],
    direction: tuple[float, float],
    half: tuple[int, int],
) -> NDArray[np.float32]:
    """Return a strip along a line, sampled by linear interpolation.

    Parameters
    ----------
    image : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Pixels that count.
    centre
        (x, y) of the strip's middle, px.
    direction
        Unit vector (x, y) along the line.
    half
        Half of its size across and along, px.

    Returns
    -------
    (2 half[0] + 1, 2 half[1] + 1) float32
        Samples at 1 px; NaN outside the image and at unusable pixels.
    """
    strip = np.empty((2 * half[0] + 1, 2 * half[1] + 1), np.float32)
    _sample(image, usable, *centre, *direction, strip)
    return strip


@njit(cache=True, nogil=True)
def _sample(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    x: float,
    y: float,
    cosine: float,
    sine: float,
    strip: NDArray[np.float32],
) -> None:
    side, length = strip.shape[0] // 2, strip.shape[1] // 2
    for j in range(strip.shape[1]):  # one pass along the trail reads few pages of a large image at a time
        for i in range(strip.shape[0]):
            px = x + (j - length) * cosine - (i - side) * sine
            py = y + (j - length) * sine + (i - side) * cosine
            column, row = math.floor(px), math.floor(py)
            strip[i, j] = np.nan
            if row < 0 or column < 0 or row >= image.shape[0] - 1 or column >= image.shape[1] - 1:
                continue
            above_known = usable[row, column] and usable[row, column + 1]
            if above_known and usable[row + 1, column] and usable[row + 1, column + 1]:
                fx, fy = px - column, py - row
                above = image[row, column] * (1 - fx) + image[row, column + 1] * fx
                below = image[row + 1, column] * (1 - fx) + image[row + 1, column + 1] * fx
                strip[i, j] = above * (1 - fy) + below * fy


@njit(cache=True, nogil=True)
def sky_level(strip: NDArray[np.float32], inner: int) -> NDArray[np.float32]:
    """Return the sky at each column of a strip: the median, over blocks of columns, of rows beyond ``inner`` px.

    Parameters
    ----------
    strip : (2S + 1, n) float32
        Result of `straighten`.
    inner
        Rows within this distance of the middle belong to the trail, px.

    Returns
    -------
    (n,) float32
        Sky level; 0 if it is not known.
    """
    rows, columns = strip.shape
    level, known = np.zeros(columns, np.float32), np.empty(rows * _SKY_BLOCK)
    for start in range(0, columns, _SKY_BLOCK):
        count, end = 0, min(start + _SKY_BLOCK, columns)
        for i in range(rows):
            for j in range(start, end if abs(i - rows // 2) > inner else start):
                if np.isfinite(strip[i, j]):
                    known[count] = strip[i, j]
                    count += 1
        middle = median(known[:count]) if count else 0.0
        for j in range(start, end):
            level[j] = middle
    return level


def cross_filtered(strip: NDArray[np.float32], fwhm_px: float, swing: float) -> NDArray[np.float32]:
    """Return the brightness of a trail parallel to a strip, at each offset across and each column along.

    Parameters
    ----------
    strip : (2S + 1, n) float32
        Strip with the sky subtracted.
    fwhm_px
        FWHM of the PSF; its cross-section is taken as a Gaussian.
    swing
        Largest offset, px.

    Returns
    -------
    (m, n) float32
        Rows at `OFFSET_STEP` around the middle. Values are scaled so that white noise keeps a deviation of 1; NaN if
        less than half of the cross-section is usable.
    """
    middle = strip.shape[0] // 2
    steps = int(swing / OFFSET_STEP)
    offsets = OFFSET_STEP * np.arange(-steps, steps + 1)
    across = np.arange(-middle, middle + 1)
    weight = np.exp(-4 * math.log(2) * np.square((across - offsets[:, None]) / fwhm_px)).astype(np.float32)
    known = np.isfinite(strip)
    total = weight @ np.where(known, strip, np.float32(0))
    square = np.square(weight) @ known.astype(np.float32)
    enough = square >= 0.5 * np.square(weight).sum(1, keepdims=True)
    return np.where(enough, total / np.sqrt(np.maximum(square, np.float32(1e-9))), np.float32(np.nan))


def half_width(strip: NDArray[np.float32], offsets: NDArray[np.floating], limit: float, noise: float) -> float:
    """Return the distance across a trail at which its light falls to 2 % of its peak, or rises again.

    Parameters
    ----------
    strip : (2S + 1, n) float32
        Only columns of the trail, with the sky subtracted.
    offsets : (n,)
        Offset of the trail from the middle of the strip at each column, px.
    limit
        Largest result, px.
    noise
        Standard deviation of a pixel.
    """
    middle, reach = strip.shape[0] // 2, math.floor(limit)
    columns = np.arange(strip.shape[1])
    rows = middle + np.rint(offsets).astype(np.intp) + np.arange(-reach, reach + 1)[:, None]
    inside = (rows >= 0) & (rows < strip.shape[0])
    values = np.where(inside, strip[np.clip(rows, 0, strip.shape[0] - 1), columns], np.nan)
    known = np.isfinite(values)
    rows_known = (row[seen].astype(np.float64) for row, seen in zip(values, known, strict=True))
    profile = np.array([median(row) if len(row) else 0.0 for row in rows_known])
    floor = max(0.02 * float(profile[reach]), 2 * noise / math.sqrt(max(1, strip.shape[1])))
    return max(_fall(profile[reach:], floor), _fall(profile[reach::-1], floor))


def _fall(profile: NDArray[np.floating], floor: float) -> float:
    """Return the index at which a profile that starts at its peak falls to ``floor`` or has its first minimum."""
    for i in range(2, len(profile)):
        if profile[i] < floor or profile[i] > 1.1 * profile[i - 1]:
            return float(i)
    return float(len(profile) - 1)


_CLIP = 1.25  # weight of a star on the trail, in units of the trail
_BOX = np.ones(7)  # px of the running mean along a trail
_SWING = 4.0  # px: largest distance of the ends of a piece from the line
_MARGIN = 60.0  # px that must be examined beyond both ends


class Frame(NamedTuple):
    """Whole image with its noise.

    Attributes
    ----------
    image : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Pixels that count.
    noise
        Standard deviation of a pixel, times the factor by which correlation raises the noise of a sum along a trail.
    fwhm_px
        FWHM of the PSF.
    """

    image: NDArray[np.float32]
    usable: NDArray[np.bool_]
    noise: float
    fwhm_px: float


class LongTrail(NamedTuple):
    """Trail followed to its ends.

    Attributes
    ----------
    segment
        Centre line.
    half_width
        Distance across at which its light ends, px.
    coverage
        Share of its usable length that is brighter than half the typical brightness: near 1 for a trail, less for a
        row of stars.
    """

    segment: DetectedSegment
    half_width: float
    coverage: float

    @property
    def is_trail(self) -> bool:
        """Return whether it is continuous like a trail, not a row of stars; a long trail may have gaps."""
        return self.coverage >= 0.85 - 0.25 * min(1.0, max(0.0, (self.segment.length - 75) / 150))


def grow_trail(frame: Frame, seed: DetectedSegment) -> LongTrail:
    """Return a trail followed along its line to both ends.

    Parameters
    ----------
    frame
        Image.
    seed
        Piece of the trail.

    Returns
    -------
    LongTrail
        Its length is 0 if there is no trail.

    Notes
    -----
    The line through the seed is examined in a strip that doubles in length until both ends lie well inside it. In each
    strip, the line is refined to the path across it with the largest sum of clipped cross-sections. The ends are those
    of the run that maximises sum(F - A / 2), where F is the clipped brightness per px and A its median. For a box in
    white noise that is the maximum-likelihood run, and it bridges a gap that is shorter than the part after it.
    Unusable pixels do not count.
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


def _fit_in_strip(frame: Frame, seed: DetectedSegment, reach: int) -> LongTrail:
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
        # Include a little beyond the ends, so that a path that has just left the trail returns to it.
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


def _placed(seed: DetectedSegment, along: tuple[int, int], across: NDArray[np.floating], snr: float) -> DetectedSegment:
    """Return the segment between two points of the strip around ``seed``."""
    (cosine, sine), ends = seed.direction, zip(along, across, strict=True)
    (x1, y1), (x2, y2) = ((seed.x + t * cosine - s * sine, seed.y + t * sine + s * cosine) for t, s in ends)
    return from_ends(float(x1), float(y1), float(x2), float(y2), snr)


def _level(brightness: NDArray[np.float32]) -> float:
    known = brightness[np.isfinite(brightness)].astype(np.float64)
    return max(float(median(known)), 0.5) if len(known) else 0.5


def _best_path(profile: NDArray[np.float32], level: float, first: int) -> tuple[float, float]:
    """Return slope and intercept of the line with the largest clipped sum; columns are numbered from ``first``."""
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
    """Return the first and last column of a trail and its typical brightness, from a first guess of the latter."""
    known = np.isfinite(brightness)
    values = np.where(known, brightness, np.float32(0))
    first, last = 0, len(values) - 1
    for _ in range(5):
        gain = np.where(known, np.minimum(values, _CLIP * level) - 0.5 * level, 0.0)
        first, last = _heaviest_run(gain)
        level = _level(brightness[first : last + 1])
    return first, last, level


def _heaviest_run(gain: NDArray[np.floating]) -> tuple[int, int]:
    """Return first and last index of the run with the largest sum (Kadane's algorithm, Bentley 1984, CACM 27, 865)."""
    total = np.concatenate([[0.0], np.cumsum(gain)])
    last = int(np.argmax(total - np.minimum.accumulate(total)))
    first = last - int(np.argmin(total[last::-1]))  # the latest of equals: unknown columns are not part of the trail
    return first, max(first, last - 1)


def _coverage(brightness: NDArray[np.float32], level: float) -> float:
    """Return the share of usable columns above half of ``level``, after a running mean."""
    known = np.isfinite(brightness)
    if len(known) < len(_BOX) or not known.any():
        return 0.0
    count = np.convolve(known, _BOX, mode="same")
    smooth = np.convolve(np.where(known, np.minimum(brightness, 2 * level), 0.0), _BOX, mode="same")
    return float(np.mean(smooth[known] > 0.5 * level * count[known]))


def erase_trail(usable: NDArray[np.bool_], segment: DetectedSegment, radius: float) -> None:
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
