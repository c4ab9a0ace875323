"""Designations of small bodies: as they are read, and packed as in the Minor Planet Center's 80 columns."""

import re
from typing import NamedTuple

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ORDER = "ABCDEFGHJKLMNOPQRSTUVWXYZ"  # of discovery within half a month: no I
_CYCLES = 620  # number that two characters hold: 00 to z9
_LARGEST = 620_000  # first number that is packed in base 62
_YEARS = {"I": 18, "J": 19, "K": 20}

_COMET = re.compile(r"([1-9]\d*)([PDI])(?:/.*)?")
_PROVISIONAL = re.compile(r"(\d{4}) ([A-HJ-Y])([A-HJ-Z])(\d*)")
_SURVEY = re.compile(r"(\d{4}) (P-L|T-[123])")
_COMETARY = re.compile(r"([ACDPX])/(\d{4} [A-Z]{1,2}\d*)(?: \(.*)?")
_OF_COMET = re.compile(r"\d*[CDIPX](-[A-Z]{1,2})?/|\d+[DIP](-[A-Z]{1,2})?$")
_PACKED_NUMBER = re.compile(r"[0-9A-Za-z]\d{4}|~[0-9A-Za-z]{4}")
_PACKED = re.compile(r"([IJK])(\d\d)([A-HJ-Y])([0-9A-Za-z])(\d)([A-HJ-Z])")
_PACKED_SURVEY = re.compile(r"(PL|T1|T2|T3)S(\d{4})")
_EXTENDED = re.compile(r"_([0-9A-Za-z])([A-HJ-Y])([0-9A-Za-z]{4})")


class Designation(NamedTuple):
    """Designation as ADES has it: the permanent one, or else the provisional one; the other is empty."""

    permanent: str = ""
    provisional: str = ""


def read_designation(text: str) -> Designation | None:
    """Return the designation in a name of an object; None if there is none that is known here.

    Parameters
    ----------
    text
        As files of orbits have it: readable or packed, of an asteroid; or the number of a comet, as 1P, or its
        designation, as C/1995 O1. A number goes before what follows it.

    >>> read_designation("(433) Eros"), read_designation("K07Tf8A")
    (Designation(permanent='433', provisional=''), Designation(permanent='', provisional='2007 TA418'))
    """
    text = " ".join(text.split())
    for found in (_readable(text), _unpacked(text)):
        if found is not None:
            return found
    return None


def _readable(text: str) -> Designation | None:
    if _PROVISIONAL.fullmatch(text) or _SURVEY.fullmatch(text):
        return Designation(provisional=text)
    if found := _COMET.fullmatch(text):
        return Designation(permanent=found[1] + found[2])
    if found := _COMETARY.fullmatch(text):
        return Designation(provisional=f"{found[1]}/{found[2]}")
    if text.startswith("(") and (found := re.fullmatch(r"\((\d+)\)(?: .*)?", text)):
        return Designation(permanent=str(int(found[1]))) if int(found[1]) else None
    # A number; before a name, but not of four digits, which would be a year. Five digits are the same packed.
    if re.fullmatch(r"[1-9]\d*|(?!\d{4} )[1-9]\d* [A-Z].*", text):
        return Designation(permanent=text.split()[0])
    return None


def _unpacked(text: str) -> Designation | None:
    if _PACKED_NUMBER.fullmatch(text):
        number = _LARGEST + _number(text[1:]) if text[0] == "~" else 10_000 * _number(text[0]) + int(text[1:])
        return Designation(permanent=str(number)) if number else None
    if found := _PACKED.fullmatch(text):
        century, year, half, tens, ones, order = found.groups()
        cycle = 10 * _number(tens) + int(ones)
        return Designation(provisional=f"{_YEARS[century]}{year} {half}{order}{cycle or ''}")
    if found := _PACKED_SURVEY.fullmatch(text):
        return Designation(provisional=f"{found[2]} {found[1][0]}-{found[1][1]}")
    if found := _EXTENDED.fullmatch(text):
        cycle, order = divmod(_number(found[3]), len(_ORDER))
        return Designation(provisional=f"{2000 + _number(found[1])} {found[2]}{_ORDER[order]}{_CYCLES + cycle}")
    return None


def is_comet(name: str) -> bool:
    """Return whether a name, readable, is a comet's.

    >>> is_comet("1P/Halley"), is_comet("C/1995 O1 (Hale-Bopp)"), is_comet("(1) Ceres"), is_comet("A/2019 G4")
    (True, True, False, False)
    """
    return _OF_COMET.match(name) is not None


def packed(one: Designation) -> str:
    """Return a designation packed to 12 characters, columns 1 to 12 of a line of 80.

    https://minorplanetcenter.net/iau/info/PackedDes.html; numbers from 620000 on and provisional designations from the
    620th cycle on are in base 62 (https://docs.minorplanetcenter.net/mpc-ops-docs/designations/packed-designations).

    Raises
    ------
    ValueError
        It cannot be packed: of a comet, before 1800 or after 2099, or too large.

    >>> packed(Designation(permanent="3202")), packed(Designation(provisional="2007 TA418"))
    ('03202       ', '     K07Tf8A')
    """
    if one.permanent:
        return f"{packed_number(one.permanent):<12}"
    return f"{packed_provisional(one.provisional):>12}"


def packed_designation(name: str) -> str | None:
    """Return the packed form of the designation in a name, as `read_designation` finds it; None if there is none.

    >>> packed_designation("2008 AB"), packed_designation("(433) Eros"), packed_designation("C/1995 O1")
    ('K08A00B', '00433', None)
    """
    one = read_designation(name)
    if one is None:
        return None
    try:
        return packed_number(one.permanent) if one.permanent else packed_provisional(one.provisional)
    except ValueError:
        return None


def packed_number(permanent: str) -> str:
    """Return the number of an asteroid, or of a comet, in 5 characters; errors as in `packed`."""
    if found := _COMET.fullmatch(permanent):
        if int(found[1]) <= 9999:
            return f"{int(found[1]):04d}{found[2]}"
    elif re.fullmatch(r"[1-9]\d*", permanent):
        number = int(permanent)
        if number < _LARGEST:
            return f"{_DIGITS[number // 10_000]}{number % 10_000:04d}"
        if number < _LARGEST + 62**4:
            return f"~{_base62(number - _LARGEST, 4)}"
    raise ValueError(f"{permanent!r} is not a number that can be packed")


def packed_provisional(provisional: str) -> str:
    """Return the provisional designation of an asteroid in 7 characters; errors as in `packed`."""
    if found := _SURVEY.fullmatch(provisional):
        return f"{found[2].replace('-', '')}S{found[1]}"
    if found := _PROVISIONAL.fullmatch(provisional):
        year, half, order, cycle = int(found[1]), found[2], found[3], int(found[4] or 0)
        century = next((letter for letter, first in _YEARS.items() if first == year // 100), "")
        if century and cycle < _CYCLES:
            return f"{century}{year % 100:02d}{half}{_DIGITS[cycle // 10]}{cycle % 10}{order}"
        rank = (cycle - _CYCLES) * len(_ORDER) + _ORDER.index(order)
        if 2000 <= year < 2062 and rank < 62**4:  # with fewer cycles it was packed above
            return f"_{_DIGITS[year - 2000]}{half}{_base62(rank, 4)}"
    raise ValueError(f"{provisional!r} is not a designation of an asteroid that can be packed")


def _number(text: str) -> int:
    value = 0
    for one in text:
        value = 62 * value + _DIGITS.index(one)
    return value


def _base62(value: int, width: int) -> str:
    text = ""
    for _ in range(width):
        value, digit = divmod(value, 62)
        text = _DIGITS[digit] + text
    return text


def tracklet_name(seed: int) -> str:
    """Return a name for a tracklet that is not one of the packed forms: N and six characters, of a number below 62^6.

    >>> tracklet_name(63)
    'N000011'
    """
    return f"N{_base62(seed, 6)}"


def mistakable(name: str) -> str | None:
    """Return why the name of a tracklet could be mistaken for a designation; None if it could not.

    It is a packed form of an asteroid, a comet or a satellite; or it has seven characters and begins with I, J, K, P or
    T, which converters to 80 columns take for one (IAU-ADES/ADES-Master issue 50).
    """
    if _unpacked(name) is not None or re.fullmatch(r"[JSUN]\d{3}S|\d{4}[PDI]|[IJK]\d\d[A-Z][0-9A-Za-z]\d[0a-z]", name):
        return "is the packed form of a designation"
    if len(name) == 7 and name[0] in "IJKPT":
        return "has seven characters and begins with one of I, J, K, P and T, as packed designations do"
    return None
