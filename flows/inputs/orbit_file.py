"""Orbit files of the Minor Planet Center: MPCORB for asteroids, CometEls.txt for comets."""

import gzip
import logging
import zlib
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.orbits.ephemeris import OrbitCatalogue
from kernels.orbits.motion import Orbits
from schemas.errors import Misconfigured

_LOG = logging.getLogger(__name__)
_LINES = 1 << 16
_WIDTH = 202
_SHORTEST = 103  # characters, up to the semi-major axis
_FIELDS = {
    "magnitude": (8, 13),
    "slope": (14, 19),
    "anomaly": (26, 35),
    "perihelion": (37, 46),
    "node": (48, 57),
    "inclination": (59, 68),
    "eccentricity": (70, 79),
    "axis": (92, 103),
}
"""First column and one past the last, from 0 (https://minorplanetcenter.net/iau/info/MPOrbitFormat.html)."""

_COMET = {
    "day": (22, 29),
    "nearest": (30, 39),
    "eccentricity": (41, 49),
    "perihelion": (51, 59),
    "node": (61, 69),
    "inclination": (71, 79),
    "magnitude": (91, 95),
    "slope": (96, 100),
}
"""The same for comets (https://minorplanetcenter.net/iau/info/CometOrbitFormat.html, the second format)."""

_OPTIONAL = ("magnitude", "slope")
_PACKED, _EPOCH, _U, _NAME = (0, 7), (20, 25), (105, 106), (166, 194)
_COMET_SHORTEST = 79  # characters, up to the inclination
_COMET_YEAR, _COMET_MONTH = (14, 18), (19, 21)
_COMET_EPOCH, _COMET_PACKED, _COMET_NAME = (81, 89), (0, 12), (102, 158)
_LONGEST = 28  # characters of a designation that are kept
_VAGUE = 9.0
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
_ZERO = date(1858, 11, 17).toordinal()
_CENTURIES = {"I": 1800, "J": 1900, "K": 2000}
_RULE = b"-----"  # how the line below a heading begins
_GZIP = b"\x1f\x8b"  # how a file packed by gzip begins
_NAMED = 3  # maximum number of damaged lines that are named
_REMEDY = "give MPCORB.DAT or CometEls.txt of the Minor Planet Center, or lines in their formats."


def read_orbits(path: Path) -> OrbitCatalogue:
    """Read orbits.

    Parameters
    ----------
    path
        Text, optionally compressed by gzip. Lines between the orbits above, if any, and a line of dashes are a heading;
        blank lines are ignored; each other line is an asteroid as in MPCORB, or a comet as in CometEls.txt. Lines with
        a missing or impossible number are left out; a warning names the first ones.

    Returns
    -------
    OrbitCatalogue
        Objects have their readable designation, or if there is none the packed one; comets with long names are given
        without their discoverers.

    Raises
    ------
    Misconfigured
        The file is missing or cannot be read, or no line is an orbit.
    """
    damaged: list[int] = []
    try:
        parts = list(_parts(path, damaged))
    except (OSError, EOFError, zlib.error) as error:
        raise Misconfigured("bad_orbits", str(path), f"cannot be read: {error}.", _REMEDY) from error
    if not sum(len(part.epoch) for part in parts):
        raise Misconfigured("bad_orbits", str(path), f"holds no orbit in {len(damaged)} lines.", _REMEDY)
    if damaged:
        some = ", ".join(map(str, damaged[:_NAMED])) + (", ..." if len(damaged) > _NAMED else "")
        _LOG.warning("%s: %d lines are not orbits and were left out (lines %s).", path, len(damaged), some)
    return OrbitCatalogue(Orbits(*(np.concatenate(column) for column in zip(*parts, strict=True))))


def _parts(path: Path, damaged: list[int]) -> Iterator[Orbits]:
    """Yield orbits, and append to ``damaged`` the numbers of lines that are none, without those of headings."""
    last = 0  # number of the last line that is an orbit
    for first, lines in _blocks(path):
        orbits, good = _parsed(lines)
        yield orbits.take(np.flatnonzero(good))
        others = np.array([n for n in np.flatnonzero(~good).tolist() if lines[n].strip()], np.intp)
        if len(others):
            orbits, comet = _comets([lines[n] for n in others.tolist()])
            yield orbits.take(np.flatnonzero(comet))
            good[others[comet]] = True
        found = np.flatnonzero(good)
        for n in others[~good[others]].tolist():
            if lines[n].startswith(_RULE):
                above = found[: np.searchsorted(found, n)]
                begin = first + int(above[-1]) if len(above) else last
                damaged[:] = [number for number in damaged if number < begin]  # the others are its heading
            else:
                damaged.append(first + n)
        last = first + int(found[-1]) if len(found) else last


def _blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines in blocks, with the number of the first line, from 1."""
    with _opened(path) as file:
        lines: list[bytes] = []
        first = 1
        for number, line in enumerate(file, 1):
            lines.append(line.rstrip(b"\r\n"))
            if len(lines) == _LINES:
                yield first, lines
                first, lines = number + 1, []
        if lines:
            yield first, lines


def _opened(path: Path) -> Any:
    """Open a file, packed by gzip or not, whatever its name says: downloads are unpacked on the way, or renamed."""
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")


def _parsed(lines: list[bytes]) -> tuple[Orbits, NDArray[np.bool_]]:
    """Return a block of lines as orbits, and which lines are valid."""
    columns = _columns(lines)
    numbers = {name: _numbers(_cut(columns, *where)) for name, where in _FIELDS.items()}
    numbers["epoch"] = _epochs(_cut(columns, *_EPOCH))
    good = np.array([len(line) >= _SHORTEST for line in lines])
    good &= np.all([np.isfinite(values) for name, values in numbers.items() if name not in _OPTIONAL], axis=0)
    with np.errstate(invalid="ignore"):
        good &= (numbers["axis"] > 0) & (numbers["eccentricity"] >= 0) & (numbers["eccentricity"] < 1)
        numbers["axis"] = np.where(good, numbers["axis"], 1.0)
    name = np.char.strip(_cut(columns, *_NAME))
    designation = np.where(name == b"", np.char.strip(_cut(columns, *_PACKED)), name)
    good &= (designation != b"") & np.array([one.isascii() for one in designation.tolist()])
    letter = _cut(columns, *_U)  # E or D: the eccentricity is assumed
    vague = np.isnan(_numbers(letter)) & (np.char.strip(letter) != b"")
    uncertainty = np.where(vague, _VAGUE, _numbers(letter))
    orbits = Orbits.elliptic(designation=designation.astype(f"S{_LONGEST}"), uncertainty=uncertainty, **numbers)
    return orbits, good


def _comets(lines: list[bytes]) -> tuple[Orbits, NDArray[np.bool_]]:
    """Return lines as orbits of comets, and which are valid; the default epoch is the time at perihelion."""
    columns = _columns(lines)
    numbers = {name: _numbers(_cut(columns, *where)) for name, where in _COMET.items()}
    years, months, epochs = (_cut(columns, *where).tolist() for where in (_COMET_YEAR, _COMET_MONTH, _COMET_EPOCH))
    dates = zip(years, months, numbers.pop("day").tolist(), strict=True)
    numbers["passage"] = np.array([_mjd(*one) for one in dates])
    dated = np.array([_mjd(one[:4], one[4:6], _number(one[6:])) for one in epochs])
    numbers["epoch"] = np.where([not one.strip() for one in epochs], numbers["passage"], dated)
    good = np.array([len(line) >= _COMET_SHORTEST for line in lines])
    good &= np.all([np.isfinite(values) for name, values in numbers.items() if name not in _OPTIONAL], axis=0)
    with np.errstate(invalid="ignore"):
        good &= (numbers["nearest"] > 0) & (numbers["eccentricity"] >= 0)
    names = [_short(line[slice(*_COMET_NAME)]) or line[slice(*_COMET_PACKED)].replace(b" ", b"") for line in lines]
    good &= np.array([bool(name) and name.isascii() for name in names])
    count = len(lines)
    orbits = Orbits(
        designation=np.array(names, f"S{_LONGEST}"), uncertainty=np.full(count, np.nan),
        comet=np.ones(count, np.bool_), **numbers,
    )  # fmt: skip
    return orbits, good


def _short(name: bytes) -> bytes:
    """Return the name of a comet, without its discoverers if too long."""
    name = b" ".join(name.split())
    return name if len(name) <= _LONGEST else name.partition(b" (")[0][:_LONGEST]


def _columns(lines: list[bytes]) -> NDArray[np.bytes_]:
    """Return the characters of lines, (n, 202)."""
    text = np.array([line.ljust(_WIDTH)[:_WIDTH] for line in lines], f"S{_WIDTH}")
    return text.view("S1").reshape(len(lines), _WIDTH)


def _cut(columns: NDArray[np.bytes_], first: int, end: int) -> NDArray[np.bytes_]:
    return np.asarray(np.ascontiguousarray(columns[:, first:end]).view(f"S{end - first}")[:, 0])


def _numbers(text: NDArray[np.bytes_]) -> NDArray[np.float64]:
    """Return fields as numbers; NaN if not a number."""
    try:
        filled = np.where(np.char.strip(text) == b"", b"nan", text)
        return np.asarray(filled.astype(np.float64))
    except ValueError:
        return np.array([_number(one) for one in text.tolist()])


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _epochs(packed: NDArray[np.bytes_]) -> NDArray[np.float64]:
    """Return packed dates as MJD; most lines share a few."""
    kinds, which = np.unique(packed, return_inverse=True)
    return np.array([_epoch(one) for one in kinds.tolist()])[which]


@lru_cache(4096)
def _epoch(packed: bytes) -> float:
    """Return a packed date, e.g. K24AH for 2024 October 17, as MJD; NaN if it is not one."""
    try:
        text = packed.decode("ascii")
        year, month, day = _CENTURIES[text[0]] + int(text[1:3]), _DIGITS.index(text[3]), _DIGITS.index(text[4])
    except (ValueError, KeyError, IndexError):
        return np.nan
    return _mjd(year, month, day)


def _mjd(year: bytes | int, month: bytes | int, day: float) -> float:
    """Return a date with a fraction of a day as MJD; NaN if it is not one."""
    try:
        first = date(int(year), int(month), int(day))
    except (ValueError, OverflowError):
        return np.nan
    return first.toordinal() - _ZERO + day % 1
