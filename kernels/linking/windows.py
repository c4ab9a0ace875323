"""Windows of nights: tracklets, and pairs of detections that are in none, to be linked over nights."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SkyDetections
from kernels.linking.nights import Window
from kernels.linking.tracklets import PAIR_RATE, find_pairs
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, heliocentric_km
from kernels.sky.positions import sky_position

Indices = NDArray[np.int64]
Groups = Sequence[tuple[int, ...]]

MOST_TRACKLETS = 20_000
"""Maximum number of tracklets in a window, pairs included."""

_EARTH_DAYS = 5  # days before and after


def pairs_between(
    detections: SkyDetections, obscode: NDArray[np.str_], rows: Indices, usable: NDArray[np.bool_], most: int
) -> tuple[list[tuple[int, int]], float]:
    """Find pairs of detections of one observatory and night.

    Parameters
    ----------
    detections, obscode : (n,)
        Detections by time, and the code of the observatory of each.
    rows
        Those of the window.
    usable : (n,) bool
        What may move and is in no tracklet.
    most
        Number of pairs to return.

    Returns
    -------
    list of tuple of int
        Places of the earlier and the later detection of each pair.
    float
        deg / day: the fastest that were looked for, as of `kernels.linking.tracklets.find_pairs`.
    """
    pairs: list[tuple[int, int]] = []
    rate = PAIR_RATE
    codes = np.unique(obscode[rows])
    for code in codes:
        here = rows[obscode[rows] == code]
        found, limit = find_pairs(detections.take(here), usable[here], most // len(codes))
        pairs += [(int(i), int(j)) for i, j in here[found]]
        rate = min(rate, limit)
    return pairs, rate


def window_of(
    detections: SkyDetections, obscode: NDArray[np.str_], groups: Groups, scale: Literal["utc", "tai"]
) -> tuple[Window, Indices]:
    """Return a window of tracklets and pairs, and the places of its detections among all.

    Parameters
    ----------
    detections, obscode : (n,)
        Detections by time, and the code of the observatory of each; the centre of the Earth for one that is not known.
    groups
        Places of the detections of each tracklet and pair, by time.
    scale
        Of the times.
    """
    flat = np.array([place for group in groups for place in group], np.int64)
    places = np.unique(flat)
    mjd, codes = detections.mjd[places], obscode[places]
    ra, dec = sky_position(detections.vectors[places])
    observer = np.zeros((len(places), 3))
    sites = np.unique(codes)
    for code in sites:
        times, of = np.unique(mjd[codes == code], return_inverse=True)
        known = str(code) if str(code) in OBSERVATORIES else GEOCENTRE
        observer[codes == code] = heliocentric_km(known, times, scale)[0][of]
    days = np.arange(np.floor(mjd[0]) - _EARTH_DAYS, mjd[-1] + _EARTH_DAYS + 1)
    earth = np.column_stack([days, *heliocentric_km(GEOCENTRE, days, scale)])
    group = np.repeat(np.arange(len(groups)), [len(one) for one in groups])
    window = Window(
        mjd,
        ra,
        dec,
        np.searchsorted(sites, codes),
        detections.sigma[places],
        observer,
        earth,
        np.searchsorted(places, flat),
        group,
    )
    return window, places
