"""Brightness, size and shape of the source in the middle of a cutout."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit, prange
from kernels.image.gaussian import FAST

_STEPS = 12
_NARROW = 0.6  # px: the narrowest weight
_REACH = 3.0  # px: maximum distance of the centroid from the middle
_START = 1.6  # px: first width


class Moments(NamedTuple):
    """Moments of each image under a round Gaussian weight as wide as the source itself; each (n,) float32.

    Attributes
    ----------
    flux
        Weighted by a Gaussian of amplitude 1; not positive where there is no source: the others are meaningless then.
    x, y
        Centre from the middle of the image, px.
    sigma
        Of a Gaussian source of this size, px.
    e1, e2
        (<x2> - <y2>) / <r2> and 2 <xy> / <r2>, under the weight.
    fourth
        <r4> / sigma4 under the weight: 2 for a Gaussian, more for a peak with wings.
    """

    flux: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    sigma: NDArray[np.float32]
    e1: NDArray[np.float32]
    e2: NDArray[np.float32]
    fourth: NDArray[np.float32]


def adaptive_moments(images: NDArray[np.float32]) -> Moments:
    """Measure the source nearest to the middle of each image.

    Parameters
    ----------
    images : (n, side, side) float32
        Background subtracted; finite.

    Notes
    -----
    Adaptive moments (Bernstein & Jarvis 2002, AJ 123, 583) with a round weight: its centre and width are moved until
    they are those of the source. Width and centre stay within 0.6 to side / 3 px and 3 px of the middle.
    """
    out = np.empty((len(Moments._fields), len(images)), np.float32)
    _measure(images, out)
    return Moments(*out)


@njit(**FAST, parallel=True)
def _measure(images: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for n in prange(images.shape[0]):
        _measure_one(images[n], out[:, n])


@njit(**FAST)
def _measure_one(image: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    side = image.shape[0]
    bell_x, bell_y = np.empty(side, np.float32), np.empty(side, np.float32)
    x, y, variance = 0.0, 0.0, _START**2
    for _ in range(_STEPS):
        flux, mx, my, mxx, myy, _, _ = _sums(image, x, y, variance, bell_x, bell_y)
        if flux <= 0:
            break
        x = min(max(x + 2 * mx / flux, -_REACH), _REACH)
        y = min(max(y + 2 * my / flux, -_REACH), _REACH)
        seen = (mxx + myy) / (2 * flux)  # source times weight: 1 / seen = 1 / source + 1 / weight
        source = 1 / (1 / seen - 1 / variance) if 0 < seen < 0.9 * variance else 9 * variance
        source = min(max(source, 0.5 * variance), 2 * variance)
        before, variance = variance, min(max(source, _NARROW**2), (side / 3) ** 2)
        if abs(variance - before) < 1e-3 * before and abs(mx) + abs(my) < 1e-3 * flux:
            break
    flux, mx, my, mxx, myy, mxy, m4 = _sums(image, x, y, variance, bell_x, bell_y)
    size = mxx + myy
    if flux <= 0 or size <= 0:
        out[:] = 0
        out[0], out[3] = min(flux, 0.0), _START
        return
    out[0], out[1], out[2], out[3] = flux, x, y, np.sqrt(variance)
    out[4], out[5], out[6] = (mxx - myy) / size, 2 * mxy / size, m4 / flux / variance**2


@njit(**FAST)
def _sums(
    image: NDArray[np.float32],
    x: float,
    y: float,
    variance: float,
    bell_x: NDArray[np.float32],
    bell_y: NDArray[np.float32],
) -> tuple[float, float, float, float, float, float, float]:
    """Return the weighted sums of 1, x, y, x2, y2, xy and r4 about a centre."""
    side = image.shape[0]
    middle = (side - 1) / 2
    for i in range(side):
        bell_x[i] = np.exp(-((i - middle - x) ** 2) / (2 * variance))
        bell_y[i] = np.exp(-((i - middle - y) ** 2) / (2 * variance))
    flux = mx = my = mxx = myy = mxy = m4 = 0.0
    for row in range(side):
        v = row - middle - y
        s0 = s1 = s2 = s3 = s4 = np.float32(0)
        for column in range(side):
            u = np.float32(column - middle - x)
            value = image[row, column] * bell_x[column]
            s0 += value
            value *= u
            s1 += value
            value *= u
            s2 += value
            value *= u
            s3 += value
            s4 += value * u
        weight = bell_y[row]
        flux += weight * s0
        mx += weight * s1
        my += weight * v * s0
        mxx += weight * s2
        myy += weight * v * v * s0
        mxy += weight * v * s1
        m4 += weight * (s4 + 2 * v * v * s2 + v**4 * s0)
    return flux, mx, my, mxx, myy, mxy, m4
