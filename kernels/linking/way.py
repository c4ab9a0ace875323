"""The way from one detection to another, and how far from it what lies between may be."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SIGMAS, SkyDetections, arc

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SELDOM = 5.0
"""Factor on the number of unrelated detections for one that only fits within the wider limits."""

_AT_REST = 1.0  # arcsec, or 3 standard deviations, from the first or the last: may be the same source
_FLOOR = 0.3  # arcsec: errors of astrometry not included in the stated ones
_ALONG, _ACROSS = 0.015, 0.004  # of the way, per hour: curvature, 3 standard deviations; see `tolerances`
_TURN, _WIDER = 3.0, 3.0  # wider limits: along the way, of the rate in rad / hour; across it, a factor


def room(detections: SkyDetections, i: Indices, j: Indices, way: Floats, member: Indices, widely: bool) -> Floats:
    """Return the area, deg2, in which detections that fit a pair as well lie; infinite where one does not fit.

    It is that of an ellipse about the way at its time, by the likelihood in it. With ``widely`` also of that of what
    comes or goes, or is slow for its distance, times `SELDOM`, if that is less.
    """
    days = detections.mjd[j] - detections.mjd[i]
    part, ahead, beside, sigma = _off(detections, i, j, way, member)
    least = np.full(len(i), np.inf)
    for wide in (False, True)[: 1 + widely]:
        along, across = (one / SIGMAS for one in tolerances(sigma, way, days, part, wide))
        square = ahead / np.square(along) + np.square(beside / across)
        often = SELDOM if wide else 1.0
        area = often * math.pi * along * across / 3600**2 * np.exp(np.minimum(square, SIGMAS**2) / 2)
        least = np.where(square <= SIGMAS**2, np.minimum(least, area), least)
    return least


def _off(
    detections: SkyDetections, i: Indices, j: Indices, way: Floats, member: Indices
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the part of the time, how far off along, squared, and across the way, and the error of that; arcsec."""
    days = detections.mjd[j] - detections.mjd[i]
    part = (detections.mjd[member] - detections.mjd[i]) / days
    place = on_the_way(detections, i, j, way, detections.mjd[member])
    off = arc(np.linalg.norm(place - detections.vectors[member], axis=1))
    pole = np.cross(detections.vectors[i], detections.vectors[j])
    pole /= np.linalg.norm(pole, axis=1, keepdims=True)
    beside = np.degrees(np.arcsin((pole * detections.vectors[member]).sum(axis=1))) * 3600
    ahead = np.maximum(np.square(off) - np.square(beside), 0.0)
    variance = (
        np.square(detections.sigma[index] * weight) for index, weight in ((i, 1 - part), (j, part), (member, 1))
    )
    return part, ahead, beside, np.sqrt(sum(variance))


def fitting_neighbours(detections: SkyDetections, members: Indices) -> NDArray[np.bool_]:
    """Return which detections, by time, fit between their neighbours, or beyond these at the ends; three at least do.

    The one that fits worst is taken out until all fit.
    """
    kept = np.arange(len(members))
    while len(kept) > 3:
        some, at = members[kept], np.arange(len(kept))
        i, j = np.clip(at - 1, 0, None), np.clip(at + 1, None, len(at) - 1)
        i[0], j[0], i[-1], j[-1] = 1, 2, len(at) - 3, len(at) - 2
        i, j = some[i], some[j]
        way = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1))
        way = np.maximum(way, 1e-3)
        with np.errstate(invalid="ignore"):
            part, ahead, beside, sigma = _off(detections, i, j, way, some)
            along, across = tolerances(sigma, way, detections.mjd[j] - detections.mjd[i], part)
            worse = np.nan_to_num(ahead / np.square(along) + np.square(beside / across))
        if worse.max() <= 1:
            break
        kept = np.delete(kept, worse.argmax())
    return np.isin(np.arange(len(members)), kept)


def tolerances(
    sigma: Floats | float, way: Floats, days: Floats | float, part: Floats | float, wide: bool = False
) -> tuple[Floats, Floats]:
    """Return how far off, arcsec, a detection may be along and across the way, at a part of the time between its ends.

    What an acceleration does is greatest halfway, and grows with the time. Along the way a rate may change by 3 % an
    hour; across it the parallax of the Earth's turn is less for nine in ten objects that pass at 15 km / s. Widely,
    what passes nearby and comes or goes as fast as it moves across changes its rate by twice the angle it moves.
    """
    known, bend = SIGMAS * sigma + _FLOOR, np.abs(way * days * 24 * part * (1 - part))
    turn = np.radians(way / 3600) / (days * 24)
    along = np.hypot(_ALONG, _TURN * turn) if wide else _ALONG
    across = _WIDER * _ACROSS if wide else _ACROSS
    return np.asarray(known + along * bend), np.asarray(known + across * bend)


def on_the_way(detections: SkyDetections, i: Indices, j: Indices, way: Floats, mjd: Floats) -> Floats:
    """Return where steady motion from one detection to another is at a time, unit vectors (n, 3)."""
    angle = np.radians(way / 3600)
    part = (mjd - detections.mjd[i]) / (detections.mjd[j] - detections.mjd[i])
    weights = np.sin((1 - part) * angle), np.sin(part * angle)
    both = weights[0][:, None] * detections.vectors[i] + weights[1][:, None] * detections.vectors[j]
    return np.asarray(both / np.sin(angle)[:, None])


def at_an_end(detections: SkyDetections, i: Indices, j: Indices, member: Indices) -> NDArray[np.bool_]:
    """Return which members, -1 for none, may be the first or the last detection's source, at rest."""
    close = np.zeros(len(i), np.bool_)
    for end in (i, j):
        apart = arc(np.linalg.norm(detections.vectors[member] - detections.vectors[end], axis=1))
        close |= apart <= np.maximum(_AT_REST, SIGMAS * np.hypot(detections.sigma[member], detections.sigma[end]))
    return np.asarray(close & (member >= 0))
