"""Matching of detections to known sources."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POSITION_TOLERANCE_PX = 3.0
LENGTH_SLACK_PX = 2.0
SATELLITE_TOLERANCE_PX = 6.0
"""Tolerance for satellites, which flare, defocus and split into several detections, px; about two widths of the PSF."""
LEAST_VISIBLE = 0.5

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Targets:
    """Sources known to be on one image; one entry per source.

    Attributes
    ----------
    kind
        ``"streak"``, ``"point"`` or ``"satellite"``.
    x, y
        Centre, 0-based px.
    length, angle
        Length before convolution with the PSF, px; direction from +x towards +y, deg.
    visible
        Share of the source's template on usable pixels, 0 to 1.
    """

    kind: NDArray[np.str_]
    x: Floats
    y: Floats
    length: Floats
    angle: Floats
    visible: Floats

    @property
    def counted(self) -> Bools:
        """Return which targets are streaks that a search is asked to find: the others count neither way."""
        return (self.kind == "streak") & (self.visible >= LEAST_VISIBLE)

    @property
    def tolerance(self) -> Floats:
        """Return the largest distance of a detection from the centre, px."""
        return np.maximum(POSITION_TOLERANCE_PX, self.length / 2 + LENGTH_SLACK_PX)


@dataclass(frozen=True)
class Matches:
    """Verdict on each detection of one image.

    Attributes
    ----------
    target
        Index of the streak it found, -1 if none.
    false
        It found no streak, and lies on nothing else that is there.
    """

    target: Ints
    false: Bools


def match_detections(x: Floats, y: Floats, score: Floats, targets: Targets) -> Matches:
    """Return each streak at most one detection, best score first.

    A detection takes the nearest streak not yet taken whose centre is within ``max(3 px, length / 2 + 2 px)``.
    What is left is false, unless it lies as near to a point source or to a streak mostly hidden, or within 6 px of
    the line of a satellite: those are there, and any number of detections on them count neither way.

    Parameters
    ----------
    x, y : (n,)
        Centres of the detections, 0-based px.
    score : (n,)
        Rank of the detections; equal scores keep their order.
    targets
        What is there.

    Notes
    -----
    Verdicts are nested: dropping the lowest scores changes no verdict on the rest. So one matching serves every
    threshold.
    """
    target = np.full(len(x), -1, np.int64)
    pairs = _pairs_in_reach(x, y, targets)
    taken = np.zeros(len(targets.x), bool)
    for detection in np.argsort(-score, kind="stable"):
        for streak in pairs.get(int(detection), ()):
            if not taken[streak]:
                target[detection], taken[streak] = streak, True
                break
    return Matches(target, (target < 0) & ~_on_uncounted(x, y, targets))


def _pairs_in_reach(x: Floats, y: Floats, targets: Targets) -> dict[int, list[int]]:
    """Return the streaks within tolerance of each detection, nearest first."""
    from scipy.spatial import KDTree

    streaks = np.flatnonzero(targets.counted)
    tree = KDTree(np.column_stack([x, y]))
    centres = np.column_stack([targets.x[streaks], targets.y[streaks]])
    near: dict[int, list[tuple[float, int]]] = {}
    for streak, found in zip(streaks, tree.query_ball_point(centres, targets.tolerance[streaks]), strict=True):
        for detection in found:
            distance = float(np.hypot(x[detection] - targets.x[streak], y[detection] - targets.y[streak]))
            near.setdefault(detection, []).append((distance, int(streak)))
    return {detection: [streak for _, streak in sorted(found)] for detection, found in near.items()}


def _on_uncounted(x: Floats, y: Floats, targets: Targets) -> Bools:
    on = on_satellite(x, y, targets)
    for i in np.flatnonzero(~targets.counted & (targets.kind != "satellite")):
        on |= np.hypot(x - targets.x[i], y - targets.y[i]) <= targets.tolerance[i]
    return on


def on_satellite(x: Floats, y: Floats, targets: Targets) -> Bools:
    """Return which points lie within 6 px of the line of a satellite, (n,) px each -> (n,)."""
    on = np.zeros(len(x), bool)
    for i in np.flatnonzero(targets.kind == "satellite"):
        line = (targets.x[i], targets.y[i], targets.length[i], targets.angle[i])
        on |= segment_distance(x, y, *line) <= SATELLITE_TOLERANCE_PX
    return on


def segment_distance(x: Floats, y: Floats, x0: float, y0: float, length: float, angle: float) -> Floats:
    """Return the distance of points from a segment centred on (x0, y0).

    Parameters
    ----------
    x, y : (n,)
        Points, px.
    x0, y0, length
        Centre and length of the segment, px.
    angle
        Its direction, deg from +x towards +y.

    Returns
    -------
    (n,) float64
        px.
    """
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along = (x - x0) * cosine + (y - y0) * sine
    across = (y - y0) * cosine - (x - x0) * sine
    return np.hypot(np.maximum(np.abs(along) - length / 2, 0.0), across)
