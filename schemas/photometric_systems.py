"""Photometric systems, and relations that convert their magnitudes to SDSS."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

SystemName = Literal["sdss", "ps1", "ztf", "decam", "lsst"]

INSTRUMENTS: dict[str, SystemName] = {
    "sdss": "sdss",
    "gpc1": "ps1",
    "ztf": "ztf",
    "ztf/mosaic": "ztf",
    "decam": "decam",
    "lsstcam": "lsst",
    "lsstcomcam": "lsst",
}
"""Instrument, in lower case -> system."""


class Relation(NamedTuple):
    """Relation m_SDSS - m = a0 + a1 c + a2 c^2 for a magnitude m and a colour c of the same system.

    Attributes
    ----------
    colour
        The two bands of c, bluer first.
    coefficients
        a0, a1, ..., mag.
    between
        Range of c where the relation holds, mag.
    scatter
        Scatter of stars around the relation, mag.
    """

    colour: tuple[str, str]
    coefficients: tuple[float, ...]
    between: tuple[float, float]
    scatter: float


GR, GI, RI = ("g", "r"), ("g", "i"), ("r", "i")

RELATIONS: dict[SystemName, dict[str, tuple[Relation, ...]]] = {
    "sdss": {},
    "ps1": {
        "g": (Relation(GR, (0.013, 0.145, 0.019), (-0.6, 1.35), 0.02),),
        "r": (Relation(GR, (-0.001, 0.004, 0.007), (-0.6, 1.35), 0.02),),
        "i": (Relation(GR, (-0.005, 0.011, 0.010), (-0.6, 1.35), 0.02),),
        "z": (Relation(GR, (0.013, -0.039, -0.012), (-0.6, 1.35), 0.03),),
    },
    "ztf": {
        "g": (Relation(GR, (0.015, 0.082), (-0.7, 1.6), 0.025),),
        "r": (
            Relation(GI, (-0.003, 0.062), (-1.2, 2.8), 0.02),
            Relation(GR, (-0.009, 0.089), (-0.7, 1.2), 0.015),
            Relation(RI, (0.012, 0.189, -0.020), (-0.6, 1.4), 0.025),
        ),
        "i": (Relation(RI, (-0.012, 0.235), (-0.6, 1.4), 0.025),),
    },
    "decam": {
        "g": (Relation(GI, (-0.005, 0.060), (-1.0, 3.5), 0.018),),
        "r": (Relation(RI, (0.014, 0.150), (-0.4, 2.0), 0.016),),
        "i": (Relation(RI, (-0.027, 0.167), (-0.4, 2.0), 0.015),),
        "z": (Relation(RI, (-0.024, 0.054), (-0.4, 2.0), 0.018),),
    },
    "lsst": {
        "g": (Relation(GI, (-0.006, 0.066), (0.2, 3.0), 0.015),),
        "r": (Relation(GI, (-0.005, 0.007), (0.2, 3.0), 0.011),),
        "i": (Relation(GI, (-0.020, 0.012), (0.2, 3.0), 0.012),),
        "z": (Relation(GI, (-0.031, -0.022), (0.2, 3.0), 0.017),),
    },
}
"""System -> band -> relations, of which the first with a measured colour is used.

ps1: Tonry et al. 2012 (ApJ 750, 99), table 6; range and scatter: where synthetic photometry agrees with it, and how far
the zero points of SDSS are from AB. ztf: no relation is published; fitted to synthetic photometry of Pickles' spectra
(`python -m benchmarks.catalogues.photometric_systems`); the scatter covers how the camera's colour terms differ by
quadrant. decam: DES DR2, Abbott et al. 2021 (ApJS 255, 20), scatter of single stars. lsst: LSSTComCam to SDSS DR18,
Rubin technical note RTN-099; LSSTCam's filters are of the same design. None has u."""


def system_of(instruments: Iterable[str]) -> SystemName | None:
    """Return the common system of instruments; None if there are none, one is unknown, or systems differ."""
    found = {INSTRUMENTS.get(name.strip().lower()) for name in instruments}
    return found.pop() if len(found) == 1 else None
