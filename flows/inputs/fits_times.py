"""Time of an exposure by the keywords of a FITS header, and whether they agree."""

import math
import re
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal, NamedTuple, NoReturn, get_args

from flows.inputs.fits_header import HeaderOrigin, Keywords, middle, time_scale
from schemas.errors import BadInput, Misconfigured
from schemas.keyword_mapping import Instant, KeywordMapping, TimeFromHeader, TimeScale

AMBIGUOUS_TIME = "ambiguous_time"
"""Flag of an exposure."""

CLOCKS = ("TIME-OBS", "UTSTART", "UT-START", "UTC-OBS", "UTCSTART", "UTSHUT", "UT", "UTC", "UTIME", "TIME-BEG")
"""Keywords of a time of day, in the order in which they are asked."""

STANDARD: dict[str, tuple[Literal["isot", "mjd"], Instant]] = {
    "DATE-BEG": ("isot", "start"),
    "MJD-BEG": ("mjd", "start"),
    "MJD-OBS": ("mjd", "start"),
    "DATE-AVG": ("isot", "middle"),
    "MJD-AVG": ("mjd", "middle"),
}
"""Keywords beside DATE-OBS (FITS 4.0, section 9.5), how they are written, and of which moment."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_CLOCK = re.compile(r"(?P<h>\d{1,2})[: ](?P<m>\d{1,2})[: ](?P<s>\d{1,2}(\.\d*)?)Z?")
_TAKEN = r"(exp|obs|int)\w*"
_NO_NIGHT = r"(?! of (the )?(night|day)\b)"
_INSTANTS: dict[Instant, re.Pattern[str]] = {
    "start": re.compile(rf"\b(start|begin)\w*{_NO_NIGHT}|\bshutter open\w*"),
    "middle": re.compile(
        rf"\bmid(dle|[-_ ]?(point|time|{_TAKEN})\w*)?\b(?![-_ ]?(night|ir\b|infra))|"
        rf"\bcent(re|er) of (the )?{_TAKEN}|\b{_TAKEN}[- ]cent(re|er)\b"
    ),
    "end": re.compile(rf"(?<![-\w])(?<!front )(?<!back )end(s|ed|ing)?\b(?!-to){_NO_NIGHT}|\bshutter clos\w*"),
}
"""Words of comments, in lower case, that tell the instant."""

_AFTER_START: dict[Instant, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}  # of the exposure time
_SAME_S = 1.0  # an MJD of five decimals is half a second exact
_ALLOWANCE_S = 60.0


class Moment(NamedTuple):
    """Middle of an exposure, MJD TAI, and where it comes from."""

    mjd_tai: float
    origin: HeaderOrigin


class _At(NamedTuple):
    """Instant of an exposure that a keyword is of, how that is known, and a flag if it is in doubt."""

    instant: Instant
    note: str
    flag: str = ""


class _Found(NamedTuple):
    """Keywords of a time, the middle of the exposure by them, MJD TAI, and of which instant they are."""

    keyword: str
    middle: float
    at: _At


class _Asked(NamedTuple):
    """Header and settings that tell the time."""

    words: Keywords
    given: TimeFromHeader
    scale: TimeScale
    exposure_time_s: float

    def at(self, *keywords: str) -> _At:
        """Return the instant by the settings, else by the first comment that tells it, else the start (4.4.2.2)."""
        if self.given.at is not None:
            return _At(self.given.at, f"the {self.given.at} by the settings")
        for keyword in keywords:
            comment = self.words.comment(keyword)
            match [one for one in get_args(Instant) if _INSTANTS[one].search(comment)]:
                case [one]:
                    return _At(one, f"the {one} by the comment of {keyword}")
                case [_, *_]:
                    told = f"taken as the start: the comment of {keyword} is {comment!r}; give fits.time.at"
                    return _At("start", told, AMBIGUOUS_TIME)
        return _At("start", "taken as the start")

    def middle(self, value: Any, name: str, form: Literal["mjd", "jd", "isot"], at: Instant) -> float:
        when = middle(
            value,
            name=name,
            where=self.words.where,
            exposure_time_s=self.exposure_time_s,
            longitude_deg=0.0,
            form=form,
            scale=self.scale,
            at=at,
        )
        return when.midpoint_mjd_tai


def moment_of(words: Keywords, mapping: KeywordMapping, exposure_time_s: float) -> Moment:
    """Return the middle of an exposure.

    Parameters
    ----------
    words, mapping
        Headers and settings. A date without a time of day is put together with the keyword that has one; without
        DATE-OBS, another keyword of the standard will do.
    exposure_time_s
        s

    Raises
    ------
    BadInput
        ``missing_time``: a date, and no time of day. ``contradicting_times``: keywords differ by more than the exposure
        and a minute; what differs by less is flagged. ``unknown_time_scale``, ``missing_keyword``, ``invalid_keyword``.
    Misconfigured
        The settings name neither a keyword nor a time.
    """
    given = mapping.time
    asked = _Asked(words, given, given.scale or time_scale(words, "utc"), exposure_time_s)
    if given.keyword is None:
        if given.value is None:
            raise Misconfigured(
                "unmapped_field",
                "fits.time",
                "neither keyword nor value is given.",
                "name the keyword in the settings file; the files in examples/ show how.",
            )
        constant = asked.middle(given.value, "time", given.format, given.at or "start")
        return Moment(constant, HeaderOrigin("time", note="of the settings"))
    usual = given.keyword == "DATE-OBS" and given.format == "isot"
    if usual and not words.has("DATE-OBS"):
        return _agreed(asked, _standard(asked))
    at = asked.at(given.keyword)
    if given.format != "isot":
        value = words.number(given.keyword)
        middle_of = asked.middle(value, given.keyword, given.format, at.instant)
        return _moment(asked, _Found(given.keyword, middle_of, at))
    text = words.text(given.keyword)
    if _DATE.fullmatch(text):
        found = _dated(asked, text)
    else:
        found = _Found(given.keyword, asked.middle(text, given.keyword, "isot", at.instant), at)
    return _agreed(asked, found) if usual else _moment(asked, found)


def _standard(asked: _Asked) -> _Found:
    """Return what the first keyword other than DATE-OBS tells."""
    found = next(_others(asked), None)
    if found is None:
        asked.words.required("DATE-OBS", *STANDARD)
        return _no_clock(asked, "DATE-OBS", "")
    return found


def _dated(asked: _Asked, date: str) -> _Found:
    """Return what a date without a time of day tells together with a keyword that has one."""
    keyword, named = str(asked.given.keyword), asked.given.clock
    for clock in CLOCKS if named is None else (named,):
        found = asked.words.find(clock)
        if found is not None and (text := _clock(found[1])) is not None:
            at = asked.at(clock, keyword)
            moment = asked.middle(f"{date}T{text}", f"{keyword} with {clock}", "isot", at.instant)
            return _Found(f"{keyword} + {clock}", moment, at)
    if named is None and keyword == "DATE-OBS" and (other := next(_others(asked), None)) is not None:
        return other
    return _no_clock(asked, keyword, date)


def _no_clock(asked: _Asked, keyword: str, date: str) -> NoReturn:
    names = asked.given.clock or f"{', '.join(CLOCKS[:-1])} or {CLOCKS[-1]}"
    raise BadInput(
        "missing_time",
        asked.words.where,
        f"{keyword} is {date!r}, a date without a time of day, and no keyword {names} holds one (hh:mm:ss).",
        "name the keyword of the time of day in the settings, fits.time.clock, or another one in [fits.time].",
    )


def _clock(value: Any) -> str | None:
    """Return a time of day as hh:mm:ss, of text that is one, alone or behind a date; else None."""
    found = _CLOCK.fullmatch(str(value).strip().rpartition("T")[2])
    if found is None or int(found["h"]) > 23 or int(found["m"]) > 59 or float(found["s"]) >= 60:
        return None
    return f"{int(found['h']):02d}:{int(found['m']):02d}:{float(found['s']):012.9f}"


def _others(asked: _Asked) -> Iterator[_Found]:
    """Yield what the keywords of the standard tell that can be read."""
    for name, (form, instant) in STANDARD.items():
        found = asked.words.find(name)
        if found is None or (form == "isot" and _DATE.fullmatch(str(found[1]).strip())):
            continue
        try:
            value = str(found[1]).strip() if form == "isot" else asked.words.number(name)
            # MJD-OBS is of the moment of DATE-OBS, whichever that is.
            at = asked.at(name, "DATE-OBS") if name == "MJD-OBS" else _At(instant, f"the {instant}")
            yield _Found(name, asked.middle(value, name, form, at.instant), at)
        except BadInput:
            continue


def _agreed(asked: _Asked, found: _Found) -> Moment:
    """Compare the time with what other keywords say, unless the settings are sure of it."""
    if asked.given.contradictions == "ignore":
        return _moment(asked, found)
    apart = {other.keyword: (other.middle - found.middle) * 86400 for other in _others(asked)}
    for clock in CLOCKS:
        value = asked.words.find(clock)
        if clock not in found.keyword and value is not None and (text := _clock(value[1])) is not None:
            later = _AFTER_START[asked.at(clock, "DATE-OBS").instant] - 0.5
            apart[clock] = _off_clock(asked, found.middle + later * asked.exposure_time_s / 86400, text)
    wrong = {name: off for name, off in apart.items() if abs(off) > _SAME_S}
    if not wrong:
        return _moment(asked, found)
    worst = max(wrong, key=lambda name: abs(wrong[name]))
    values = f"{worst} ({asked.words.text(worst)}) differs from {found.keyword} by {wrong[worst]:+,.1f} s"
    if abs(wrong[worst]) > asked.exposure_time_s + _ALLOWANCE_S:
        raise BadInput(
            "contradicting_times",
            asked.words.where,
            f"{values}.",
            'name the one that is right in the settings, [fits.time], with contradictions = "ignore"; or correct it.',
        )
    mjd, origin = _moment(asked, found)
    note = f"{values}: {found.keyword} is taken; {origin.note}"
    return Moment(mjd, origin._replace(note=note, flag=AMBIGUOUS_TIME))


def _off_clock(asked: _Asked, start: float, text: str) -> float:
    """Return how much later than the time of day of a moment a clock shows, s, half a day at most."""
    day = math.floor(start)
    other = asked.middle(f"{_iso_date(day)}T{text}", "clock", "isot", "middle")
    return ((other - start) * 86400 + 43200) % 86400 - 43200


def _iso_date(mjd: int) -> str:
    return date.fromordinal(mjd + date(1858, 11, 17).toordinal()).isoformat()


def _moment(asked: _Asked, found: _Found) -> Moment:
    by = "the settings" if asked.given.scale is not None else "TIMESYS" if asked.words.has("TIMESYS") else ""
    scale = f"in {asked.scale.upper()} by {by}" if by else f"in {asked.scale.upper()}, without TIMESYS"
    return Moment(found.middle, HeaderOrigin("time", found.keyword, f"{found.at.note}; {scale}", found.at.flag))
