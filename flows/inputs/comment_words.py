"""Words in a keyword's comment that tell the instant, time scale or unit of its value."""

import re
from collections.abc import Mapping
from typing import Literal, get_args

from schemas.keyword_mapping import Instant

NamedScale = Literal["utc", "tai", "tt", "tdb", "gps", "local", "sun"]
"""Time scale that a comment names; ``local``: of a time zone, or sidereal; its offset is not known; ``sun``: as seen
from the Sun or the barycentre."""

_TAKEN = r"(exp|obs|int)\w*"
_NO_NIGHT = r"(?! of (the )?(night|day)\b)"
_INSTANTS: dict[Instant, re.Pattern[str]] = {
    "start": re.compile(rf"\b(start|begin)\w*{_NO_NIGHT}|\bshutter open\w*"),
    "middle": re.compile(
        rf"\bmid(dle|[-_ ]?(point|time|{_TAKEN})\w*)?\b(?![-_ ]?(night|ir\b|infra))|"
        rf"\bcent(re|er) of (the )?{_TAKEN}|\b{_TAKEN}[- ]cent(re|er)\b|\bhalf[- ]?(way\b|(of )?(the )?{_TAKEN})|"
        r"(?<!greenwich )(?<!local )(?<!solar )\b(mean|average|effective) (epoch|time|date|mjd|jd|utc?|instant)\b"
    ),
    "end": re.compile(
        rf"(?<![-\w])(?<!front )(?<!back )end(s|ed|ing)?\b(?!-to){_NO_NIGHT}|\bshutter clos\w*|"
        rf"(?<![-\w])(stop(s|ped)?|finish(es|ed)?|complet(ed|ion))\b{_NO_NIGHT}|\bread-?out\b"
    ),
}
"""Words in lower case."""

_OFFSET = re.compile(r"\b(UTC?|GMT) ?[+-] ?(0?[1-9]|1[0-4])(:?[0-5]\d)?(?![\d.])", re.IGNORECASE)
_ZONE = re.compile(
    r"\b(HST|AK[SD]T|[PMCE][SD]T|AST|BR[ST]T?|CLS?T|WES?T|CES?T|EES?T|BST|MSK|SAST|IST|JST|KST|A[CEW][SD]T|NZ[SD]T|"
    r"L[CMS]?T|UT1)\b"
)
"""Abbreviations of time zones, and of solar and sidereal time, which are written in capitals."""

_LOCAL = re.compile(
    r"\blocal\b(?! (night|midnight|noon|evening|observ|copy|file|host|disk|name|sky))|\bsidereal\b|"
    r"\b(standard|daylight|summer|civil|zone) time\b",
    re.IGNORECASE,
)
_NOT_LOCAL = re.compile(r"\b(not|no|never) (in )?(the )?local( time)?\b", re.IGNORECASE)
_SCALES: Mapping[NamedScale, re.Pattern[str]] = {
    "utc": re.compile(r"\b(UTC?|GMT)\b|\b(universal|greenwich) ", re.IGNORECASE),
    "tai": re.compile(r"\b(TAI|IAT)\b|\batomic time\b", re.IGNORECASE),
    "tt": re.compile(r"\b(TT|TDT)\b|\b[Tt]errestrial ([Dd]ynamical )?[Tt]ime\b"),
    "tdb": re.compile(r"\bTDB\b", re.IGNORECASE),
    "gps": re.compile(r"\bGPS\b", re.IGNORECASE),
    "sun": re.compile(
        r"(?<!\bnot )(?<!\bno )\b([Hh]elio|[Bb]ary)centric\b(?! ([Dd]ynamical|[Cc]oordinate))|\b[HB]M?JD(?![A-Za-z])"
    ),
}

_HEAD = re.compile(r"\s*\[([^\]]*)\]")
_ELECTRON = r"(photo-?)?(electrons?|elec|el|e)-?"
_COUNT = r"(adus?|dn|counts?|cts?)"
_PER_COUNT = re.compile(rf"(?<!\w){_ELECTRON}\s*(/|per)\s*{_COUNT}\b", re.IGNORECASE)
_PER_ELECTRON = re.compile(rf"\b{_COUNT}\s*(/|per)\s*{_ELECTRON}(?!\w)", re.IGNORECASE)
_DECIBEL = re.compile(r"\bdB\b", re.IGNORECASE)


def instants_named(comment: str) -> list[Instant]:
    """Return the instants of an exposure that a comment names."""
    return [one for one in get_args(Instant) if _INSTANTS[one].search(comment.lower())]


def scales_named(comment: str) -> frozenset[NamedScale]:
    """Return the time scales that a comment names."""
    text = _NOT_LOCAL.sub("", comment)
    plain = _OFFSET.sub("", text)
    zoned = plain != text or _ZONE.search(text) or _LOCAL.search(text)
    told = {scale for scale, words in _SCALES.items() if words.search(plain)}
    return frozenset(told | ({"local"} if zoned else set()))


def head_unit(comment: str) -> str:
    """Return the unit in brackets at the start of a comment (FITS 4.0, section 4.3.2); "" if there is none."""
    found = _HEAD.match(comment)
    return found[1].strip() if found is not None else ""


def gain_unit(comment: str) -> Literal["e-/adu", "adu/e-", "other", ""]:
    """Return the unit of a gain that its comment states; "" if it states none."""
    head = head_unit(comment)
    if _PER_ELECTRON.search(head or comment):
        return "adu/e-"
    if _PER_COUNT.search(head or comment):
        return "e-/adu"
    told = (head and not re.fullmatch(_ELECTRON, head, re.IGNORECASE)) or _DECIBEL.search(comment)
    return "other" if told else ""
