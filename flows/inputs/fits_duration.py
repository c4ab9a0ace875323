"""Exposure time according to a header, in the unit named in its comment."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from astropy import units

from flows.inputs.comment_words import head_unit
from flows.inputs.fits_header import AMBIGUOUS_TIME, HeaderOrigin, Keywords, as_number, unmapped
from schemas.errors import BadInput
from schemas.keyword_mapping import DurationFromHeader, KeywordMapping

_LONGEST_S = 1e7
"""Maximum exposure time, s: that of a stack may be the sum over all its images."""

_USUAL_S = 7200.0
"""Longest exposure time that is not doubted, s."""

_SAME_S = 1.0
"""Largest difference between two headers that is not doubted, s."""

_NAMES: Mapping[str, str] = {
    "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "ms": "ms", "msec": "ms", "millisec": "ms",
    "millisecond": "ms", "milliseconds": "ms", "us": "us", "microsec": "us", "microsecond": "us", "microseconds": "us",
    "min": "min", "mins": "min", "minute": "min", "minutes": "min", "h": "h", "hr": "h", "hrs": "h", "hour": "h",
    "hours": "h", "d": "d", "day": "d", "days": "d",
}  # fmt: skip
_OTHERS = ("EXPOSURE", "XPOSURE", "TELAPSE")
"""Keywords beside EXPTIME of the duration of an exposure; TELAPSE counts pauses, too (FITS 4.0, table 34)."""

_COADDS = ("COADDS", "NCOADDS", "NCOADD")
"""Keywords of the number of parts that the camera added up."""

_SHORT = frozenset({"s", "ms", "us", "min", "h", "d"})
_PART = re.compile(
    r"(\bper|/|\beach|\bof (one|a single)|\bsingle|\bindividual) ?(co-?add|sub-?(exp|int|frame)|frame|read|ramp)",
    re.IGNORECASE,
)
"""Comment that says that the time is of one of several parts of the exposure."""

_WHOLE = re.compile(r"\b(all|sum(med)?|total|whole)\b", re.IGNORECASE)
"""Comment that says that it is of all of them."""

_WORD = re.compile(r"(?P<before>\bin |\()?\b(?P<name>[a-z]+)\b")


def exposure_time_of(words: Keywords, mapping: KeywordMapping) -> tuple[float, HeaderOrigin]:
    """Return the exposure time, s.

    Its unit is that of the settings, else that in brackets at the start of the comment, else that named in the
    comment's words, with a flag, else s. Also flagged are times of one part of the exposure, according to the
    comment or a number of coadds, of 0 s, and those that differ by more than a second from the primary header's or,
    unless the settings name another keyword than EXPTIME, from other keywords of the duration.

    Raises
    ------
    BadInput
        ``missing_keyword``; ``invalid_keyword``: the value is no such number, or its unit not one of time.
    Misconfigured
        The settings name neither a keyword nor a time.
    """
    given = mapping.exposure_time
    if given.keyword is None:
        if given.value is None:
            raise unmapped("fits.exposure_time")
        value = as_number(given.value, "fits.exposure_time.value", words.where, 0, _LONGEST_S)
        return value * _seconds(given.unit or "s"), HeaderOrigin("exposure_time", note="of the settings")
    told, origin = _by_keyword(words, given, given.keyword)
    if mapping.time.contradictions == "ignore":
        return told, origin
    for name, other in _other_times(words, given, given.keyword):
        if other > 0 and abs(other - told) > _SAME_S:  # 0: from a header without an image
            note = f'{name} is {other:g} s; fits.time.contradictions = "ignore" settles it'
            return told, origin._replace(note="; ".join(filter(None, (origin.note, note))), flag=AMBIGUOUS_TIME)
    return told, origin


def _other_times(words: Keywords, given: DurationFromHeader, keyword: str) -> Iterator[tuple[str, float]]:
    """Yield what else in the headers tells the duration of the exposure, and that, s."""
    if (turned := words.primary_first()) is not None:
        with suppress(BadInput):
            yield f"{keyword} of the primary header", _by_keyword(turned, given, keyword)[0]
    usual = given.model_copy(update={"unit": None})
    for name in _OTHERS if keyword == "EXPTIME" else ():
        with suppress(BadInput):
            yield name, _by_keyword(words, usual, name)[0]


def _by_keyword(words: Keywords, given: DurationFromHeader, keyword: str) -> tuple[float, HeaderOrigin]:
    value, comment = words.number(keyword, least=0), words.comment(keyword)
    if given.unit is not None:
        unit, note, flag = str(given.unit), f"in {given.unit} by the settings", ""
    elif head := head_unit(comment):
        unit, note, flag = _known(head, keyword, words.where), f"in {head} by the comment", ""
    else:
        unit, note, flag = _worded(comment)
    told = value * _seconds(unit)
    if told > _LONGEST_S:
        raise BadInput(
            "invalid_keyword",
            words.where,
            f"{keyword} is {value:g} {unit}, must be from 0 to {_LONGEST_S:g} s.",
            f"correct {keyword} in the header, or name its unit in the settings, fits.exposure_time.unit.",
        )
    if given.unit is None and (of_part := _of_part(words, comment)):
        part = f"{of_part}: give that of all in fits.exposure_time.value"
        note, flag = "; ".join(filter(None, (note, f"{part}, or its unit if it is that"))), AMBIGUOUS_TIME
    elif told == 0:
        note, flag = "0 s, as of a bias: give fits.exposure_time.value if it is not", AMBIGUOUS_TIME
    elif told > _USUAL_S and not note:
        note, flag = f"longer than {_USUAL_S:g} s: if it is not in s, give fits.exposure_time.unit", AMBIGUOUS_TIME
    return told, HeaderOrigin("exposure_time", keyword, "" if note == "in s by the comment" else note, flag)


def _of_part(words: Keywords, comment: str) -> str:
    """Return what says that a time may be of one of several parts of the exposure; "" if nothing does."""
    if _PART.search(comment):
        return f"of one part by the comment, {comment!r}"
    for name in () if _WHOLE.search(comment) else _COADDS:
        if (parts := words.optional(name, least=1)) is not None:
            return f"perhaps of one part, as {name} is {parts:g}"
    return ""


def _known(head: str, keyword: str, where: str) -> str:
    """Return the time unit in brackets at the start of a comment, as named by astropy."""
    name = _NAMES.get(head.lower(), head)
    for unit in (head, name):
        if units.Unit(unit, parse_strict="silent").is_equivalent(units.s):
            return unit
    raise BadInput(
        "invalid_keyword",
        where,
        f"the comment of {keyword} gives it in [{head}], must be a unit of time.",
        "correct the comment in the header, or name the unit in the settings, fits.exposure_time.unit.",
    )


def _worded(comment: str) -> tuple[str, str, str]:
    """Return the unit named in a comment's words, a note, and a flag if it is not s."""
    told = {
        _NAMES[one["name"]]
        for one in _WORD.finditer(comment.lower())
        if one["name"] in _NAMES and (one["name"] not in _SHORT or one["before"] is not None)
    }
    if not told:
        return "s", "", ""
    if "s" in told:
        return "s", "in s by the comment", ""
    if len(told) > 1:
        return "s", f"taken as s: the comment is {comment!r}; give fits.exposure_time.unit", AMBIGUOUS_TIME
    (unit,) = told
    return unit, f"in {unit} by the words of the comment, {comment!r}; fits.exposure_time.unit is sure", AMBIGUOUS_TIME


def _seconds(unit: str) -> float:
    return float(units.Unit(unit).to(units.s))
