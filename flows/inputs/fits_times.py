"""Time of an exposure by the keywords of a FITS header, and whether they agree."""

import math
import re
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal, NamedTuple, NoReturn

from flows.inputs.fits_header import HeaderOrigin, Keywords, middle, time_scale
from schemas.errors import BadInput, Misconfigured
from schemas.keyword_mapping import KeywordMapping, TimeFromHeader, TimeScale

AMBIGUOUS_TIME = "ambiguous_time"
"""Flag of an exposure."""

CLOCKS = ("TIME-OBS", "UTSTART", "UT-START", "UTC-OBS", "UTCSTART", "UTSHUT", "UT", "UTC", "UTIME", "TIME-BEG")
"""Keywords of a time of day, in the order in which they are asked."""

STANDARD: dict[str, tuple[Literal["isot", "mjd"], Literal["start", "middle"]]] = {
    "DATE-BEG": ("isot", "start"),
    "MJD-BEG": ("mjd", "start"),
    "MJD-OBS": ("mjd", "start"),
    "DATE-AVG": ("isot", "middle"),
    "MJD-AVG": ("mjd", "middle"),
}
"""Keywords beside DATE-OBS (FITS 4.0, section 9.5), how they are written, and of which moment."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_CLOCK = re.compile(r"(?P<h>\d{1,2})[: ](?P<m>\d{1,2})[: ](?P<s>\d{1,2}(\.\d*)?)Z?")
_SAME_S = 1.0  # an MJD of five decimals is half a second exact
_ALLOWANCE_S = 60.0


class Moment(NamedTuple):
    """Middle of an exposure, MJD TAI, and where it comes from."""

    mjd_tai: float
    origin: HeaderOrigin


class _Asked(NamedTuple):
    """Header and settings that tell the time."""

    words: Keywords
    given: TimeFromHeader
    scale: TimeScale
    exposure_time_s: float

    def middle(self, value: Any, name: str, form: Literal["mjd", "jd", "isot"], at: Any) -> float:
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
        return Moment(
            asked.middle(given.value, "time", given.format, given.at), HeaderOrigin("time", note="of the settings")
        )
    usual = given.keyword == "DATE-OBS" and given.format == "isot"
    if usual and not words.has("DATE-OBS"):
        return _agreed(asked, *_standard(asked))
    if given.format != "isot":
        value = words.number(given.keyword)
        return Moment(asked.middle(value, given.keyword, given.format, given.at), _origin(asked, given.keyword))
    text = words.text(given.keyword)
    if _DATE.fullmatch(text):
        found, name = _dated(asked, text)
    else:
        found, name = asked.middle(text, given.keyword, "isot", given.at), given.keyword
    return _agreed(asked, found, name) if usual else Moment(found, _origin(asked, name))


def _standard(asked: _Asked) -> tuple[float, str]:
    """Return the middle of the exposure, MJD TAI, and the keyword that tells it, other than DATE-OBS."""
    found = next(_others(asked), None)
    if found is None:
        asked.words.required("DATE-OBS", *STANDARD)
        return _no_clock(asked, "DATE-OBS", "")
    return found[1], found[0]


def _dated(asked: _Asked, date: str) -> tuple[float, str]:
    """Return the middle of the exposure, MJD TAI, and the keywords, of a date without a time of day."""
    keyword, named = str(asked.given.keyword), asked.given.clock
    for clock in CLOCKS if named is None else (named,):
        found = asked.words.find(clock)
        if found is not None and (text := _clock(found[1])) is not None:
            return asked.middle(
                f"{date}T{text}", f"{keyword} with {clock}", "isot", asked.given.at
            ), f"{keyword} + {clock}"
    if named is None and keyword == "DATE-OBS" and (other := next(_others(asked), None)) is not None:
        return other[1], other[0]
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


def _others(asked: _Asked) -> Iterator[tuple[str, float]]:
    """Yield keyword and middle of the exposure, MJD TAI, of the keywords of the standard that can be read."""
    for name, (form, at) in STANDARD.items():
        found = asked.words.find(name)
        if found is None or (form == "isot" and _DATE.fullmatch(str(found[1]).strip())):
            continue
        try:
            value = str(found[1]).strip() if form == "isot" else asked.words.number(name)
            # MJD-OBS is of the moment of DATE-OBS, whichever that is.
            yield name, asked.middle(value, name, form, asked.given.at if name == "MJD-OBS" else at)
        except BadInput:
            continue


def _agreed(asked: _Asked, found: float, keyword: str) -> Moment:
    """Compare the time with what other keywords say, unless the settings are sure of it."""
    if asked.given.contradictions == "ignore":
        return Moment(found, _origin(asked, keyword))
    apart = {name: (other - found) * 86400 for name, other in _others(asked)}
    start = found - {"start": 0.5, "middle": 0.0, "end": -0.5}[asked.given.at] * asked.exposure_time_s / 86400
    for clock in CLOCKS:
        value = asked.words.find(clock)
        if clock not in keyword and value is not None and (text := _clock(value[1])) is not None:
            apart[clock] = _off_clock(asked, start, text)
    wrong = {name: off for name, off in apart.items() if abs(off) > _SAME_S}
    if not wrong:
        return Moment(found, _origin(asked, keyword))
    worst = max(wrong, key=lambda name: abs(wrong[name]))
    values = f"{worst} ({asked.words.text(worst)}) differs from {keyword} by {wrong[worst]:+,.1f} s"
    if abs(wrong[worst]) > asked.exposure_time_s + _ALLOWANCE_S:
        raise BadInput(
            "contradicting_times",
            asked.words.where,
            f"{values}.",
            'name the one that is right in the settings, [fits.time], with contradictions = "ignore"; or correct it.',
        )
    return Moment(found, _origin(asked, keyword)._replace(note=f"{values}: {keyword} is taken", flag=AMBIGUOUS_TIME))


def _off_clock(asked: _Asked, start: float, text: str) -> float:
    """Return how much later than the time of day of a moment a clock shows, s, half a day at most."""
    day = math.floor(start)
    other = asked.middle(f"{_iso_date(day)}T{text}", "clock", "isot", "middle")
    return ((other - start) * 86400 + 43200) % 86400 - 43200


def _iso_date(mjd: int) -> str:
    return date.fromordinal(mjd + date(1858, 11, 17).toordinal()).isoformat()


def _origin(asked: _Asked, keyword: str) -> HeaderOrigin:
    if asked.given.scale is not None:
        return HeaderOrigin("time", keyword, f"in {asked.scale.upper()} by the settings")
    return HeaderOrigin("time", keyword, f"in {asked.scale.upper()} by TIMESYS" if asked.words.has("TIMESYS") else "")
