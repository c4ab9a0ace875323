"""Ends of a trail hidden by unusable pixels, which leave its length open."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.trails.geometry import Segment

_STRIDE = 0.5  # px; between the examined positions
_CLOSE = 2.0  # errors of the length; unusable pixels further off show that the trail has ended before them
_WIDE_FWHM = 1.0  # across less, the light of an end shows on the other side


class HiddenEnd(NamedTuple):
    """End of a trail, with its possible range.

    Attributes
    ----------
    onward : (2,)
        Direction out of the trail, (x, y).
    first, last
        Range of the end along that direction, px, from the end as given; both 0: the end is visible.
    inside
        Whether the end lies on unusable pixels.
    """

    onward: NDArray[np.float64]
    first: float
    last: float
    inside: bool


def as_seen(usable: NDArray[np.bool_], fwhm_px: float, segment: Segment) -> Segment:
    """Return a trail without its hidden ends; unchanged if less than a FWHM would remain."""
    cuts = [end.first if end.inside else 0.0 for end in hidden_ends(usable, fwhm_px, segment, 0.0)]
    if not any(cuts) or segment.length + sum(cuts) < fwhm_px:
        return segment
    theta, shift = math.radians(segment.angle), (cuts[1] - cuts[0]) / 2
    x, y = segment.x + shift * math.cos(theta), segment.y + shift * math.sin(theta)
    return segment._replace(x=x, y=y, length=segment.length + sum(cuts))


def hidden_covariance(
    usable: NDArray[np.bool_], fwhm_px: float, segment: Segment, length_err: float
) -> NDArray[np.float64]:
    """Return the covariance that hidden ends add to (flux, x, y, length, angle) of a trail's fit, (5, 5).

    An end is hidden if it lies among unusable pixels, or within two errors of the length, but at most half a FWHM, of
    them. Its position there is taken as uniform, up to one length of the trail away. The flux is that of the visible
    part.
    """
    added = np.zeros((5, 5))
    for end in hidden_ends(usable, fwhm_px, segment, min(_CLOSE * length_err, fwhm_px / 2)):
        if end.last > end.first:
            squares = (end.last**3 - end.first**3) / (3 * (end.last - end.first))
            change = np.array([0.0, *(end.onward / 2), 1.0, 0.0])
            added += squares * np.outer(change, change)
    return added


def hidden_ends(usable: NDArray[np.bool_], fwhm_px: float, segment: Segment, close: float) -> list[HiddenEnd]:
    """Return both ends of a trail; the last is the one in the direction of its angle.

    Parameters
    ----------
    usable : (ny, nx)
        Usable pixels.
    fwhm_px, segment
        Width of the PSF, and trail before convolution with it.
    close
        Distance from unusable pixels, px, within which an end may lie among them.
    """
    theta = math.radians(segment.angle)
    along, sides = np.array([math.cos(theta), math.sin(theta)]), fwhm_px / 2 * np.array([-1.0, 0.0, 1.0])
    count = math.ceil(max(segment.length, fwhm_px) / _STRIDE)
    steps = np.arange(-count, count + 1, dtype=np.float64) * _STRIDE
    x1, y1, x2, y2 = segment.ends()
    found = []
    for end, onward in (((x1, y1), -along), ((x2, y2), along)):
        places = end + steps[:, None, None] * onward + sides[:, None] * onward[::-1] * (-1.0, 1.0)
        hidden = _unusable(usable, places).sum(axis=1) >= 2
        near = np.flatnonzero(hidden & (np.abs(steps) <= max(close, _STRIDE)))
        first, last = _run(hidden, steps, near) if len(near) else (0.0, 0.0)
        wide = last - first >= _WIDE_FWHM * fwhm_px
        found.append(HiddenEnd(onward, *((first, last) if wide else (0.0, 0.0)), wide and bool(hidden[count])))
    return found


def _unusable(usable: NDArray[np.bool_], places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which positions, px (x, y), have an unusable pixel or lie beyond the image."""
    x, y = np.floor(places + 0.5).astype(int).transpose(-1, *range(places.ndim - 1))
    ny, nx = usable.shape
    inside = (x >= 0) & (y >= 0) & (x < nx) & (y < ny)
    return np.asarray(inside & ~usable[np.clip(y, 0, ny - 1), np.clip(x, 0, nx - 1)])


def _run(hidden: NDArray[np.bool_], steps: NDArray[np.float64], near: NDArray[np.intp]) -> tuple[float, float]:
    """Return the range of hidden pixels in a row, including those near the end."""
    seen = steps[~hidden]
    before, after = seen[seen < steps[near[0]]], seen[seen > steps[near[-1]]]
    first = before[-1] if len(before) else steps[0]
    last = after[0] if len(after) else steps[-1]
    return min(float(first), 0.0), max(float(last), 0.0)
