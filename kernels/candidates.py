"""Candidates: trails with the hits that they explain."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.pursuit import same_trail
from kernels.segment import Segment, between, in_line, union


class Candidate(NamedTuple):
    """A trail and the logits of its hits."""

    trail: Segment
    logits: tuple[float, ...]


def unite(candidates: Sequence[Candidate], fwhm_px: float) -> list[Candidate]:
    """Make one of candidates that are the same trail, or pieces of it.

    Parameters
    ----------
    candidates
        In any order.
    fwhm_px
        Of the PSF.

    Returns
    -------
    list of Candidate
        By falling S/N. Two trails become one where the weaker lies on the stronger, and where two trails of at least
        5 FWHM are collinear with a gap shorter than both together, as those of a blinking aeroplane.
    """
    ordered = sorted(candidates, key=lambda each: (-each.trail.snr, each.trail.y, each.trail.x))
    kept: list[Candidate] = []
    reach = np.empty((len(ordered), 3))  # x, y and how far a candidate of its line may lie
    for candidate in ordered:
        trail = candidate.trail
        known = reach[: len(kept)]
        apart = np.hypot(known[:, 0] - trail.x, known[:, 1] - trail.y)
        place = len(kept)
        for i in np.flatnonzero(apart <= known[:, 2] + 2 * trail.length):
            joined = _joined(kept[i].trail, trail, fwhm_px)
            if joined is not None:
                place, candidate = int(i), Candidate(joined, kept[i].logits + candidate.logits)
                break
        kept[place : place + 1] = [candidate]
        united = candidate.trail
        reach[place] = united.x, united.y, 2 * united.length + 4 * fwhm_px
    return kept


def _joined(stronger: Segment, trail: Segment, fwhm_px: float) -> Segment | None:
    """One trail of two, or None if they are two."""
    if same_trail(trail, stronger, fwhm_px):
        return stronger
    both_long = min(trail.length, stronger.length) >= 5 * fwhm_px
    # The angles of two pieces may differ by a degree.
    radius = 1.2 * fwhm_px + 0.02 * math.hypot(trail.x - stronger.x, trail.y - stronger.y)
    if both_long and in_line(trail, stronger, radius):
        gap = between(trail, stronger).length
        return union(stronger, trail) if gap <= trail.length + stronger.length else None
    return None
