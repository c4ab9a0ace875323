"""Candidates: trails with the hits that they explain."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.glint_trail import find_glint_trails
from kernels.pursuit import same_trail
from kernels.segment import Segment, between, in_line, overlap, union

_INSIDE = 0.8  # share of a candidate in the light of a satellite


class Candidate(NamedTuple):
    """A trail, the logits of its hits, and whether it consists of flashes in line."""

    trail: Segment
    logits: tuple[float, ...]
    flashes: bool = False


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
    ordered = sorted(candidates, key=lambda each: (-each.trail.snr, each.trail))
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
                place, candidate = int(i), _both(kept[i], candidate, joined)
                break
        kept[place : place + 1] = [candidate]
        united = candidate.trail
        reach[place] = united.x, united.y, 2 * united.length + 4 * fwhm_px
    return kept


def join_glints(
    candidates: Sequence[Candidate], doubtful: Sequence[bool], fwhm_px: float, area_px: float
) -> list[Candidate]:
    """Make one of candidates that are flashes of one object; see `kernels.glint_trail`.

    Parameters
    ----------
    candidates
        In any order.
    doubtful
        Which of them are no flashes: the spikes of two stars in line are in line, too.
    fwhm_px, area_px
        Of the PSF, px, and of the image, px^2.
    """
    known = [i for i, doubt in enumerate(doubtful) if not doubt]
    found = find_glint_trails([candidates[i].trail for i in known], fwhm_px, area_px)
    sets = [[known[i] for i in one.members] for one in found]
    joined = [
        Candidate(one.segment, tuple(logit for i in members for logit in candidates[i].logits), True)
        for one, members in zip(found, sets, strict=True)
    ]
    taken = {i for members in sets for i in members}
    return joined + [candidate for i, candidate in enumerate(candidates) if i not in taken]


def absorb(spoiling: Candidate, radius: float, others: Sequence[Candidate]) -> tuple[Candidate, list[Candidate]]:
    """Give a satellite the hits of what lies in its light, to four fifths within ``radius`` px of it; and the rest."""
    inside = [overlap(one.trail, spoiling.trail, radius) >= _INSIDE for one in others]
    logits = tuple(logit for one, lies in zip(others, inside, strict=True) if lies for logit in one.logits)
    rest = [one for one, lies in zip(others, inside, strict=True) if not lies]
    return spoiling._replace(logits=spoiling.logits + logits), rest


def _both(stronger: Candidate, weaker: Candidate, trail: Segment) -> Candidate:
    return Candidate(trail, stronger.logits + weaker.logits, stronger.flashes or weaker.flashes)


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
