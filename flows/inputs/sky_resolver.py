"""Known objects of a field from a service with the interface of IMCCE's SkyBoT cone search, in text form."""

import math
import re
from collections.abc import Callable
from http.client import HTTPException
from time import sleep
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import erfa
import numpy as np

from kernels.orbits.ephemeris import Ephemeris, Floats, KnownObjects
from kernels.sky.observatories import GEOCENTRE, PARALLAX, Observer
from kernels.sky.positions import sky_position
from schemas.errors import Misconfigured, Retryable

ATTEMPTS = 4
WAITS_S = (2.0, 10.0, 30.0)
"""Waiting times before further attempts, unless the service asks for another, s."""

LONGEST_WAIT_S = 120.0
"""Maximum waiting time, whatever the service asks for, s."""

MOST_BYTES = 32 << 20
"""Maximum size of an answer; a hundred thousand objects take 25 MB."""

MOST_ERROR_ARCSEC = 120.0
"""Maximum position error of objects that are requested: the largest value that the service accepts."""

_WIDEST = 10.0  # deg: the service reduces wider fields
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_NEEDED = ("Num", "Name", "RA(h)", "DE(deg)", "Mv", "Err(arcsec)", "dRA(arcsec/h)", "dDEC(arcsec/h)", "Dg(ua)",
           "Dh(ua)", "Phase(deg)", "SunElong(deg)")  # fmt: skip
_NUMBERS = _NEEDED[4:]
_FLAG = re.compile(r"#\s*Flag:\s*(-?\d+)")


class SkyResolver:
    """Service that lists the known objects of a field.

    Its answers change over time and are not stored: published results stay as they are until they are made again.

    Parameters
    ----------
    url
        URL of its cone search, for SkyBoT https://ssp.imcce.fr/webservices/skybot/api/conesearch.php (Berthier et al.
        2006).
    timeout_s
        Timeout for an answer, s.
    wait
        Function that waits for a time, s.
    """

    def __init__(self, url: str, timeout_s: float, wait: Callable[[float], object] = sleep) -> None:
        self._url, self._timeout_s, self._wait = url, timeout_s, wait

    def in_field(
        self, observer: Observer, code: str, toward: Floats, radius: float, faintest: float = math.inf
    ) -> KnownObjects:
        """Return the objects in a circular field; parameters as for `kernels.orbits.ephemeris.FieldCatalogue`.

        Raises
        ------
        Retryable
            It failed four times to answer (``resolver_down``), or to do so properly (``resolver_answer``).
        Misconfigured
            It rejected the request (``resolver_refuses``).
        """
        (ra,), (dec,) = sky_position(toward[None])
        asked = {
            "-ep": f"{_julian_utc(observer.mjd):.8f}", "-ra": f"{ra:.8f}", "-dec": f"{dec:.8f}",
            "-rd": f"{min(radius, _WIDEST):.6f}", "-loc": code, "-filter": f"{MOST_ERROR_ARCSEC:g}",
            "-objFilter": "111", "-refsys": "EQJ2000", "-output": "all", "-mime": "text", "-from": "nightstride",
        }  # fmt: skip
        found = self._objects(urlencode(asked), PARALLAX if code == GEOCENTRE else 0.0)
        kept = np.flatnonzero(~(found.seen.magnitude > faintest))
        return KnownObjects([found.names[one] for one in kept], found.seen.take(kept), found.uncertainty[kept])

    def _objects(self, query: str, parallax: float) -> KnownObjects:
        for attempt in range(ATTEMPTS):
            asked_wait, last = None, attempt == ATTEMPTS - 1
            try:
                return _read(self._answer(query), self._url, parallax)
            except HTTPError as error:
                error.close()
                if error.code not in _PASSING:
                    raise Misconfigured(
                        "resolver_refuses", self._url, f"answered {error.code} {error.reason}.",
                        "correct predict_known.resolver, or set predict_known.orbits to a file.",
                    ) from error  # fmt: skip
                asked_wait = _seconds(error.headers.get("Retry-After"))
                trouble = self._down(f"answered {error.code} {error.reason}")
            except (URLError, HTTPException, OSError) as error:
                trouble = self._down(f"does not answer ({getattr(error, 'reason', error)})")
            except Retryable as error:
                trouble = error
            if last:
                raise trouble
            self._wait(WAITS_S[attempt] if asked_wait is None else min(asked_wait, LONGEST_WAIT_S))
        raise AssertionError("unreachable")

    def _answer(self, query: str) -> str:
        request = Request(f"{self._url}?{query}", headers={"Accept": "text/plain", "User-Agent": "nightstride"})
        with urlopen(request, timeout=self._timeout_s) as answer:
            content: bytes = answer.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _damaged(self._url, f"has more than {MOST_BYTES} bytes")
        return content.decode("utf-8", "replace")

    def _down(self, problem: str) -> Retryable:
        remedy = "run again when it is up, or set predict_known.orbits to a file instead."
        return Retryable("resolver_down", self._url, f"{problem}, {ATTEMPTS} times.", remedy)


def _read(text: str, url: str, parallax: float) -> KnownObjects:
    """Parse an answer: lines of a heading, the names of the columns, and one object per line."""
    flag = _FLAG.search(text[:500])
    if flag is None:
        raise _damaged(url, f"begins with {text[:60]!r}, and not with a flag")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if int(flag[1]) == 0:
        return _known([], url, parallax)
    heading = next((line for line in lines if line.startswith("#") and "|" in line), None)
    if int(flag[1]) < 0 or heading is None:
        raise _damaged(url, f"tells of an error: {' '.join(lines)[:200]}")
    names = [name.strip() for name in heading.lstrip("# ").split("|")]
    if missing := [name for name in _NEEDED if name not in names]:
        raise _damaged(url, f"has no column {', '.join(missing)}")
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith("#")]
    if not rows or any(len(row) != len(names) for row in rows) or not text.endswith("\n"):
        raise _damaged(url, "ends early")
    return _known([dict(zip(names, row, strict=True)) for row in rows], url, parallax)


def _known(rows: list[dict[str, str]], url: str, parallax: float) -> KnownObjects:
    try:
        ra = np.array([15 * _sexagesimal(row["RA(h)"]) for row in rows])
        dec = np.array([_sexagesimal(row["DE(deg)"]) for row in rows])
        columns = [np.array([_number(row[name]) for row in rows]) for name in _NUMBERS]
    except ValueError as error:
        raise _damaged(url, f"has a value that is not valid: {error}") from error
    magnitude, uncertainty, east, north, distance, sun, phase, elongation = columns
    needed = (ra, dec, uncertainty, east, north, distance, sun)
    if not all(np.isfinite(column).all() for column in needed) or (distance <= 0).any() or (abs(dec) > 90).any():
        raise _damaged(url, "has an object without a place")
    rate, angle = np.hypot(east, north) * 24 / 3600, np.degrees(np.arctan2(east, north)) % 360
    seen = Ephemeris(ra % 360, dec, rate, angle, magnitude, distance, sun, phase, elongation)
    return KnownObjects([_designation(row) for row in rows], seen, np.asarray(uncertainty + parallax / distance))


def _designation(row: dict[str, str]) -> str:
    """Return a designation in MPCORB's form: number in brackets and name, or a provisional designation."""
    return f"({row['Num']}) {row['Name']}" if row["Num"].isdigit() else row["Name"]


def _sexagesimal(text: str) -> float:
    parts = text.split()
    if len(parts) != 3:
        raise ValueError(repr(text))
    first, minutes, seconds = (abs(float(part)) for part in parts)
    if not (minutes < 60 and seconds < 60):
        raise ValueError(repr(text))
    value = first + minutes / 60 + seconds / 3600
    return -value if text.startswith("-") else value


def _number(text: str) -> float:
    return math.nan if text in ("", "-", "–") else float(text)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None


def _julian_utc(mjd_tt: float) -> float:
    """Return the Julian date, UTC, of a time in TT, MJD."""
    tai = erfa.tttai(2400000.5, mjd_tt)
    return float(sum(erfa.taiutc(*tai)))


def _damaged(url: str, problem: str) -> Retryable:
    remedy = "run again; if that does not help, set predict_known.orbits to a file instead."
    return Retryable("resolver_answer", url, f"gave an answer that {problem}.", remedy)
