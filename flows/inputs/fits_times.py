"""Time of an exposure from the keywords of a FITS header, and whether they agree."""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import Any, Literal, NamedTuple, NoReturn

from flows.inputs.comment_words import instants_named, scales_named
from flows.inputs.fits_header import AMBIGUOUS_TIME, HeaderOrigin, Keywords, middle, time_scale, unmapped
from schemas.errors import BadInput
from schemas.keyword_mapping import Instant, KeywordMapping, TimeFromHeader, TimeScale

CLOCKS = ("TIME-OBS", "UTSTART", "UT-START", "UTC-OBS", "UTCSTART", "UTSHUT", "UT", "UTC", "UTIME", "TIME-BEG", "TIME")
"""Keywords for a time of day, in the order in which they are looked up."""

LATER_CLOCKS: dict[str, Instant] = {
    "UTMIDDLE": "middle", "UT-MID": "middle", "UTMID": "middle", "UTC-MID": "middle", "TIME-MID": "middle",
    "UT-END": "end", "UTEND": "end", "UTC-END": "end", "UTCEND": "end", "UTSTOP": "end", "TIME-END": "end",
}  # fmt: skip
"""Keywords for a time of day of another instant than DATE-OBS, with which the time is compared."""

Form = Literal["mjd", "jd", "isot"]
"""Format of a time."""

STANDARD: dict[str, tuple[Literal["isot", "mjd"], Instant]] = {
    "DATE-BEG": ("isot", "start"),
    "MJD-BEG": ("mjd", "start"),
    "MJD-OBS": ("mjd", "start"),
    "DATE-AVG": ("isot", "middle"),
    "MJD-AVG": ("mjd", "middle"),
    "DATE-END": ("isot", "end"),
    "MJD-END": ("mjd", "end"),
}
"""Keywords beside DATE-OBS (FITS 4.0, section 9.5), with their format and instant."""

DAY_NUMBERS: dict[str, Literal["mjd", "jd"]] = {
    "MJD": "mjd", "OBSMJD": "mjd", "MJDOBS": "mjd", "MJD-STRT": "mjd", "MJDSTART": "mjd", "MJD-MID": "mjd", "JD": "jd",
    "OBSJD": "jd", "JD-OBS": "jd", "JDOBS": "jd", "JD-STRT": "jd", "JDSTART": "jd", "JD-MID": "jd", "JDMID": "jd",
}  # fmt: skip
"""Other keywords that hold a day number, and its format."""

DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
"""A date without a time of day."""

_CLOCK = re.compile(r"(?P<h>\d{1,2})[: ](?P<m>\d{1,2})[: ](?P<s>\d{1,2}(\.\d*)?)Z?")

_AFTER_START: dict[Instant, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}  # in exposure times
_SAME_S = 1.0  # an MJD with five decimals is accurate to half a second
_ALLOWANCE_S = 60.0
_ROUGH_S = 1800.0  # which instant a day number is of is not known, and it may be as seen from the Sun


class Moment(NamedTuple):
    """Middle of an exposure, MJD TAI, and its origin."""

    mjd_tai: float
    origin: HeaderOrigin


class _At(NamedTuple):
    """Instant of the exposure that a keyword refers to, how that is known, and a flag if it is in doubt."""

    instant: Instant
    note: str
    flag: str = ""


class _Scale(NamedTuple):
    """Time scale of a keyword, how that is known, and a flag if it is in doubt."""

    name: TimeScale
    note: str
    flag: str = ""


class _Found(NamedTuple):
    """Keywords of a time, the middle of the exposure according to them, MJD TAI, and their instant and scale."""

    keyword: str
    middle: float
    at: _At
    scale: _Scale


class _Apart(NamedTuple):
    """Value of another keyword, and how much later it is, s."""

    said: str
    seconds: float


class _Asked(NamedTuple):
    """Headers and settings that determine the time."""

    words: Keywords
    given: TimeFromHeader
    exposure_time_s: float

    def at(self, *keywords: str) -> _At:
        """Return the instant: from the settings, else from the first comment with one, else the start (4.4.2.2)."""
        if self.given.at is not None:
            return _At(self.given.at, f"the {self.given.at} by the settings")
        for keyword in keywords:
            comment = self.words.comment(keyword)
            match instants_named(comment):
                case [one]:
                    return _At(one, f"the {one} by the comment of {keyword}")
                case [_, *_]:
                    told = f"taken as the start: the comment of {keyword} is {comment!r}; give fits.time.at"
                    return _At("start", told, AMBIGUOUS_TIME)
        return _At("start", "taken as the start")

    def scale(self, *keywords: str) -> _Scale:
        """Return the time scale: from the settings, else TIMESYS, else the first comment with one, else UTC.

        Raises
        ------
        BadInput
            ``unknown_time_scale``: a scale not supported here, or, in a comment, the time of a zone or of the Sun.
        """
        if self.given.scale is not None:
            return _Scale(self.given.scale, f"in {self.given.scale.upper()} by the settings")
        system = time_scale(self.words, "utc")
        told = {one: named for one in keywords if (named := scales_named(self.words.comment(one)))}
        for keyword, named in told.items():
            if named == {"local"} or "sun" in named:
                raise _elsewhere(self.words, keyword, sun="sun" in named)
        keyword, named = next(iter(told.items()), ("", frozenset()))
        comment = f"the comment of {keyword} is {self.words.comment(keyword)!r}" if keyword else ""
        if self.words.has("TIMESYS"):
            doubt = bool(named) and not named & {system, "gps"}
            note = f"in {system.upper()} by TIMESYS"
            return _Scale(system, f"{note}, though {comment}" if doubt else note, AMBIGUOUS_TIME if doubt else "")
        for scale in ("utc", "tai", "tt", "tdb"):
            if named == {scale}:
                return _Scale(scale, f"in {scale.upper()} by the comment of {keyword}")
        if named:  # GPS alone may mean the receiver, which provides UTC
            return _Scale("utc", f"in UTC as it is taken: {comment}; give fits.time.scale", AMBIGUOUS_TIME)
        return _Scale("utc", "in UTC, without TIMESYS")

    def found(self, name: str, value: float | str, form: Form, told: tuple[str, ...], at: _At | None = None) -> _Found:
        """Return the time that a value gives, at the instant ``at`` or that in the comments of keywords ``told``."""
        at, scale = at or self.at(*told), self.scale(*told)
        return _Found(name, self.middle(value, name, form, at.instant, scale), at, scale)

    def middle(self, value: float | str, name: str, form: Form, at: Instant, scale: _Scale) -> float:
        when = middle(
            value,
            name=name.replace(" + ", " with "),
            where=self.words.where,
            exposure_time_s=self.exposure_time_s,
            longitude_deg=0.0,
            form=form,
            scale=scale.name,
            at=at,
        )
        return when.midpoint_mjd_tai


def _elsewhere(words: Keywords, keyword: str, *, sun: bool) -> BadInput:
    what = (
        "a time as seen from the Sun, up to 8.3 minutes from that at the telescope."
        if sun
        else "the time of a zone, of which the offset is not known."
    )
    return BadInput(
        "unknown_time_scale",
        words.where,
        f"{keyword} is {words.text(keyword)!r}, and its comment {words.comment(keyword)!r} names {what}",
        "write it in UTC, or name another keyword in the settings, [fits.time]; if it is UTC, give fits.time.scale.",
    )


def moment_of(words: Keywords, mapping: KeywordMapping, exposure_time_s: float) -> Moment:
    """Return the middle of an exposure.

    Parameters
    ----------
    words, mapping
        Headers and settings. A date without a time of day is combined with a keyword that gives one; without DATE-OBS,
        other keywords of the standard are used.
    exposure_time_s
        Exposure time, s.

    Raises
    ------
    BadInput
        ``missing_time``: a date without a time of day. ``contradicting_times``: keywords differ by more than the
        exposure time plus a minute; smaller differences are flagged. ``unknown_time_scale``, ``missing_keyword``,
        ``invalid_keyword``.
    Misconfigured
        The settings name neither a keyword nor a time.
    """
    given = mapping.time
    asked = _Asked(words, given, exposure_time_s)
    if given.keyword is None:
        if given.value is None:
            raise unmapped("fits.time")
        constant = asked.middle(given.value, "time", given.format, given.at or "start", asked.scale())
        return Moment(constant, HeaderOrigin("time", note="of the settings"))
    usual = given.keyword == "DATE-OBS" and given.format == "isot"
    if usual:
        return _agreed(asked, _usual(asked))
    if given.format != "isot":
        value = words.number(given.keyword)
        return _moment(asked.found(given.keyword, value, given.format, (given.keyword,)))
    return _moment(_written(asked, given.keyword))


def _usual(asked: _Asked) -> _Found:
    return _written(asked, "DATE-OBS") if asked.words.has("DATE-OBS") else _standard(asked)


def _written(asked: _Asked, keyword: str) -> _Found:
    """Return the time that the keyword of a date gives."""
    text = asked.words.text(keyword)
    return _dated(asked, text) if DATE.fullmatch(text) else asked.found(keyword, text, "isot", (keyword,))


def _standard(asked: _Asked) -> _Found:
    """Return the time from the first keyword present other than DATE-OBS."""
    refusals = list[BadInput]()
    for name in STANDARD:
        try:
            if (found := _other(asked, name)) is not None:
                return found
        except BadInput as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    keyword, value = asked.words.required("DATE-OBS", *STANDARD)
    return _no_clock(asked, keyword, str(value).strip())


def _dated(asked: _Asked, date: str) -> _Found:
    """Return the time from a date without a time of day and a keyword that gives one."""
    keyword, named = str(asked.given.keyword), asked.given.clock
    for clock in CLOCKS if named is None else (named,):
        found = asked.words.find(clock)
        if found is not None and (text := _clock(found[1])) is not None:
            return asked.found(f"{keyword} + {clock}", f"{date}T{text}", "isot", (clock, keyword))
    if named is None and keyword == "DATE-OBS" and (other := next(_others(asked), None)) is not None:
        return other
    return _no_clock(asked, keyword, date)


def _no_clock(asked: _Asked, keyword: str, date: str) -> NoReturn:
    tried = CLOCKS if asked.given.clock is None else (asked.given.clock,)
    held = [f"{found[0]} is {found[1]!r}" for name in tried if (found := asked.words.find(name)) is not None]
    names = f"{', '.join(tried[:-1])} or {tried[-1]}" if tried[1:] else tried[0]
    told = f": {', '.join(held)}" if held else ""
    remedy = "write it so in the header, or name another keyword" if held else "name the keyword"
    raise BadInput(
        "missing_time",
        asked.words.where,
        f"{keyword} is {date!r}, a date without a time of day, and no keyword {names} holds one (hh:mm:ss){told}.",
        f"{remedy} of the time of day in the settings, fits.time.clock, or another one in [fits.time].",
    )


def _clock(value: Any) -> str | None:
    """Return the time of day, hh:mm:ss, in a text, alone or after a date; None if there is none."""
    found = _CLOCK.fullmatch(str(value).strip().rpartition("T")[2])
    if found is None or int(found["h"]) > 23 or int(found["m"]) > 59 or float(found["s"]) >= 60:
        return None
    return f"{int(found['h']):02d}:{int(found['m']):02d}:{float(found['s']):012.9f}"


def _other(asked: _Asked, name: str) -> _Found | None:
    """Return the time from a keyword of the standard; None if it is absent, or only a date."""
    (form, instant), found = STANDARD[name], asked.words.find(name)
    if found is None or (form == "isot" and DATE.fullmatch(str(found[1]).strip())):
        return None
    value = str(found[1]).strip() if form == "isot" else asked.words.number(name)
    # MJD-OBS is the same instant as DATE-OBS, whichever that is.
    at = None if name == "MJD-OBS" else _At(instant, f"the {instant}")
    return asked.found(name, value, form, (name, "DATE-OBS"), at)


def _others(asked: _Asked) -> Iterator[_Found]:
    """Yield the times from all readable keywords of the standard."""
    for name in STANDARD:
        with suppress(BadInput):
            if (found := _other(asked, name)) is not None:
                yield found


def _agreed(asked: _Asked, found: _Found) -> Moment:
    """Compare the time with those of other keywords, unless the settings determine it."""
    if asked.given.contradictions == "ignore":
        return _moment(found)
    wrong = {name: one for name, one in _apart(asked, found) if abs(one.seconds) > _SAME_S}
    if not wrong:
        return _moment(found)
    name, worst = max(wrong.items(), key=lambda one: abs(one[1].seconds))
    values = f"{name} ({worst.said}) differs from {found.keyword} by {worst.seconds:+,.1f} s"
    if abs(worst.seconds) > asked.exposure_time_s + _ALLOWANCE_S:
        raise BadInput(
            "contradicting_times",
            asked.words.where,
            f"{values}.",
            'name the one that is right in the settings, [fits.time], with contradictions = "ignore"; or correct it. '
            "The image's own header goes before the primary one.",
        )
    mjd, origin = _moment(found)
    note = f"{values}: {found.keyword} is taken; {origin.note}"
    return Moment(mjd, origin._replace(note=note, flag=AMBIGUOUS_TIME))


def _apart(asked: _Asked, found: _Found) -> Iterator[tuple[str, _Apart]]:
    """Yield the names of other time keywords, and of the same ones in the primary header, with their differences."""
    words = asked.words
    for other in _others(asked):
        yield other.keyword, _Apart(words.text(other.keyword), (other.middle - found.middle) * 86400)
    for clock in (*CLOCKS, *LATER_CLOCKS):
        with suppress(BadInput):
            if clock not in found.keyword.split(" + ") and (off := _off_clock(asked, found.middle, clock)) is not None:
                yield clock, _Apart(words.text(clock), off)
    for name, form in DAY_NUMBERS.items():
        with suppress(BadInput):
            if (off := _off_number(asked, found.middle, name, form)) is not None:
                yield name, _Apart(words.text(name), off)
    if (turned := words.primary_first()) is not None:
        with suppress(BadInput):
            other = _usual(asked._replace(words=turned))
            keywords = other.keyword.split(" + ")
            if Keywords(words.where, turned.headers[:1]).has(keywords[0]):
                said = " ".join(map(turned.text, keywords))
                yield f"{other.keyword} of the primary header", _Apart(said, (other.middle - found.middle) * 86400)


def _off_clock(asked: _Asked, middle: float, clock: str) -> float | None:
    """Return how much later a clock is than the exposure, s, at most half a day; None if there is no clock."""
    value = asked.words.find(clock)
    if value is None or (text := _clock(value[1])) is None:
        return None
    instant = LATER_CLOCKS.get(clock) or asked.at(clock, "DATE-OBS").instant
    later = (_AFTER_START[instant] - 0.5) * asked.exposure_time_s / 86400
    shown = f"{_iso_date(math.floor(middle + later))}T{text}"
    other = asked.middle(shown, clock, "isot", "middle", asked.scale(clock, "DATE-OBS"))
    return ((other - middle - later) * 86400 + 43200) % 86400 - 43200


def _off_number(asked: _Asked, middle: float, name: str, form: Literal["mjd", "jd"]) -> float | None:
    """Return how much later a day number is than the exposure, s; None if there is none, or it may be of it."""
    if (value := asked.words.optional(name)) is None:
        return None
    later = (asked.middle(value, name, form, "middle", asked.scale(name)) - middle) * 86400
    decimals = len(asked.words.text(name).partition(".")[2].rstrip("0"))
    rounded = 86400 * 10.0**-decimals
    return later if abs(later) > asked.exposure_time_s + _ROUGH_S + rounded else None


def _iso_date(mjd: int) -> str:
    return date.fromordinal(mjd + date(1858, 11, 17).toordinal()).isoformat()


def _moment(found: _Found) -> Moment:
    note, flag = f"{found.at.note}; {found.scale.note}", found.at.flag or found.scale.flag
    return Moment(found.middle, HeaderOrigin("time", found.keyword, note, flag))
