"""Fits that describe the same trail."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Segment

_MOST = 6.0  # px; trails further apart than this stay two, however wide the PSF


def same_trail(one: Segment, other: Segment, tolerance: float) -> bool:
    """Whether the centre and both ends of the shorter trail lie within ``tolerance`` px of the longer one."""
    short, long = (one, other) if one.length <= other.length else (other, one)
    x1, y1, x2, y2 = short.ends()
    return all(long.distance(x, y) <= tolerance for x, y in ((short.x, short.y), (x1, y1), (x2, y2)))


def first_of_each(segments: Sequence[Segment], fwhm_px: float) -> list[int]:
    """Drop what repeats an earlier one.

    Parameters
    ----------
    segments
        Fitted trails, the best candidate first.
    fwhm_px
        FWHM of the PSF, px. Two fits are the same trail if the shorter one lies within 1.5 FWHM, and within 6 px, of
        the longer one: so fits that converged to one place, and pieces of one long trail, become one; trails 10 px
        apart and trails that cross stay two.

    Returns
    -------
    list of int
        Indices of those that stay, in order.
    """
    tolerance = min(1.5 * fwhm_px, _MOST)
    kept: list[int] = []
    places: NDArray[np.float64] = np.array([(s.x, s.y, s.length) for s in segments]).reshape(-1, 3)
    for i, segment in enumerate(segments):
        x, y, length = places[kept].T
        near = np.hypot(x - segment.x, y - segment.y) <= (length + segment.length) / 2 + tolerance
        if not any(same_trail(segment, segments[kept[j]], tolerance) for j in np.flatnonzero(near)):
            kept.append(i)
    return kept
