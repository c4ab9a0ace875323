"""Designations of minor planets, as they are read and as the Minor Planet Center packs them."""

import re
import string

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PROVISIONAL = re.compile(r"(\d{4}) ([A-HJ-Y])([A-HJ-Z])(\d*)")
_SURVEY = re.compile(r"(\d{4}) ([PT])-(L|[123])")
_NUMBERED = re.compile(r"\((\d+)\).*|(\d+)")
_CENTURIES = {"18": "I", "19": "J", "20": "K"}
_CYCLES, _NUMBERS = 620, 620_000  # from which on the usual form has no room


def packed_designation(readable: str) -> str | None:
    """Return the packed form of a designation; None where it is none of a minor planet.

    Parameters
    ----------
    readable
        Provisional ("2008 AB"), of a survey ("2040 P-L"), or a number with or without name ("(433) Eros").

    Notes
    -----
    https://www.minorplanetcenter.net/iau/info/PackedDes.html, with the forms for numbers from 620,000 on and for
    half-months of more than 15,500 discoveries.

    >>> packed_designation("2008 AB"), packed_designation("2007 TA418"), packed_designation("(433) Eros")
    ('K08A00B', 'K07Tf8A', '00433')
    """
    text = readable.strip()
    if found := _PROVISIONAL.fullmatch(text):
        year, half, letter, cycle = found.groups()
        if year[:2] not in _CENTURIES:
            return None
        return _provisional(year, half, letter, int(cycle or 0))
    if found := _SURVEY.fullmatch(text):
        return f"{found[2]}{found[3]}S{found[1]}"
    if found := _NUMBERED.fullmatch(text):
        return _number(int(found[1] or found[2]))
    return None


def _provisional(year: str, half: str, letter: str, cycle: int) -> str | None:
    if cycle < _CYCLES:
        return f"{_CENTURIES[year[:2]]}{year[2:]}{half}{_BASE62[cycle // 10]}{cycle % 10}{letter}"
    place = (cycle - _CYCLES) * 25 + "ABCDEFGHJKLMNOPQRSTUVWXYZ".index(letter)
    if not year.startswith("20") or place >= 62**4:
        return None
    return f"_{_BASE62[int(year[2:])]}{half}{_base62(place, 4)}"


def _number(number: int) -> str | None:
    if number < _NUMBERS:
        return f"{_BASE62[number // 10_000]}{number % 10_000:04d}"
    rest = number - _NUMBERS
    return None if rest >= 62**4 else f"~{_base62(rest, 4)}"


def _base62(number: int, digits: int) -> str:
    return "".join(_BASE62[number // 62**place % 62] for place in reversed(range(digits)))
