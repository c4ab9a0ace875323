"""Rules for reports in ADES: those of its schema, and further ones.

The schema is xsd/submit.xsd of https://github.com/IAU-ADES/ADES-Master, whose rules are implemented here. Further
rules: one observatory in a block (issue 67), no rmsCorr alone (issue 74), an unambiguous trkSub (issue 50), values of
mode, astCat, photCat and band that the Minor Planet Center lists, the place of an observer that moves, and no repeated
observation.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import erfa

from flows.publish.ades_files import KINDS, Document, Element
from kernels.orbits.designations import mistakable
from schemas.ades import ADES_VERSION, BANDS, CATALOGUES, MODES, MOVING


class BrokenRule(NamedTuple):
    """Broken rule with its location."""

    line: int
    text: str


def _fullmatch(pattern: str, text: str) -> re.Match[str] | None:
    """Return the match of a whole text, with ASCII digits only."""
    return re.fullmatch(pattern, text, re.ASCII)


@dataclass(frozen=True)
class _Text:
    """Format of a text: a pattern for the whole text, and the largest number of characters."""

    pattern: str = r"[^|]*[^|\s][^|]*"
    most: int = 300
    said: str = "a text that is not blank, without |"

    def fault(self, text: str) -> str | None:
        if _fullmatch(self.pattern, text) is None or not text.strip():
            return f"must be {self.said}"
        return f"must have {self.most} characters at most" if len(text) > self.most else None


@dataclass(frozen=True)
class _Number:
    """Format of a number: a pattern besides that of a decimal, and its bounds (``open``: bounds are excluded)."""

    pattern: str
    least: float = -1e30
    most: float = 1e30
    open: bool = False

    def fault(self, text: str) -> str | None:
        text = text.strip()
        if _fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", text) is None or _fullmatch(self.pattern, text) is None:
            return f"must be a decimal number of the form {self.pattern}"
        value = float(text)
        inside = self.least < value < self.most if self.open else self.least <= value <= self.most
        return None if inside else f"must lie between {self.least:g} and {self.most:g}"


def _choice(*values: str) -> _Text:
    return _Text("|".join(map(re.escape, values)), said=f"one of {', '.join(values)}")


def _plain(width: int) -> _Number:
    return _Number(rf"(?=[+-]?[\d.]{{1,{width - 1}}}$)[+-]?(0|[1-9]\d*)(\.\d*)?")


def _positive(width: int) -> _Number:
    return _Number(rf"(?=[\d.]{{1,{width}}}$)(0|[1-9]\d*)(\.\d*)?", 0.0, 100000.0, open=True)


class _Time:
    """Format of a time: UTC, ISO 8601 to at most 1e-6 s; 60 s only at the end of June or December."""

    _form = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,6})?Z", re.ASCII)
    _leap = re.compile(r"\d{4}-(06-30|12-31)T23:59:60(\.\d+)?Z")

    def fault(self, text: str) -> str | None:
        found = self._form.fullmatch(text.strip())
        if found is None:
            return "must be UTC, as 2026-11-03T04:05:06.789Z"
        year, month, day, hour, minute, second = map(int, found.groups()[:6])
        try:
            date(year, month, day)
        except ValueError as error:
            return f"is not a date: {error}"
        if self._leap.fullmatch(text.strip()) is not None:
            first = (year, 7) if month == 6 else (year + 1, 1)  # month that begins after it
            later = first > tuple(erfa.leap_seconds.get()[-1])[:2]  # not announced yet
            return None if later or first in _LEAPS else "is a leap second that there was not"
        return None if hour < 24 and minute < 60 and second < 60 else "is not a time of a day"


Form = _Text | _Number | _Time

_LEAPS = {(int(one["year"]), int(one["month"])) for one in erfa.leap_seconds.get()[1:]}

_W25, _W100 = _Text(most=25), _Text(most=100)
_NUMBERED = r"\d+([IPD](-[A-Z]{1,2})?)?|((Mars|Jupiter|Saturn|Uranus|Neptune) \d{1,3}|\(\d+\) \d{1,3})"
_PROVISIONAL = (
    r"\d{4} [A-HJ-Y][A-HJ-Z]\d*|\d{4} (P-L|T-[123])|[ADCPX]/\d{4} [A-Z]{1,2}\d*(-[A-Z])?"
    r"|S/\d{4} ((M|J|S|U|N)|\((\d+|\d{4} [A-HJ-Y][A-HJ-Z]?\d+)\)) \d+"
)
_PLANETS = "Mercury|Venus|Earth|Moon|Mars|Jupiter|Saturn|Uranus|Neptune"
_CODE = _Text(r"[A-Za-z0-9_]{3,4}", said="a code of 3 or 4 letters and digits")
_ANGLE = _Number(r"([1-3]\d\d|[1-9]?\d)?(\.\d{0,9})?", 0.0, 359.9999999999)
_DECLINATION = _Number(r"[+-]?([1-9]?\d)?(\.\d{0,9})?", -90.0, 90.0)
_CATALOGUE = _Text(r"[.A-Za-z0-9_]+", 8, "a name of letters and digits")
_BAND = _Text(r"[A-Za-z0-9_]+", 3, "a code of letters and digits")
_BIT = _choice("0", "1")
_DOUBLE = _Text(r"(?=[+-]?[+\-Ee\d.]{1,20}$)[+-]?(\d+(\.\d*)?|\.\d+)([Ee][+-]?\d+)?", 21, "a number")

FORMS: dict[str, Form] = {
    "permID": _Text(_NUMBERED, 25, "a number of a body, as 433 or 1P"),
    "provID": _Text(_PROVISIONAL, 25, "a provisional designation, as 2014 AA or C/1995 O1"),
    "artSat": _W25,
    "trkSub": _Text(r"[-A-Za-z0-9_]+", 8, "letters, digits, - and _"),
    "obsSubID": _W25,
    "mode": _Text(r"[A-Za-z0-9_]+", 3, "a code of letters and digits"),
    **dict.fromkeys(("stn", "trx", "rcv"), _CODE),
    "sys": _choice("WGS84", "ITRF", "IAU", "ICRF_AU", "ICRF_KM"),
    "ctr": _choice("399"),
    **dict.fromkeys(("pos1", "pos2", "pos3", "vel1", "vel2", "vel3", "doppler"), _plain(14)),
    **{f"posCov{pair}": _DOUBLE for pair in ("11", "12", "13", "22", "23", "33")},
    "obsTime": _Time(),
    **dict.fromkeys(("rmsTime", "uncTime"), _positive(8)),
    **dict.fromkeys(("ra", "raStar", "pa"), _ANGLE),
    **dict.fromkeys(("dec", "decStar"), _DECLINATION),
    "obsCenter": _Text(f"{_NUMBERED}|{_PROVISIONAL}|{_PLANETS}", 25, "a planet or a designation"),
    **dict.fromkeys(("deltaRA", "deltaDec"), _plain(10)),
    "dist": _positive(10),
    **dict.fromkeys(("rmsRA", "rmsDec"), _positive(7)),
    **dict.fromkeys(("rmsDist", "rmsPA", "rmsMag", "photAp", "seeing", "exp", "rmsFit"), _positive(6)),
    **dict.fromkeys(("rmsDelay", "rmsDoppler"), _positive(6)),
    "rmsCorr": _Number(r"[+-]?(0|1)(\.\d{0,11})?", -1.0, 1.0, open=True),
    "delay": _positive(14),
    **dict.fromkeys(("astCat", "photCat"), _CATALOGUE),
    "mag": _Number(_plain(8).pattern, -5.0, 35.0),
    **dict.fromkeys(("band", "fltr"), _BAND),
    "logSNR": _plain(6),
    **dict.fromkeys(("shapeOcc", "com"), _BIT),
    "nStars": _Number(r"\+?\d+", 1, 999_999),
    "frq": _Number(r"[\d.]{1,16}", 0.0, open=True),
    "disc": _choice("*", "+"),
    "notes": _Text(r"[A-Za-z0-9_]+", 6, "letters and digits, one for each note"),
    "remarks": _Text(most=300),
}
"""Element of an observation -> its format."""

_KNOWN = "(permID (provID )?|provID |artSat )"
_NAMED = f"({_KNOWN}(trkSub )?|trkSub )(obsSubID )?"
_COVARIANCE = "".join(f"({name} )?" for name in ("vel1", "vel2", "vel3", *(n for n in FORMS if n.startswith("posCov"))))
_WHERE = f"mode stn (sys ctr pos1 pos2 pos3 {_COVARIANCE})?obsTime (rmsTime )?"
_OFFSET = "(deltaRA deltaDec (rmsRA )?(rmsDec )?(rmsCorr )?|dist pa (rmsDist )?(rmsPA )?(rmsCorr )?)"
_LIGHT = "(mag (rmsMag )?band (fltr )?(photCat )?(photAp )?)?(logSNR )?"
_FIT = "(seeing )?(exp )?(rmsFit )?(nStars )?"
_END = "(disc )?(uncTime )?(notes )?(remarks )?"
_OPTICAL_OCCULTED = f"{_NAMED}{_WHERE}raStar decStar {_OFFSET}astCat {_LIGHT}(shapeOcc )?(seeing )?{_END}"

SEQUENCES = {
    "optical": f"{_NAMED}{_WHERE}ra dec (rmsRA )?(rmsDec )?(rmsCorr )?astCat {_LIGHT}{_FIT}{_END}",
    "offset": f"{_NAMED}{_WHERE}obsCenter {_OFFSET}{_LIGHT}{_FIT}{_END}",
    "occultation": _OPTICAL_OCCULTED,
    "radar": f"{_KNOWN}(trkSub )?trx rcv obsTime (doppler rmsDoppler |delay rmsDelay )(logSNR )?(com )?frq (remarks )?",
}
"""Kind of observation -> its possible elements in order, as a pattern of names."""

_TELESCOPE: dict[str, Form] = {
    "name": _W100,
    **dict.fromkeys(("design", "detector", "filter", "arraySize"), _W25),
    **dict.fromkeys(("aperture", "fRatio", "pixelScale"), _positive(6)),
}
_PEOPLE = ("observers", "measurers", "coinvestigators", "collaborators")

_PARTS: dict[str, tuple[tuple[str, ...], dict[str, Form]]] = {
    "observatory": (("mpcCode",), {"mpcCode": _CODE, "name": _W100}),
    "submitter": (("name",), {"name": _W100, "institution": _W100}),
    **{group: (("name",), {"name": _W100}) for group in _PEOPLE},
    "telescope": (("design", "aperture", "detector"), _TELESCOPE),
    "software": (
        (),
        {"astrometry": _W100, "photometry": _W100, "objectDetection": _W100, "fitOrder": _W25},
    ),
    "comment": (("line",), {"line": _W100}),
}
"""Element of the header -> its required elements, and the formats of all."""

_MANY = {*_PEOPLE, "comment"}
_NEEDED = ("observatory", "submitter", "measurers", "telescope")

_LISTED = {"mode": MODES, "astCat": CATALOGUES, "photCat": CATALOGUES, "band": tuple(BANDS)}


def problems_of(document: Document) -> list[BrokenRule]:
    """Return the broken rules of a report, by line."""
    found: list[BrokenRule] = []
    if document.version.text != ADES_VERSION:
        found.append(BrokenRule(document.version.line, f"version is {document.version.text!r}, must be {ADES_VERSION}"))
    if not document.blocks:
        found.append(BrokenRule(document.version.line, "there is no obsBlock"))
    for block in document.blocks:
        found += _of_block(block, document.ordered)
    return sorted(set(found))


def _of_block(block: Element, ordered: bool) -> Iterator[BrokenRule]:
    if block.name != "obsBlock" or [one.name for one in block.parts] != ["obsContext", "obsData"]:
        yield BrokenRule(
            block.line, f"{block.name} must be an obsBlock of obsContext and obsData: a header, observations"
        )
        return
    context, data = block.parts
    yield from _of_context(context)
    kinds = {one.name for one in data.parts}
    if len(kinds) != 1 or kinds - set(KINDS):
        yield BrokenRule(
            data.line, f"must have observations, all of one kind of {', '.join(KINDS)}; has {sorted(kinds)}"
        )
    for one in data.parts:
        if one.name in KINDS:
            yield from _of_observation(one, ordered)
    yield from _of_stations(context, data.parts)
    yield from _of_tracklets(data.parts)


def _of_context(context: Element) -> Iterator[BrokenRule]:
    names = [one.name for one in context.parts]
    for name in _NEEDED:
        if name not in names:
            yield BrokenRule(context.line, f"the header has no {name}")
    for one in context.parts:
        if names.count(one.name) > 1:
            yield BrokenRule(one.line, f"{one.name} is there more than once")
        if one.name == "fundingSource":
            yield from _of_form(one, _W100)
        elif one.name in _PARTS:
            yield from _of_part(one)
        else:
            yield BrokenRule(one.line, f"{one.name!r} is not an element of the header")


def _of_part(part: Element) -> Iterator[BrokenRule]:
    needed, forms = _PARTS[part.name]
    names = [one.name for one in part.parts]
    if part.text.strip():
        yield BrokenRule(part.line, f"{part.name} must have elements, not a text")
    for name in needed:
        if name not in names:
            yield BrokenRule(part.line, f"{part.name} has no {name}")
    for one in part.parts:
        if one.name not in forms:
            yield BrokenRule(one.line, f"{one.name!r} is not an element of {part.name}")
            continue
        if names.count(one.name) > 1 and part.name not in _MANY:
            yield BrokenRule(one.line, f"{one.name} is there more than once in {part.name}")
        yield from _of_form(one, forms[one.name])


def _of_form(one: Element, form: Form) -> Iterator[BrokenRule]:
    if one.parts:
        yield BrokenRule(one.line, f"{one.name} must be a text")
    elif fault := form.fault(one.text):
        yield BrokenRule(one.line, f"{one.name} is {one.text!r}, {fault}")


def _of_observation(one: Element, ordered: bool) -> Iterator[BrokenRule]:
    names = [part.name for part in one.parts]
    for part in one.parts:
        if part.name not in re.findall(r"\w+", SEQUENCES[one.name]):
            yield BrokenRule(part.line, f"{part.name!r} is not an element of {one.name}")
        else:
            yield from _of_form(part, FORMS[part.name])
            if part.text.strip() not in (listed := _LISTED.get(part.name, (part.text.strip(),))):
                yield BrokenRule(part.line, f"{part.name} is {part.text!r}, which is not listed: {', '.join(listed)}")
    said = [*_missing(one.name, names), *_broken_groups(names)]
    order = re.findall(r"\w+", SEQUENCES[one.name])
    there = names if ordered else sorted(names, key=lambda name: order.index(name) if name in order else 0)
    if not said and set(order).issuperset(names):
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            said.append(f"{repeated[0]} is there more than once")
        elif re.fullmatch(SEQUENCES[one.name], "".join(f"{name} " for name in there)) is None:
            said.append(f"elements do not go together, or not in this order: {', '.join(names)}")
    if "sys" not in names and (moving := set(one.texts("stn")).intersection(MOVING)):
        said.append(f"stn {min(moving)} has no fixed place: sys, ctr, pos1, pos2 and pos3 must tell where it was")
    yield from (BrokenRule(one.line, text) for text in said)


def _missing(kind: str, names: Sequence[str]) -> Iterator[str]:
    if not {"permID", "provID", "artSat", *(() if kind == "radar" else ("trkSub",))} & set(names):
        yield "no permID, provID, artSat or trkSub says which object it is"
    always = {
        "optical": ("mode", "stn", "obsTime", "ra", "dec", "astCat"),
        "offset": ("mode", "stn", "obsTime", "obsCenter"),
        "occultation": ("mode", "stn", "obsTime", "raStar", "decStar", "astCat"),
        "radar": ("trx", "rcv", "obsTime", "frq"),
    }
    yield from (f"there is no {name}" for name in always[kind] if name not in names)


def _broken_groups(names: Sequence[str]) -> Iterator[str]:
    if "mag" in names and "band" not in names:
        yield "mag needs a band"
    if "mag" not in names and (alone := {"rmsMag", "band", "fltr", "photCat", "photAp"} & set(names)):
        yield f"{', '.join(sorted(alone))} without mag"
    pairs = (("rmsRA", "rmsDec"), ("rmsDist", "rmsPA"))
    for pair in pairs:
        if len(set(pair) & set(names)) == 1:
            yield f"{pair[0]} and {pair[1]} go together"
    if "rmsCorr" in names and not any(set(pair).issubset(names) for pair in pairs):
        yield "rmsCorr without the errors that it is the correlation of"


def _of_stations(context: Element, observations: Sequence[Element]) -> Iterator[BrokenRule]:
    code = next(iter((context.find("observatory") or Element("", 0)).texts("mpcCode")), None)
    for one in observations:
        for station in one.texts("stn"):
            if code is not None and station != code:
                yield BrokenRule(
                    one.line, f"stn is {station!r} in a block of observatory {code!r}: one block, one station"
                )


def _of_tracklets(observations: Sequence[Element]) -> Iterator[BrokenRule]:
    """Yield the problems of tracklet names, and repeated observations."""
    first: dict[tuple[str, ...], int] = {}
    known: dict[str, tuple[str, ...]] = {}
    text: Callable[[Element, str], str] = lambda one, name: next(iter(one.texts(name)), "")  # noqa: E731
    for one in observations:
        name = text(one, "trkSub")
        if name and (why := mistakable(name)) is not None:
            yield BrokenRule(one.line, f"trkSub {name!r} {why}")
        designation = text(one, "permID"), text(one, "provID"), text(one, "artSat")
        if name and known.setdefault(name, designation) != designation:
            yield BrokenRule(one.line, f"trkSub {name!r} stands for two objects")
        key = name, *designation, text(one, "stn"), text(one, "obsTime"), *_placed(one)
        if key in first:  # on the same line, in XML without breaks
            yield BrokenRule(one.line, f"the observation of line {first[key]} again")
        first.setdefault(key, one.line)


def _placed(one: Element) -> tuple[str, ...]:
    return tuple(
        part.text.strip() for part in one.parts if part.name in ("ra", "dec", "trx", "rcv", "delay", "doppler")
    )
