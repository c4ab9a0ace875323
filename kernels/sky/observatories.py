"""Places of observatories, and of an observer in space."""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import erfa
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GEOCENTRE = "500"
"""Code of the centre of the Earth, used if the observatory is not known."""

AU_KM = 149597870.7
"""Astronomical unit, km (IAU 2012 resolution B2)."""

PARALLAX = 8.794
"""Parallax of the Sun, arcsec: the Earth's radius as seen from 1 AU."""

_EARTH_KM = 6378.137  # equatorial radius that the constants are in units of
_MJD_0 = 2400000.5
_TAI_TO_TT = 32.184 / 86400

# Code; longitude east, deg; rho cos(phi') and rho sin(phi'), in equatorial radii.
# https://minorplanetcenter.net/iau/lists/ObsCodes.html, as of 2026-10-17: surveys and their follow-up.
_CONSTANTS = """
500 0.00000 0.000000 +0.000000
267 204.53109 0.941717 +0.337240
268 289.30803 0.875516 -0.482342
269 289.30914 0.875510 -0.482349
291 248.40024 0.849471 +0.526470
304 289.30858 0.875513 -0.482346
309 289.59569 0.909943 -0.414336
413 149.06608 0.855595 -0.516262
474 170.46496 0.720773 -0.691079
566 203.74240 0.936230 +0.351560
568 204.52780 0.941710 +0.337250
608 203.74200 0.936230 +0.351560
644 243.14022 0.836325 +0.546877
645 254.17942 0.841945 +0.538563
675 243.13746 0.836357 +0.546831
689 248.26010 0.818510 +0.573190
691 248.39966 0.849466 +0.526479
693 249.26745 0.845313 +0.533209
695 248.40533 0.849504 +0.526425
696 249.11540 0.852050 +0.522490
699 248.46331 0.819380 +0.571930
703 249.26736 0.845311 +0.533211
704 253.34093 0.831869 +0.553542
705 254.17942 0.841945 +0.538563
711 255.97850 0.861140 +0.507310
807 289.19410 0.865600 -0.499800
809 289.26626 0.873440 -0.486052
950 342.11760 0.877640 +0.478470
D29 118.46390 0.842040 +0.537670
E10 149.07085 0.855632 -0.516198
E12 149.06420 0.855630 -0.516210
F51 203.74409 0.936241 +0.351543
F52 203.74409 0.936239 +0.351545
F65 203.74250 0.936239 +0.351538
G37 248.57779 0.822900 +0.566927
G45 253.63564 0.832748 +0.552480
G96 249.21128 0.845107 +0.533611
H01 252.81067 0.830474 +0.556096
I11 289.26345 0.865020 -0.500901
I33 289.26631 0.865052 -0.500865
I41 243.14022 0.836322 +0.546875
I52 249.21108 0.845109 +0.533609
J04 343.48818 0.881471 +0.471466
J13 342.12080 0.877630 +0.478510
K91 20.81019 0.845561 -0.532618
K92 20.81004 0.845561 -0.532618
K93 20.81011 0.845560 -0.532620
M22 20.81033 0.845561 -0.532616
M49 16.36172 0.919630 -0.392206
O18 93.89522 0.782966 +0.621021
P07 114.08987 0.928304 -0.370597
Q63 149.07064 0.855632 -0.516202
R17 343.48969 0.881484 +0.471430
T05 203.74299 0.936236 +0.351547
T08 204.42395 0.943290 +0.332467
T09 204.52396 0.941711 +0.337239
T12 204.53054 0.941733 +0.337201
T14 204.53109 0.941717 +0.337240
T15 204.53093 0.941728 +0.337214
U68 240.58701 0.799040 +0.599620
V00 248.39981 0.849456 +0.526492
V06 249.26745 0.845313 +0.533209
V37 255.98483 0.861053 +0.507428
W68 289.23502 0.862845 -0.504269
W74 289.26245 0.873451 -0.486040
W84 289.19358 0.865572 -0.499793
W85 289.19519 0.865591 -0.499760
W86 289.19533 0.865592 -0.499759
W87 289.19532 0.865591 -0.499761
W93 289.19600 0.865589 -0.499755
W94 291.82019 0.921646 -0.387713
X05 289.25058 0.864981 -0.500958
Z23 342.11492 0.877679 +0.478433
Z84 357.45184 0.797530 +0.601830
"""

Place = tuple[float, float, float]
"""East longitude, deg; rho cos(phi'), rho sin(phi'), equatorial radii."""

OBSERVATORIES: dict[str, Place] = {
    code: (float(east), float(cos), float(sin))
    for code, east, cos, sin in (line.split() for line in _CONSTANTS.strip().splitlines())
}
"""Code of the Minor Planet Center -> position."""

_INSTRUMENTS = {"ZTF": "I41", "LSST": "X05", "DECAM": "W84"}
_TURN = 2 * np.pi * 1.00273781191135448  # rad / d: rotation of the Earth


class Observer(NamedTuple):
    """Observer at a time.

    Attributes
    ----------
    mjd
        TT.
    position, velocity : (3,)
        From the Sun, AU and AU / d, along the axes of the ICRS.
    parallax
        Of what is 1 AU away, by which the place may be wrong, arcsec: that of the Earth's radius at its centre, else 0.
    """

    mjd: float
    position: Floats
    velocity: Floats
    parallax: float


def known_code(code: str) -> str:
    """Return a code as it is known: in capitals, where it is not known as it is written."""
    return code.upper() if code not in OBSERVATORIES and code.upper() in OBSERVATORIES else code


def observatory_of(instrument: str) -> str:
    """Return the code of the observatory of an instrument; `GEOCENTRE` if it is not known."""
    known = (code for name, code in _INSTRUMENTS.items() if instrument.upper().startswith(name))
    return next(known, GEOCENTRE)


def place_on_earth(longitude: float, latitude: float, height: float) -> Place:
    """Return where a site is of which longitude (east) and latitude, deg (WGS 84), and height, m, are known."""
    x, y, z = erfa.gd2gc(1, np.radians(longitude), np.radians(latitude), height) / 1000 / _EARTH_KM
    return longitude, float(np.hypot(x, y)), float(z)


def observer_at(mjd: float, place: Place, scale: Literal["utc", "tai"] = "tai") -> Observer:
    """Return where an observer is, and how fast, with the Earth's turning."""
    moment = np.array([mjd])
    from_earth, pole = _geocentric_km(place, moment, scale)
    from_sun, velocity = heliocentric_km(GEOCENTRE, moment, scale)
    turning = _TURN * np.cross(pole[0], from_earth[0]) / AU_KM
    position = (from_sun[0] + from_earth[0]) / AU_KM
    parallax = PARALLAX if place == OBSERVATORIES[GEOCENTRE] else 0.0
    return Observer(_tai(moment, scale)[0] + _TAI_TO_TT, position, velocity[0] * (86400 / AU_KM) + turning, parallax)


def geocentric_km(code: str, mjd: Floats, scale: Literal["utc", "tai"]) -> Floats:
    """Return where an observatory is from the centre of the Earth.

    Parameters
    ----------
    code
        One of `OBSERVATORIES`; KeyError for another.
    mjd : (n,)
        Times, d.
    scale
        Of the times.

    Returns
    -------
    (n, 3)
        In the axes of the ICRS, km: precession and nutation IAU 2006/2000A, without polar motion and with UT1 = UTC,
        which is wrong by 0.4 km at most.
    """
    return _geocentric_km(OBSERVATORIES[code], mjd, scale)[0]


def _geocentric_km(place: Place, mjd: Floats, scale: Literal["utc", "tai"]) -> tuple[Floats, Floats]:
    """Return where a place is, as `geocentric_km` does, and the direction of the Earth's axis, (n, 3)."""
    east, cos, sin = place
    angle = np.radians(east)
    fixed = _EARTH_KM * np.array([cos * np.cos(angle), cos * np.sin(angle), sin])
    tai = _tai(mjd, scale)
    turned = erfa.c2t06a(_MJD_0, tai + _TAI_TO_TT, _MJD_0, _utc(mjd, scale), 0.0, 0.0)
    return np.einsum("nji,j->ni", turned, fixed), turned[:, 2]


def heliocentric_km(code: str, mjd: Floats, scale: Literal["utc", "tai"]) -> tuple[Floats, Floats]:
    """Return where an observatory is from the Sun, (n, 3), km, and how the Earth moves, (n, 3), km / s.

    Both in the axes of the ICRS; arguments are those of `geocentric_km`. The Earth is that of Bretagnon & Francou
    (1988, A&A 202, 309) as SOFA's epv00 gives it, 5 km rms from 1900 to 2100; TDB is taken as TT.
    """
    earth = erfa.epv00(_MJD_0, _tai(mjd, scale) + _TAI_TO_TT)[0]
    return earth["p"] * AU_KM + geocentric_km(code, mjd, scale), earth["v"] * (AU_KM / 86400)


def _tai(mjd: Floats, scale: Literal["utc", "tai"]) -> Floats:
    if scale == "tai":
        return mjd
    return _quietly(erfa.utctai, mjd)


def _utc(mjd: Floats, scale: Literal["utc", "tai"]) -> Floats:
    if scale == "utc":
        return mjd
    return _quietly(erfa.taiutc, mjd)


def _quietly(change: Callable[[float, Floats], tuple[Floats, Floats]], mjd: Floats) -> Floats:
    """Change the scale; leap seconds of years that SOFA calls dubious, the far ones, are those it knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        first, second = change(_MJD_0, mjd)
    return (first - _MJD_0) + second
