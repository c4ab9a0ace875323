"""Numbers, times, positions and flags in readable form."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from astropy.time import Time

from flows.runtime.words import counted
from schemas.dia_source import DetectionFlag
from schemas.exposure import ExposureInfo

NOTHING = "–"
"""Shown for an unknown value."""

FLAG_WORDS = {
    DetectionFlag.EDGE: "at the edge",
    DetectionFlag.SATURATED: "saturated",
    DetectionFlag.MASKED: "masked pixels",
    DetectionFlag.DIPOLE: "dipole",
    DetectionFlag.NEAR_BRIGHT_STAR: "near bright star",
    DetectionFlag.FIT_FAILED: "fit failed",
    DetectionFlag.NO_WCS: "no WCS",
    DetectionFlag.NO_ZERO_POINT: "no zero point",
    DetectionFlag.CROSSES_DETECTOR: "crosses the detector",
    DetectionFlag.SPIKE: "diffraction spike",
    DetectionFlag.BLEED: "bleed column",
    DetectionFlag.COSMIC_RAY: "cosmic ray",
    DetectionFlag.HOT_COLUMN: "hot column",
    DetectionFlag.GHOST: "ghost",
    DetectionFlag.SATELLITE: "satellite",
    DetectionFlag.ASSUMED_PSF: "PSF assumed",
    DetectionFlag.ASSUMED_TIME: "time assumed",
    DetectionFlag.ASSUMED_GAIN: "gain assumed",
    DetectionFlag.ASSUMED_SITE: "site assumed",
    DetectionFlag.NO_TIME: "no time",
    DetectionFlag.UNKNOWN_UNIT: "unit not known",
    DetectionFlag.PSF_DIFFERS: "PSF of header and stars differ",
    DetectionFlag.HIGH_BACKGROUND: "background far from 0",
}

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

GRADES = (("a", 0.9, "0.9 and more"), ("b", 0.7, "0.7 to 0.9"), ("c", 0.5, "0.5 to 0.7"), ("d", 0.0, "below 0.5"))
"""Classes of reliability: letter, minimum reliability, words."""

_WORDS: dict[int, str] = {flag.value: words for flag, words in FLAG_WORDS.items()}


def flag_words(flags: int) -> tuple[str, ...]:
    """Return words for the bits set in ``flags``; a bit without a name becomes ``bit <value>``."""
    bits = [1 << place for place in range(flags.bit_length()) if flags >> place & 1]
    return tuple(_WORDS.get(bit, f"bit {bit}") for bit in bits)


def grade(reliability: float) -> str:
    """Return the letter of the class of `GRADES` that ``reliability`` (0 to 1) falls into."""
    return next((letter for letter, least, _ in GRADES if reliability >= least), GRADES[-1][0])


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Return ``value`` with ``digits`` decimals and its unit, a dash if it is null or not finite."""
    if value is None or not abs(value) < float("inf"):
        return NOTHING
    return f"{value:.{digits}f}{unit}".replace("-", "−")


def probability(value: float | None, digits: int = 2) -> str:
    """Return a probability with ``digits`` decimals, or as above 0.99 or below 0.01: none is shown as certain.

    >>> probability(0.9961), probability(0.994), probability(0.004), probability(0.9997, 3)
    ('> 0.99', '0.99', '< 0.01', '> 0.999')
    """
    told, least = number(value, digits), 10.0**-digits
    certain = {number(1.0, digits): f"> {1 - least:.{digits}f}", number(0.0, digits): f"< {least:.{digits}f}"}
    return certain.get(told, told)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def expected(chance: float) -> str:
    """Return a small expected number to one significant digit, below 0.001 by a power of ten.

    >>> expected(2.3e-6), expected(0.0123), expected(1.4)
    ('2×10⁻⁶', '0.01', '1')
    """
    if not 0 < chance < 1e-3:
        return f"{chance:.1g}"
    digit, power = f"{chance:.0e}".split("e")
    return f"{digit}×10{str(int(power)).translate(_RAISED)}"


def measured(value: float | None, error: float | None, digits: int | None = 1, unit: str = "") -> str:
    """Return ``value`` ± ``error`` with the digits justified by the error: two of it if it begins with 1 or 2.

    Without an error, as `number` with ``digits`` decimals; None: with five significant digits.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if error is None or not 0 < error < math.inf:
        return f"{value:.5g}{unit}".replace("-", "−") if digits is None else number(value, digits, unit)
    power = math.floor(math.log10(error))
    places = min(max((1 if error * 10.0**-power < 3 else 0) - power, 0), 9)
    return f"{value:.{places}f} ± {error:.{places}f}{unit}".replace("-", "−")


def place_error(row: Mapping[str, Any]) -> str:
    """Return the standard errors ``raErr`` and ``decErr`` (deg) in arcsec, to two digits; "" if one is not known."""
    errors = [3600 * (row[name] or math.nan) for name in ("raErr", "decErr")]
    if not all(0 < error < math.inf for error in errors):
        return ""
    told = [f"± {error:.{max(0, 1 - math.floor(math.log10(error)))}f}″" for error in errors]
    return f"{told[0]} in RA, {told[1]} in Dec"


def sexagesimal(ra: float, dec: float) -> tuple[str, str]:
    """Return right ascension and declination (deg) as ``hh mm ss.ss`` and ``±dd mm ss.s``, in plain characters."""
    hundredths = round(ra / 15 * 360_000) % 8_640_000
    minutes, rest = divmod(hundredths, 6000)
    tenths = round(abs(dec) * 36_000)
    arcmin, left = divmod(tenths, 600)
    sign = "-" if dec < 0 else "+"
    return (
        f"{minutes // 60:02d} {minutes % 60:02d} {rest / 100:05.2f}",
        f"{sign}{arcmin // 60:02d} {arcmin % 60:02d} {left / 10:04.1f}",
    )


def count(value: int, noun: str = "") -> str:
    """Return ``value`` with thousands separated, and its noun, if given, in singular or plural."""
    return counted(value, noun) if noun else f"{value:,}"


def file_name(uri: str) -> str:
    """Return the last part of a path or URL, or all of it if there is none."""
    return PurePosixPath(uri).name or uri


def duration(seconds: float) -> str:
    """Return a duration: 4.2 s, 48 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def night_words(night: str) -> str:
    """Return ``20261103`` as ``3 November 2026``; the label itself if it is not a date."""
    try:
        day = datetime.strptime(night, "%Y%m%d").date()
    except ValueError:
        return night
    return day_words(day)


def day_words(day: date) -> str:
    """Return a date in words, whatever the locale."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


@lru_cache(maxsize=8192)
def utc(mjd_tai: float) -> str:
    """Return ``YYYY-MM-DD hh:mm:ss`` UTC of a time in MJD TAI, to the nearest second."""
    moment = Time(round(mjd_tai * 86400) / 86400, format="mjd", scale="tai").utc
    return str(moment.strftime("%Y-%m-%d %H:%M:%S"))


def seen(row: Mapping[str, Any]) -> str:
    """Return the time of a detection, ``midpointMjdTai``, as `utc`; a dash if not known."""
    return NOTHING if row["flags"] & DetectionFlag.NO_TIME else utc(row["midpointMjdTai"])


def exposed(info: ExposureInfo) -> str:
    """Return the middle of an exposure, UTC, or that it is not known."""
    return "time not known" if "no_time" in info.flags else f"{utc(info.midpoint_mjd_tai)} UTC"


_FOLLOWS = re.compile(r"no \w+: stage (?P<stage>\w+) did not run")


def idle_words(not_run: Mapping[str, str]) -> tuple[str, ...]:
    """Return why stages had no work: each reason once, without those of stages that only lack another's output.

    Parameters
    ----------
    not_run
        Stage -> reason, as in `schemas.summary.RunSummary`.
    """
    stages = dict[str, list[str]]()
    for stage, reason in not_run.items():
        lacking = [_FOLLOWS.fullmatch(part) for part in reason.split("; ")]
        if not all(part is not None and part["stage"] in not_run for part in lacking):
            stages.setdefault(reason, []).append(stage)
    return tuple(f"{', '.join(names)}: {reason}" for reason, names in stages.items())


@dataclass(frozen=True)
class Figure:
    """Key figure."""

    name: str
    value: str
    note: str = ""


class Told(NamedTuple):
    """Value in words and, if it depends on an assumption, that assumption, which the page indicates."""

    name: str
    value: str
    assumed: str = ""


def links(ra: float, dec: float, mjd_tai: float | None, designation: str = "") -> tuple[tuple[str, str], ...]:
    """Return name and address of pages about a position (deg) at a time, from services often used by astronomers.

    Without a time, pages about moving objects are left out, except that of a ``designation``.
    """
    place = f"{ra:.6f} {dec:+.6f}"
    simbad = {"Coord": place, "CooFrame": "ICRS", "Radius": 10, "Radius.unit": "arcsec"}
    moving = () if mjd_tai is None else _moving_links(ra, dec, mjd_tai)
    if designation:
        name = designation.strip("()").split(")")[0] if designation.startswith("(") else designation
        mpc = f"https://www.minorplanetcenter.net/db_search/show_object?object_id={quote(name)}"
        moving = (("MPC", mpc), *moving[1:])
    return (
        *moving,
        ("SIMBAD", f"https://simbad.cds.unistra.fr/simbad/sim-coo?{urlencode(simbad)}"),
        ("Aladin", f"https://aladin.cds.unistra.fr/AladinLite/?{urlencode({'target': place, 'fov': 0.05})}"),
    )


def _moving_links(ra: float, dec: float, mjd_tai: float) -> tuple[tuple[str, str], ...]:
    told = utc(mjd_tai)
    hours, minutes, seconds = (int(part) for part in told[11:].split(":"))
    # The last minute of a month must not become the next day, which does not exist.
    day = int(told[8:10]) + min((hours + (minutes + seconds / 60) / 60) / 24, 0.999)
    right, north = sexagesimal(ra, dec)
    around = {"radius": 15, "limit": "24.0", "oc": 500, "sort": "d", "mot": "h"}
    checker = {"year": told[:4], "month": told[5:7], "day": f"{day:.3f}", "which": "pos", "ra": right, "decl": north}
    skybot = {
        "-ep": told.replace(" ", "T"),
        "-ra": f"{ra:.6f}",
        "-dec": f"{dec:.6f}",
        "-rd": 0.1,
        "-mime": "html",
        "-loc": 500,
    }
    return (
        ("MPC", f"https://www.minorplanetcenter.net/cgi-bin/mpcheck.cgi?{urlencode(checker | around)}"),
        ("SkyBoT", f"https://ssp.imcce.fr/webservices/skybot/api/conesearch.php?{urlencode(skybot)}"),
    )
