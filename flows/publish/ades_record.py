"""Records of a report to the Minor Planet Center: conversion of detections to ADES, and exclusion of others."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

import erfa

from kernels.orbits.designations import Designation
from schemas.ades import AdesTelescope
from schemas.dia_source import DetectionFlag, exposure_of
from schemas.errors import BadInput

_MJD_0 = 2400000.5
_ARCSEC = 3600.0
_MOST_DECIMALS, _DECIMALS = 9, 5  # decimals of ra and dec: the most in ADES, and without a known error
_TRAILED = 2.0  # arcsec: shorter trails are not recognised
_NEVER = DetectionFlag.SATELLITE | DetectionFlag.CROSSES_DETECTOR


@dataclass(frozen=True)
class AdesContext:
    """Header of a block: one observatory, its telescope, and the persons responsible for the observations."""

    mpc_code: str
    submitter: str
    measurers: tuple[str, ...]
    telescope: AdesTelescope
    institution: str | None = None
    observers: tuple[str, ...] = ()
    funding_source: str | None = None
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdesObservation:
    """Observation: texts of the elements of ``optical``, in the order of the schema; empty elements are absent.

    The elements are defined in https://github.com/IAU-ADES/ADES-Master (xsd/submit.xsd) and its description.
    """

    permID: str  # noqa: N815 - names are those of the elements
    provID: str  # noqa: N815
    trkSub: str  # noqa: N815
    obsSubID: str  # noqa: N815
    mode: str
    stn: str
    obsTime: str  # noqa: N815
    ra: str
    dec: str
    rmsRA: str  # noqa: N815
    rmsDec: str  # noqa: N815
    rmsCorr: str  # noqa: N815
    astCat: str  # noqa: N815
    mag: str
    rmsMag: str  # noqa: N815
    band: str
    photCat: str  # noqa: N815
    logSNR: str  # noqa: N815
    seeing: str
    exp: str
    notes: str
    remarks: str

    def elements(self) -> dict[str, str]:
        """Return the elements with a value, in order."""
        return {name: text for name in ELEMENTS if (text := getattr(self, name))}


ELEMENTS = tuple(one.name for one in fields(AdesObservation))

MEASURED = ("obsTime", "ra", "dec", "mag", "band")
"""Elements that make two reports of a detection differ."""


@dataclass(frozen=True)
class Reduction:
    """Common data of the detections of an exposure: station, catalogues, bands, width of a star (arcsec), notes."""

    stn: str
    mode: str
    ast_cat: str
    phot_cat: str | None
    bands: Mapping[str, str]
    seeing: float | None = None
    notes: str = ""


def refuse_unreportable(row: Mapping[str, Any]) -> None:
    """Raise unless a row is a real detection that may be a Solar System object.

    Parameters
    ----------
    row
        Row of `dia_source`.

    Raises
    ------
    BadInput
        ``synthetic``: the row is an injected streak, or has no detection id; ``satellite``: the detection is, or lies
        across, the trail of a satellite or aeroplane, is a glint, or is too long for an asteroid; ``no_position``: it
        has no sky position; ``no_time``: its time is not known; ``doubtful_time``: time keywords contradict each other.
    """
    one = row.get("diaSourceId")
    where, remedy = f"detection {one}", "report other detections; this one never is."
    if one is None or one < 0 or "injectionId" in row or exposure_of(one) != (row["visit"], row["detector"]):
        raise BadInput("synthetic", where, "is not a detection on an image as it was taken.", remedy)
    if row.get("trailClass") or row["flags"] & _NEVER:
        problem = f"is, or lies across, a satellite: class {row.get('trailClass') or 'none'}, flags {row['flags']}."
        raise BadInput("satellite", where, problem, remedy)
    if not all(_known(row.get(name)) for name in ("ra", "dec", "midpointMjdTai")):
        raise BadInput("no_position", where, "has no place on the sky.", "give its exposure a WCS.")
    if row["flags"] & DetectionFlag.NO_TIME:
        raise BadInput("no_time", where, "has no time: 2000-01-01 was assumed.", "ingest its exposure with its time.")
    if row["flags"] & DetectionFlag.ASSUMED_TIME:
        problem = "has a doubtful time: keywords of its exposure contradict each other (flag ASSUMED_TIME)."
        raise BadInput("doubtful_time", where, problem, "name the right one in the settings, fits.time, and run again.")


def ades_observation(row: Mapping[str, Any], named: Designation, name: str, reduction: Reduction) -> AdesObservation:
    """Return a detection as an ADES observation.

    Parameters
    ----------
    row
        Row of `dia_source`.
    named, name
        Designation, empty for an unknown object; and the tracklet's own name, trkSub.
    reduction
        Reduction of its exposure.

    Raises
    ------
    BadInput
        The detection cannot be reported; see `refuse_unreportable`.
    """
    refuse_unreportable(row)
    errors = _errors(row)
    return AdesObservation(
        permID=named.permanent,
        provID=named.provisional,
        trkSub=name,
        obsSubID=str(row["diaSourceId"]),
        mode=reduction.mode,
        stn=reduction.stn,
        obsTime=utc_text(row["midpointMjdTai"]),
        **_place(row, errors),
        astCat=reduction.ast_cat,
        **_photometry(row, reduction),
        logSNR=f"{math.log10(row['snr']):.2f}" if row["snr"] > 0 else "",
        seeing=_positive(reduction.seeing),
        exp=_positive(row.get("exposureTime")),
        **_notes(row, reduction.notes),
    )


def utc_text(mjd_tai: float) -> str:
    """Return a time as UTC, ISO 8601, to 0.001 s; within a leap second the seconds are 60.

    >>> utc_text(57754.0 + 36.5 / 86400)
    '2016-12-31T23:59:60.500Z'
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", erfa.ErfaWarning)  # for years whose leap seconds are not known yet
        year, month, day, clock = erfa.d2dtf("UTC", 3, *erfa.taiutc(_MJD_0, mjd_tai))
    return f"{year:04d}-{month:02d}-{day:02d}T{clock['h']:02d}:{clock['m']:02d}:{clock['s']:02d}.{clock['f']:03d}Z"


def _errors(row: Mapping[str, Any]) -> tuple[float, float, float | None] | None:
    """Return the errors along right ascension and declination, arcsec, and their correlation; None if not known."""
    ra, dec, covariance = row.get("raErr"), row.get("decErr"), row.get("ra_dec_Cov")
    if not (_known(ra) and _known(dec) and ra > 0 and dec > 0):
        return None
    correlation = covariance / (ra * dec) if _known(covariance) else None
    return ra * _ARCSEC, dec * _ARCSEC, correlation


def _place(row: Mapping[str, Any], errors: tuple[float, float, float | None] | None) -> dict[str, str]:
    """Return the position and its error, with the digits that the error justifies (ADES: 1 - log10, rounded up)."""
    ra, dec = row["ra"] % 360.0, row["dec"]
    if errors is None:
        digits = (_DECIMALS, _DECIMALS)
        spread = {"rmsRA": "", "rmsDec": "", "rmsCorr": ""}
    else:
        along = errors[0] / max(math.cos(math.radians(dec)), 1e-6)  # of the coordinate, wider at the poles
        digits = _decimals(along / _ARCSEC), _decimals(errors[1] / _ARCSEC)
        spread = {"rmsRA": _rms(errors[0], 5), "rmsDec": _rms(errors[1], 5), "rmsCorr": ""}
        if errors[2] is not None:
            spread["rmsCorr"] = f"{min(max(errors[2], -0.999), 0.999):.3f}".replace("-0.000", "0.000")
    text = f"{ra:.{digits[0]}f}"
    if float(text) >= 360.0:  # rounds up to 0
        text = f"{0:.{digits[0]}f}"
    return {"ra": text, "dec": f"{dec:+.{digits[1]}f}", **spread}


def _decimals(error_deg: float) -> int:
    return min(max(math.ceil(1 - math.log10(error_deg)), 4), _MOST_DECIMALS)


def _rms(error: float, most: int) -> str:
    """Return an error to three digits and at most ``most`` decimals; never 0."""
    decimals = min(max(2 - math.floor(math.log10(error)), 0), most)
    return f"{min(max(error, 10.0**-most), 99999.0):.{decimals}f}"


def _photometry(row: Mapping[str, Any], reduction: Reduction) -> dict[str, str]:
    """Return the magnitude with its band; neither if the band has no code, which ADES requires for a magnitude."""
    mag, error = row.get("magAB"), row.get("magABErr")
    band = reduction.bands.get(row["band"], "")
    if not band or not _known(mag) or not -5 <= mag <= 35:
        return {"mag": "", "rmsMag": "", "band": "", "photCat": ""}
    decimals, spread = 2, ""
    if _known(error) and error > 0:
        decimals, spread = min(max(math.ceil(1 - math.log10(error)), 1), 3), _rms(error, 4)
    return {"mag": f"{mag:.{decimals}f}", "rmsMag": spread, "band": band, "photCat": reduction.phot_cat or ""}


def trail_of(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return length, arcsec, and angle, deg, of a significant trail (3 sigma, 2 arcsec); else None."""
    length, error, angle = row.get("trailLength"), row.get("trailLengthErr"), row.get("trailAngle")
    if not _known(length) or not _known(angle):
        return None
    sure = length > 3 * (error if _known(error) else 0.0)
    return (length, angle) if sure and length >= _TRAILED else None


def _notes(row: Mapping[str, Any], given: str) -> dict[str, str]:
    """Return notes (https://minorplanetcenter.net/iau/info/ObsNote.html): t, trailed; E, at the edge; and the trail."""
    trail = trail_of(row)
    notes = given + ("t" if trail else "") + ("E" if row["flags"] & DetectionFlag.EDGE else "")
    remarks = f"trail {trail[0]:.1f} arcsec at position angle {trail[1]:.1f} deg" if trail else ""
    return {"notes": notes, "remarks": remarks}


def _positive(value: float | None) -> str:
    """Return a positive number to three digits; empty if ADES cannot hold it."""
    if value is None or not 0.001 <= value <= 99999:
        return ""
    return f"{value:.{min(max(2 - math.floor(math.log10(value)), 0), 3)}f}"


def _known(value: Any) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
