"""Refinement of a trail to a fraction of a pixel."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.noise import LEAST_VARIANCE
from kernels.trails.geometry import DetectedSegment, from_ends

_PARTS = (0.0, 0.1, 0.2, 0.3, 0.4)  # lengths of pieces that may hold a trail's light, as shares of its length
_POINT_GAIN = 4.0  # minimum gain in S/N squared from two more parameters, length and angle


def refine_trail(snr: NDArray[np.float32], lags: NDArray[np.float64], start: DetectedSegment) -> DetectedSegment:
    """Return the trail at the nearest maximum of the matched-filter S/N, starting from a trail of the bank.

    Parameters
    ----------
    snr : (ny, nx) float32
        S/N of a point source at each pixel.
    lags : (M, M) float64
        Autocorrelation of its noise, see `kernels.trails.trail_bank.TrailBank`.
    start
        Start of the ascent.

    Returns
    -------
    Segment
        Its length is 0 if a point fits as well.

    Notes
    -----
    With a free flux, the square of the matched filter's S/N is twice the gain in log likelihood over no source, so this
    is the maximum-likelihood trail. It is found by pattern search over the two ends (Hooke & Jeeves 1961, J. ACM 8,
    212).
    """
    cosine, sine = start.direction
    dx, dy = 0.5 * start.length * cosine, 0.5 * start.length * sine
    ends = np.array([start.x - dx, start.y - dy, start.x + dx, start.y + dy])
    value = _climb(snr, lags, ends, max(1.0, start.length / 8))
    x1, y1, x2, y2 = (float(end) for end in ends)
    found = from_ends(x1, y1, x2, y2, float(value))
    point = refine_point(snr, lags, found)
    return point if value**2 - point.snr**2 < _POINT_GAIN else found


def refine_point(snr: NDArray[np.float32], lags: NDArray[np.float64], start: DetectedSegment) -> DetectedSegment:
    """Return the point source nearest to the centre of ``start``; arguments as in `refine_trail`."""
    ends = np.array([start.x, start.y, start.x, start.y])
    value = _climb(snr, lags, ends, -1.0)
    return DetectedSegment(float(ends[0]), float(ends[1]), 0.0, start.angle, float(value))


def evenness(snr: NDArray[np.float32], trail: DetectedSegment) -> float:
    """Return the share of a trail that is nearly as bright as its mean: about 1 for a trail, less for two sources.

    The limit is 0.4 of the mean, and up to 0.7 if that is 3 sigma below the mean.
    """
    values = _along(snr, trail.points(1.0))
    mean = float(values.mean())
    return float(np.mean(values > max(0.4 * mean, min(0.7 * mean, mean - 3.0))))


def brightest_point(snr: NDArray[np.float32], trail: DetectedSegment) -> DetectedSegment:
    """Return the brightest point on a trail."""
    points = trail.points(1.0)
    values = _along(snr, points)
    i = int(values.argmax())
    return DetectedSegment(float(points[i, 0]), float(points[i, 1]), 0.0, trail.angle, float(values[i]))


def brightest_part(snr: NDArray[np.float32], lags: NDArray[np.float64], trail: DetectedSegment) -> DetectedSegment:
    """Return the piece of a trail, up to 0.4 of its length, with the highest S/N; arguments as in `refine_trail`."""
    points, (cosine, sine) = trail.points(1.0), trail.direction
    count = len(points) - 1
    sums, found = np.concatenate([[0.0], np.cumsum(_along(snr, points))]), []
    for steps in sorted({round(share * count) for share in _PARTS}):
        mean = (sums[steps + 1 :] - sums[: -steps - 1]) / (steps + 1)
        first, length = int(mean.argmax()), steps * (trail.length / count)
        value = float(mean[first]) / line_noise(lags, length * cosine, length * sine)
        x, y = (0.5 * (points[first] + points[first + steps])).tolist()
        found.append(DetectedSegment(x, y, length, trail.angle, value))
    return max(found, key=lambda one: one.snr)


@njit(cache=True, nogil=True)
def _along(snr: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.empty(points.shape[0])
    for i in range(points.shape[0]):
        out[i] = _interpolated(snr, points[i, 1], points[i, 0])
    return out


@njit(cache=True, nogil=True)
def trail_snr(snr: NDArray[np.float32], lags: NDArray[np.float64], x1: float, y1: float, x2: float, y2: float) -> float:
    """Return the S/N of the trail between two points (compiled); outside the image the signal is 0."""
    length = math.hypot(x2 - x1, y2 - y1)
    n = max(1, math.ceil(length))
    total = 0.0
    for k in range(n + 1):
        weight = 0.5 if k in (0, n) else 1.0
        total += weight * _interpolated(snr, y1 + (y2 - y1) * k / n, x1 + (x2 - x1) * k / n)
    return total / n / line_noise(lags, x2 - x1, y2 - y1)


@njit(cache=True, nogil=True)
def line_noise(lags: NDArray[np.float64], dx: float, dy: float) -> float:
    """Return the standard deviation of the mean along a line (dx, dy) in noise of autocorrelation ``lags`` (compiled).

    The variance of the mean of a stationary process is 2 / L^2 times the integral of (L - tau) c(tau) over
    0 < tau < L. It is at least that of a trail of the bank, whose sum runs over L + 1 px.
    """
    length = math.hypot(dx, dy)
    reach = lags.shape[0] // 2
    span = min(length, 1.5 * reach)
    if length < 1e-6:
        return math.sqrt(lags[reach, reach])
    n = max(4, 2 * math.ceil(span))
    total = 0.0
    for k in range(n + 1):
        weight = 0.5 if k in (0, n) else 1.0
        tau = span * k / n
        total += weight * (1 - tau / length) * _interpolated(lags, reach + dy * tau / length, reach + dx * tau / length)
    return math.sqrt(max(2 * total * span / n / length, LEAST_VARIANCE / (length + 1)))


@njit(cache=True, nogil=True)
def _interpolated(image: NDArray[np.floating], y: float, x: float) -> float:
    """Return the value between pixels by cubic convolution (Keys 1981, IEEE Trans. ASSP 29, 1153); 0 outside.

    Linear interpolation has its maxima only on pixels, and would pull trails to rows and columns.
    """
    row, column = math.floor(y), math.floor(x)
    if row < 1 or column < 1 or row >= image.shape[0] - 2 or column >= image.shape[1] - 2:
        return 0.0
    a0, a1, a2, a3 = _keys(x - column)
    b0, b1, b2, b3 = _keys(y - row)
    total = 0.0
    for i, weight in ((row - 1, b0), (row, b1), (row + 1, b2), (row + 2, b3)):
        total += weight * (
            a0 * image[i, column - 1] + a1 * image[i, column] + a2 * image[i, column + 1] + a3 * image[i, column + 2]
        )
    return total


@njit(cache=True, nogil=True)
def _keys(t: float) -> tuple[float, float, float, float]:
    """Return the weights of the four pixels around a position ``t`` between the middle two."""
    return (
        0.5 * t * (t * (2 - t) - 1),
        0.5 * (t * t * (3 * t - 5) + 2),
        0.5 * t * (t * (4 - 3 * t) + 1),
        0.5 * t * t * (t - 1),
    )


@njit(cache=True, nogil=True)
def _climb(snr: NDArray[np.float32], lags: NDArray[np.float64], ends: NDArray[np.float64], step: float) -> float:
    """Move ``ends`` (x1, y1, x2, y2) in place to a maximum; return its S/N. A negative step keeps them together."""
    together = step < 0
    step = abs(step)
    best = trail_snr(snr, lags, ends[0], ends[1], ends[2], ends[3])
    trial = np.empty(4)
    while step > 0.05:
        improved = False
        for move in range(4 if together else 12):
            _displace(ends, trial, move, step)
            if _is_far(trial, snr.shape):
                continue
            value = trail_snr(snr, lags, trial[0], trial[1], trial[2], trial[3])
            if value > best + 1e-6:
                best = value
                for k in range(4):
                    ends[k] = trial[k]
                improved = True
        if not improved:
            step *= 0.5
    return best


@njit(cache=True, nogil=True)
def _is_far(ends: NDArray[np.float64], shape: tuple[int, int]) -> bool:
    """Return whether an end lies beyond the image by more than the image's size.

    In a dark place the S/N of a line rises towards 0 as the line grows, so the ascent would not end.
    """
    for k in range(4):
        size = shape[1] if k % 2 == 0 else shape[0]
        if ends[k] < -size or ends[k] > 2 * size:
            return True
    return False


@njit(cache=True, nogil=True)
def _displace(ends: NDArray[np.float64], trial: NDArray[np.float64], move: int, step: float) -> None:
    """Shift both ends (moves 0-3), the first (4-7) or the second (8-11), along or across the trail."""
    length = math.hypot(ends[2] - ends[0], ends[3] - ends[1])
    ux, uy = (1.0, 0.0) if length < 1e-6 else ((ends[2] - ends[0]) / length, (ends[3] - ends[1]) / length)
    if move % 4 >= 2:
        ux, uy = -uy, ux
    size = step if move % 2 == 0 else -step
    for k in range(4):
        trial[k] = ends[k]
    if move // 4 != 2:
        trial[0] += size * ux
        trial[1] += size * uy
    if move // 4 != 1:
        trial[2] += size * ux
        trial[3] += size * uy
