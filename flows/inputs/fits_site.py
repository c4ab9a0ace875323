"""Longitude of the site of an image, which determines the night."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from flows.inputs.fits_header import HeaderOrigin, Keywords
from kernels.sky.times import night_label
from schemas.keyword_mapping import KeywordMapping

ASSUMED_SITE = "assumed_site"
"""Exposure flag: the longitude of the site was assumed, or is in doubt."""

_EAST = ("OBSGEO-L", "GEOLON", "ESO TEL GEOLON")
"""Keywords defined as east longitude: FITS 4.0, table 33; ESO's headers."""

_EITHER = (
    "SITELONG",
    "LONGITUD",
    "OBS-LONG",
    "LONG-OBS",
    "OBSLONG",
    "OBSLON",
    "TELLONG",
    "SITELON",
    "OBSERVATORY_LONGITUDE",
)
"""Keywords that are east longitude in some headers, west in others."""

NAMED = (*_EAST, *_EITHER, "OBSGEO-X", "OBSERVAT", "OBSNAME", "SITENAME")
"""Keywords that give the longitude."""

_OBSERVATORIES = {
    "aao": 149.066, "apo": -105.820, "cfht": -155.471, "ctio": -70.806, "eso": -70.730, "haleakala": -156.257,
    "keck": -155.477, "kpno": -111.600, "la silla": -70.730, "lapalma": -17.882, "lowell": -111.536,
    "mcdonald": -104.022, "mmt": -110.885, "mauna kea": -155.472, "orm": -17.882, "palomar": -116.863,
    "paranal": -70.403, "saao": 20.811, "siding spring": 149.066, "sso": 149.066,
}  # fmt: skip
"""Longitudes from the Minor Planet Center's list of observatory codes, deg east, by the names in IRAF and others."""

_DAY = (7.5, 16.5)  # hours of local mean time at which the Sun is up nearly everywhere


class Site(NamedTuple):
    """Longitude, deg east, and where it comes from."""

    longitude_deg: float
    origin: HeaderOrigin


def site_of(words: Keywords, mapping: KeywordMapping, mjd_utc: float | None) -> Site:
    """Return the longitude of the site: from the settings, else from the header, else 0 with a flag.

    Parameters
    ----------
    words, mapping
        Headers and settings.
    mjd_utc
        Middle of the exposure; None: unknown. If it is by day at a longitude of uncertain sign, but by night at the
        opposite one, the sign is reversed.
    """
    if mapping.longitude_deg is not None:
        return Site(mapping.longitude_deg, HeaderOrigin("longitude_deg", note="of the settings"))
    for keyword, longitude, sure in _found(words):
        east = sure or "east" in words.comment(keyword).lower()
        here, there = _wrapped(longitude), _wrapped(-longitude)
        if mjd_utc is None:
            note = "" if east else "taken as east, which no time can confirm"
            return Site(here, HeaderOrigin("longitude_deg", keyword, note, ASSUMED_SITE if note else ""))
        if sure or not _by_day(mjd_utc, here):
            doubtful = not east and here > 0 and night_label(mjd_utc, here) != night_label(mjd_utc, there)
            note = "taken as east: as west it is another night" if doubtful and not _by_day(mjd_utc, there) else ""
            return Site(here, HeaderOrigin("longitude_deg", keyword, note, ASSUMED_SITE if note else ""))
        if not _by_day(mjd_utc, there):
            note = "taken as west: as east the image was taken by day"
            return Site(there, HeaderOrigin("longitude_deg", keyword, note, ASSUMED_SITE))
        return Site(here, HeaderOrigin("longitude_deg", keyword, "the image was taken by day", ASSUMED_SITE))
    note = "no keyword tells it: 0, and a night far from Greenwich may be split; give fits.longitude_deg"
    return Site(0.0, HeaderOrigin("longitude_deg", note=note, flag=ASSUMED_SITE))


def _found(words: Keywords) -> Iterator[tuple[str, float, bool]]:
    """Yield keyword, longitude, deg, and whether its sign is certain."""
    x, y = (words.optional(name) for name in ("OBSGEO-X", "OBSGEO-Y"))
    if x is not None and y is not None and math.hypot(x, y) > 1e5:  # m from the Earth's axis: a place on the surface
        yield "OBSGEO-X", math.degrees(math.atan2(y, x)), True
    for keyword in (*_EAST, *_EITHER):
        found = words.find(keyword)
        degrees = None if found is None else _degrees(found[1])
        if degrees is None or not -180 <= degrees <= 360:
            continue
        said = words.comment(keyword).lower()
        if "west" in said and "east" not in said:
            yield keyword, -abs(degrees), True
        else:
            yield keyword, degrees, keyword in _EAST or degrees > 180
    for keyword in ("OBSERVAT", "OBSNAME", "SITENAME"):
        found = words.find(keyword)
        name = re.sub(r"[^a-z]+", " ", str(found[1]).lower()).strip() if found else ""
        if name in _OBSERVATORIES:
            yield keyword, _OBSERVATORIES[name], True


def _degrees(value: Any) -> float | None:
    """Return degrees from a number, or from degrees, minutes and seconds with a sign or letter."""
    text = str(value).strip()
    letter = re.search(r"[EeWw]$|^[EeWw]", text)
    parts = re.split(r"[:\s°d'm\"s]+", text.strip("EeWw ").lstrip("+-"))
    try:
        numbers = [float(part) for part in parts if part]
    except ValueError:
        return None
    if not numbers or len(numbers) > 3 or not all(math.isfinite(one) and one >= 0 for one in numbers):
        return None
    size = sum(number / 60**place for place, number in enumerate(numbers))
    negative = text.strip("EeWw ").startswith("-") or (letter is not None and letter[0] in "Ww")
    return -size if negative else size


def _wrapped(longitude: float) -> float:
    return (longitude + 180) % 360 - 180


def _by_day(mjd_utc: float, longitude: float) -> bool:
    hour = (mjd_utc + longitude / 360) % 1 * 24
    return _DAY[0] < hour < _DAY[1]
