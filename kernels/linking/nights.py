"""Candidates of links: tracklets of several nights that may be of one object, found by the package heliolinx."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.sky.observatories import AU_KM
from kernels.sky.positions import sky_position

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

NIGHTS = 3
"""Minimum number of nights in a link: two nights fit unrelated tracklets too often."""

_NIGHT_GAP = 0.25  # d without detections
_APART = 0.5  # d between nights
_RADIUS_KM = 1e5  # distance within which states at the middle of the time are alike, at 1 au from the Earth
_GEOCENTRIC = (0.1, 8.0)  # au
_GM = 132712440041.279419  # km^3 / s^2
_GM_AU = 0.01720209895**2  # au^3 / d^2
_OBLIQUITY = math.radians(90 - 66.560708333333)  # as in heliolinx
_DISTANCES = (0.9, 5.6, 0.015)  # au: first, last; relative step
_RATES = 0.004 * np.arange(-4, 5)  # au / d
_CHANGES = 0.4 * np.arange(-3, 3)  # of the Sun's attraction
_AXES, _MOST_ECCENTRIC = (0.7, 6.0), 0.95  # au; of orbits searched for
_PROBE = 81  # index of the probe's distance, 3 au, in `hypotheses`


class Window(NamedTuple):
    """Input for heliolinx.

    Attributes
    ----------
    mjd, ra, dec, site : (n,)
        Detections, sorted by time: MJD, d; positions, deg, ICRS; index of the observatory.
    sigma : (n,)
        Errors of the positions along each axis, arcsec.
    observer : (n, 3)
        Heliocentric position of the observatory at the time, km, in the axes of the ICRS.
    earth : (m, 7)
        Time, d, every day, with five more before and after; heliocentric position and velocity of the Earth, km, km /
        s.
    members, group : (k,)
        Detections of tracklets, by time, and the tracklet index of each, from 0, in increasing order.
    """

    mjd: Floats
    ra: Floats
    dec: Floats
    site: Indices
    sigma: Floats
    observer: Floats
    earth: Floats
    members: Indices
    group: Indices


def hypotheses() -> Floats:
    """Return what paths are tried: (n, 3) distance from the Sun, au, its rate, au / d, and the acceleration.

    The latter in units of minus the pull of the Sun: 1 - p / r for an orbit with the parameter p. Orbits have axes from
    0.7 to 6 au and eccentricities up to 0.95: near-Earth objects, the main belt, Trojans. Steps are those with which
    heliolinx comes for the main belt, 0.04 au at 2.7 au, 0.004 au / d and 0.4; in distance in proportion elsewhere.
    """
    low, high, step = _DISTANCES
    r = low * (1 + step) ** np.arange(math.ceil(math.log(high / low, 1 + step)))
    grid = np.stack(np.meshgrid(r, _RATES, _CHANGES, indexing="ij"), axis=-1).reshape(-1, 3)
    r, rate, change = grid.T
    p = r * (1 - change)
    inverse = 2 / r - np.square(rate) / _GM_AU - p / np.square(r)
    good = (inverse >= 1 / _AXES[1]) & (inverse <= 1 / _AXES[0]) & (1 - p * inverse <= _MOST_ECCENTRIC**2)
    return np.asarray(grid[good])


def nights_of(mjd: Floats) -> int:
    """Return the number of nights in which times, d, are."""
    return int((np.diff(np.sort(mjd)) > _NIGHT_GAP).sum()) + 1 if len(mjd) else 0


def three_nights(mjd: Floats) -> Indices:
    """Return the indices of the first, a middle and the last of times, d; none if they are not of three nights."""
    if not len(mjd):
        return np.zeros(0, np.int64)
    found = np.array([mjd.argmin(), np.abs(mjd - (mjd.min() + mjd.max()) / 2).argmin(), mjd.argmax()])
    return found if np.diff(mjd[found]).min() >= _APART else np.zeros(0, np.int64)


def find_links(window: Window) -> list[Indices]:
    """Return detections, in increasing order, of tracklets that may be of one object; candidates overlap.

    Parameters
    ----------
    window
        Its tracklets are of three nights or more, see `three_nights`.

    Raises
    ------
    ValueError
        heliolinx gives its answer in another form than 0.0.2 does, or did not find the mover that was put in.

    Notes
    -----
    For each hypothesis on the distance from the Sun, every tracklet has a state at the middle of the time; alike states
    are a candidate (Holman et al. 2018, AJ 156, 135). heliolinx 0.0.2 reads memory that is not its
    own where it finds none, so there always is one: three pairs of a body on a circle against the sense of the planets
    are put in, and taken out again. They also show that it works. It was built for NumPy 1: of the tables that it
    returns, those with rows of other sizes than 16 bytes are overwritten, so that only the members of candidates can be
    had, and no orbits.
    """
    import heliolinx as library

    if library.create_longpair(2).strides != (16,):
        raise ValueError("heliolinx returns tables that cannot be read")
    asked = _with_probe(window)
    images, detections, tracklets, members = _structures(library, asked)
    time, place, velocity = np.split(window.earth, [1, 4], axis=1)
    config = library.HeliolincConfig()
    values = {
        "MJDref": float(window.mjd[[0, -1]].mean()), "clustrad": _RADIUS_KM, "minobsnights": NIGHTS, "use_univar": 1,
        "mingeodist": _GEOCENTRIC[0], "maxgeodist": _GEOCENTRIC[1], "verbose": -1,
    }  # fmt: skip
    for name, value in values.items():
        setattr(config, name, value)
    pairs = library.heliolinc(
        config, images, detections, tracklets, members, _filled(library.create_hlradhyp, *hypotheses().T),
        _filled(library.create_EarthState, *time.T, *ecliptic(place).T, *ecliptic(velocity).T),
    )[1]  # fmt: skip
    found = [np.unique(part) for part in np.split(pairs["i2"], np.flatnonzero(np.diff(pairs["i1"])) + 1)]
    own = [rows for rows in found if rows[-1] < len(window.mjd)]
    if len(own) == len(found):
        raise ValueError("heliolinx did not find the mover that was put in")
    return own


def _with_probe(window: Window) -> Window:
    """Return the window with the places of a body where tracklets of `three_nights` are."""
    first, last = _ends(window)
    chosen = three_nights(window.mjd[first])
    at = np.stack([first[chosen], last[chosen]], axis=1).ravel()
    low, _, step = _DISTANCES
    radius = low * (1 + step) ** _PROBE * AU_KM
    middle = window.mjd[[0, -1]].mean()
    day = np.abs(window.earth[:, 0] - middle).argmin()
    out, onward = (
        window.earth[day, part] / np.linalg.norm(window.earth[day, part]) for part in (slice(1, 4), slice(4, 7))
    )
    onward = onward - (onward @ out) * out
    angle = -math.sqrt(_GM / radius**3) * 86400 * (window.mjd[at] - middle)
    place = radius * (np.outer(np.cos(angle), out) + np.outer(np.sin(angle), onward / np.linalg.norm(onward)))
    ra, dec = sky_position(place - window.observer[at])
    own, count = len(window.mjd) + np.arange(len(at)), window.group[-1] + 1
    return window._replace(
        mjd=np.append(window.mjd, window.mjd[at]), ra=np.append(window.ra, ra), dec=np.append(window.dec, dec),
        site=np.append(window.site, window.site[at]), observer=np.concatenate([window.observer, window.observer[at]]),
        members=np.append(window.members, own), group=np.append(window.group, count + np.arange(len(at)) // 2),
    )  # fmt: skip


def _ends(window: Window) -> tuple[Indices, Indices]:
    """Return the first and the last detection of each tracklet."""
    starts = np.flatnonzero(np.diff(window.group, prepend=-1))
    return window.members[starts], window.members[np.append(starts[1:], len(window.group)) - 1]


def _structures(library: Any, window: Window) -> tuple[Any, Any, Any, Any]:
    """Return images, one for each detection, detections, tracklets and their members, as heliolinx has them."""
    count, zero = len(window.mjd), 0
    codes = np.char.zfill(window.site.astype("S5"), 3)
    images = _filled(
        library.create_hlimage, window.mjd, window.ra, window.dec, codes, *ecliptic(window.observer).T,
        *np.zeros((3, count)), *np.zeros((3, count), np.int64),
    )  # fmt: skip
    known: dict[str, Any] = {
        "MJD": window.mjd, "RA": window.ra, "Dec": window.dec, "image": np.arange(count), "obscode": codes,
        "index": np.arange(count), "idstring": b"0", "band": b"0",
    }  # fmt: skip
    names = library.create_hldet(1).dtype.names
    detections = _filled(library.create_hldet, *(np.broadcast_to(known.get(name, zero), count) for name in names))
    first, last = _ends(window)
    tracklets = _filled(
        library.create_tracklet, first, window.ra[first], window.dec[first], last, window.ra[last], window.dec[last],
        np.bincount(window.group), np.arange(len(first)),
    )  # fmt: skip
    return images, detections, tracklets, _filled(library.create_longpair, window.group, window.members)


def _filled(create: Callable[[int], Any], *columns: NDArray[Any]) -> Any:
    made = np.zeros(len(columns[0]), create(1).dtype)
    for name, column in zip(made.dtype.names, columns, strict=True):
        made[name] = column
    return made


def ecliptic(vectors: Floats) -> Floats:
    """Return vectors (n, 3) of the axes of the ICRS in those of the ecliptic."""
    cos, sin = math.cos(_OBLIQUITY), math.sin(_OBLIQUITY)
    x, y, z = vectors.T
    return np.stack([x, cos * y + sin * z, cos * z - sin * y], axis=1)
