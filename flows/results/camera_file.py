"""Settings file of a camera, written from the headers of its files."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from flows.inputs.comment_words import head_unit
from flows.inputs.fits_damage import value_of
from flows.inputs.fits_header import HeaderOrigin, Keywords
from flows.inputs.fits_layout import DETECTORS, PLANES
from flows.inputs.fits_times import DAY_NUMBERS, STANDARD
from flows.inputs.fits_units import unit_of_width
from flows.results.inspection import Extension, Inspection
from flows.results.likely_keywords import FLUX_OF_ZERO, SATURATIONS, VISITS, ZERO_POINTS, zero_point_of
from kernels.psf.gaussian_mixture import fwhm_with_pixels
from schemas.errors import Misconfigured

CHECK = "CHECK"
"""Marks settings in the file that only the user can know."""

_MOST_NAMES = 5

_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|Z?BITPIX|Z?NAXIS|EXTEND|Z?[PG]COUNT|Z?CHECKSUM|Z?DATASUM|HISTORY|COMMENT|T(TYPE|FORM|FIELDS)|Z(TILE|CMP)|"
    r"CRPIX|CRVAL|CDELT|CD\d_|PC\d_|PV\d_|[AB]P?_\d|LONPOLE|LATPOLE"
)
"""Prefixes of structural and WCS keywords, which do not help to tell files apart."""


class Varying(NamedTuple):
    """Keywords that differ between the detectors of a visit, and between the visits of a detector.

    A keyword belongs to the detector if it is the same in all files of a detector and differs between detectors;
    likewise for visits. Files belong to one visit if their exposures have the same middle.
    """

    per_detector: tuple[str, ...] = ()
    per_visit: tuple[str, ...] = ()


def varying(found: Sequence[Inspection]) -> Varying:
    """Return the keywords that vary with the detector and with the visit.

    Detectors are identified by the keyword used for them, or else by whole numbers that differ between the files of
    each visit.
    """
    cards = [_cards(one) for one in found]
    visits = [_when(one, mine) for one, mine in zip(found, cards, strict=True)]
    keys = sorted(set.intersection(*(set(mine) for mine in cards))) if len(cards) > 1 else []
    per_detector = [key for key in keys if _tells_apart(key, cards, visits)]
    several = len(set(visits)) > 1
    per_visit = [
        key
        for key in keys
        if several and key not in per_detector and _follows(key, cards, visits) and len({one[key] for one in cards}) > 1
    ]
    ordered = sorted(per_detector, key=lambda key: (DETECTORS.index(key) if key in DETECTORS else 99, key))
    return Varying(tuple(ordered), tuple(per_visit))


def _cards(one: Inspection) -> dict[str, Any]:
    cards: dict[str, Any] = {}
    for header in reversed(one.headers):
        for key in header:
            value = value_of(header, key) if key and not _STRUCTURE.match(key) else None
            if isinstance(value, str | int | float):
                cards[key] = value.strip() if isinstance(value, str) else value
    return cards


def _when(one: Inspection, cards: dict[str, Any]) -> Any:
    time = one.value("mid_exposure_tai")
    return round(time, 6) if time is not None else tuple(str(cards.get(key)) for key in ("DATE-OBS", *STANDARD))


def _tells_apart(key: str, cards: Sequence[dict[str, Any]], visits: Sequence[Any]) -> bool:
    """Return whether a keyword is a whole number from a common set that differs between the files of each visit."""
    of_visit: dict[Any, list[Any]] = defaultdict(list)
    for mine, visit in zip(cards, visits, strict=True):
        of_visit[visit].append(mine[key])
    groups = list(of_visit.values())
    whole = all(str(value).isdigit() and not isinstance(value, bool) for group in groups for value in group)
    apart = all(len(set(group)) == len(group) for group in groups) and any(len(group) > 1 for group in groups)
    most = max(map(set, groups), key=len)
    return whole and apart and all(most.issuperset(group) for group in groups)


def _follows(key: str, cards: Sequence[dict[str, Any]], visits: Sequence[Any]) -> bool:
    values: dict[Any, set[Any]] = defaultdict(set)
    for mine, visit in zip(cards, visits, strict=True):
        values[visit].add(mine[key])
    return all(len(one) == 1 for one in values.values())


def settings_text(found: Sequence[Inspection]) -> str:
    """Return the settings file for the camera of some files, with a comment on each line.

    Raises
    ------
    Misconfigured
        ``nothing_to_write``: no file has a format that needs settings. ``several_instruments``: the files are from
        cameras with different names.
    """
    generic = [one for one in found if one.form == "generic"]
    if not generic:
        where = ", ".join(one.uri for one in found) or "no file"
        raise Misconfigured(
            "nothing_to_write", where, "no file needs settings: known formats have none, others cannot be read.",
            "inspect FITS files of a camera that is not known here.",
        )  # fmt: skip
    _require_one_instrument(generic)
    read, apart = [one for one in generic if one.error is None] or generic, varying(generic)
    refused = [one.error for one in found if one.error is not None]
    number = "1 file" if len(read) == 1 else f"{len(read)} files"
    parts = (
        _extension, _site, _unit, _time, _exposure_time, partial(_named, name="instrument"), _band,
        partial(_detector, apart=apart), _visit, _zero_point, _gain, _saturation, _psf,
    )  # fmt: skip
    lines = [
        f"# Settings for {read[0].value('instrument') or 'a camera'}, from {number}, the first {read[0].uri}.",
        f"# {CHECK} marks what no keyword says for sure. What is behind a # is not used.",
        *([f"# Refused: {len(refused)} of {len(found)} files."] if refused else []),
        *(f"# Refused: {error}" for error in refused),
        "[fits]",
        *(line for part in parts for line in _agreed(read, part)),
        *([f"\n# Differ from detector to detector: {', '.join(apart.per_detector)}"] if apart.per_detector else []),
        *([f"# Differ from visit to visit: {', '.join(apart.per_visit)}"] if apart.per_visit else []),
    ]
    return "\n".join(lines) + "\n"


def _require_one_instrument(found: Sequence[Inspection]) -> None:
    first: dict[str, Inspection] = {}
    for one in found:
        first.setdefault(str(one.value("instrument") or "unknown").strip().casefold(), one)
    first.pop("unknown", None)
    if len(first) > 1:
        told = ", ".join(f"{one.value('instrument')} ({one.uri})" for one in list(first.values())[:_MOST_NAMES])
        raise Misconfigured(
            "several_instruments",
            "--write",
            f"the files are of {len(first)} instruments, must be of one: {told}.",
            "write a file of settings for each, from its images alone.",
        )


def _agreed(read: Sequence[Inspection], part: Callable[[Inspection], Iterator[str]]) -> Iterator[str]:
    """Yield a part of the file if all headers agree on it; otherwise what each would give, as comments."""
    found: dict[tuple[str, ...], list[tuple[Inspection, list[str]]]] = defaultdict(list)
    for one in read:
        lines = [line for text in part(one) for line in text.split("\n")]
        found[tuple(line.partition("  #")[0] for line in lines if line and line[0] != "#")].append((one, lines))
    if len(found) == 1:
        yield from max((lines for _, lines in next(iter(found.values()))), key=len)
        return
    yield f"\n# {CHECK}: the files differ in what follows, and nothing is set."
    for same in found.values():
        rest = len(same) - _MOST_NAMES
        yield f"# {', '.join(one.uri for one, _ in same[:_MOST_NAMES])}{f' and {rest} more' if rest > 0 else ''}:"
        yield from (f"# {line.removeprefix('# ')}" for line in same[0][1] if line)


def _origin(one: Inspection, name: str) -> HeaderOrigin:
    return next((origin for origin in one.origins if origin.quantity == name), HeaderOrigin(name))


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _extension(one: Inspection) -> Iterator[str]:
    images = [ext for ext in one.extensions if " x " in ext.kind]
    chosen = next((ext for ext in images if ext.used == "difference"), None)
    if chosen is not None and len(images) > 1:
        yield f"extension = {_name(chosen)}  # HDU {chosen.hdu}, {chosen.kind}"
    if chosen is None:
        yield from (f"# extension = {_name(ext)}  # {CHECK}: HDU {ext.hdu}, {ext.kind}" for ext in images)
        return
    others = [ext for ext in images if ext.used != "difference" and ext.kind == chosen.kind]
    likely = {ext.likely: _name(ext) for ext in reversed(others) if ext.likely}
    spare = (plane for plane in PLANES if plane not in likely)
    likely |= dict(zip(spare, (_name(ext) for ext in others if not ext.likely), strict=False))
    if likely:
        told = ", ".join(f"{plane} = {name}" for plane, name in likely.items())
        yield f"# planes = {{ {told} }}  # {CHECK}: of the same sides; {', '.join(PLANES)}"


def _site(one: Inspection) -> Iterator[str]:
    site, longitude = _origin(one, "longitude_deg"), one.value("longitude_deg")
    if longitude is not None and site.keyword:
        yield f"longitude_deg = {longitude}  # {site.keyword}; east{_doubt(site)}"
    elif longitude is not None:
        yield f"# longitude_deg = {longitude}  # {CHECK}: of the site, east, deg; not told, 0 is assumed"


def _unit(one: Inspection) -> Iterator[str]:
    unit, said = one.value("pixel_unit"), _origin(one, "pixel_unit")
    if unit is not None and unit != "unknown":
        yield f"pixel_unit = {_quoted(unit)}  # {said.keyword or f'{CHECK}: no BUNIT'}"
    elif unit is not None:
        yield f'# pixel_unit = "adu"  # {CHECK}: BUNIT is not known here'


def _name(ext: Extension) -> str:
    return _quoted(ext.name) if ext.name else str(ext.hdu)


def _doubt(origin: HeaderOrigin) -> str:
    return f"; {CHECK}: {origin.note}" if origin.flag else ""


def _time(one: Inspection) -> Iterator[str]:
    origin = _origin(one, "time")
    if not origin.keyword:
        yield from _asked_time(one)
        return
    yield "\n[fits.time]"
    keyword, _, clock = origin.keyword.partition(" + ")
    form, _ = STANDARD.get(keyword, ("isot", "start"))
    told = re.search(r"\bthe (start|middle|end) by\b|the (middle|end);", origin.note)
    at = "start" if told is None else told[1] or told[2]
    by_comment = told is not None and f"the {at} by the comment" in origin.note
    sure = "by its comment" if by_comment else "by the standard" if keyword in STANDARD else CHECK
    yield f"keyword = {_quoted(keyword)}{f'  # {CHECK}: {origin.note}' if origin.flag else ''}"
    if clock:
        yield f"clock = {_quoted(clock)}  # time of day"
    yield f"format = {_quoted(form)}"
    yield f'at = {_quoted(at)}  # {sure}: "start", "middle" or "end"'
    scale = re.search(r"\bin (UTC|TAI|TT|TDB|GPS)\b(?: by (?:the )?(\w+))?", origin.note)
    by = {"TIMESYS": "TIMESYS", "comment": "by its comment"}.get(scale[2] if scale else "", "of no TIMESYS")
    yield f"scale = {_quoted(scale[1].lower() if scale else 'utc')}  # {by}"
    if origin.flag:
        yield f'contradictions = "ignore"  # {CHECK}: without it such files are flagged or refused'


def _asked_time(one: Inspection) -> Iterator[str]:
    """Yield, commented out, the keywords that may hold the time, the most likely first."""
    rows = [row for row in one.unused if row.quantity == "time"]
    numbered = next((row.keyword for row in rows if row.keyword in DAY_NUMBERS and _is_number(row.value)), "")
    written = any(row.keyword == "DATE-OBS" for row in rows)
    keyword = "DATE-OBS" if written or not numbered else numbered
    yield "\n# [fits.time]"  # an empty section would name no keyword at all
    yield f"# keyword = {_quoted(keyword)}  # {CHECK}: which keyword tells the time, and in which scale?"
    if keyword in DAY_NUMBERS:
        yield f"# format = {_quoted(DAY_NUMBERS[keyword])}"
    if getattr(one.error, "code", "") == "unknown_time_scale":
        yield f'# scale = "utc"  # {CHECK}: "utc", "tai", "tt", "tdb" or "gps"'
    yield from (f"# {row.keyword} = {_quoted(row.value)}" for row in rows)


def _exposure_time(one: Inspection) -> Iterator[str]:
    origin = _origin(one, "exposure_time")
    yield from _named(one, "exposure_time")
    if origin.flag:
        told = re.match(r"in (\w+) by", origin.note)
        yield f"unit = {_quoted(told[1] if told else 's')}  # {CHECK}: {origin.note}"
    yield from _asked(one, "exposure_time", "30.0", "the exposure time, s")


def _band(one: Inspection) -> Iterator[str]:
    yield from _named(one, "band")
    yield from _asked(one, "band", '"r"', "the band")


def _asked(one: Inspection, name: str, value: str, what: str) -> Iterator[str]:
    """Yield, commented out, keywords that may hold an unknown quantity, or else a value to change."""
    if one.value(name) is not None:
        return
    rows = [row for row in one.unused if row.quantity == name]
    yield f"\n# [fits.{name}]"
    for row in rows:
        unit = f" {head_unit(_words(one).comment(row.keyword)) or 's'}" if name == "exposure_time" else ""
        yield f"# keyword = {_quoted(row.keyword)}  # {CHECK}: {row.value}{unit}?"
    if not rows:
        yield f"# value = {value}  # {CHECK}: {what}; no keyword that is known here tells it"


def _named(one: Inspection, name: str) -> Iterator[str]:
    origin = _origin(one, name)
    if origin.keyword and _words(one).has(origin.keyword):
        yield f"\n[fits.{name}]\nkeyword = {_quoted(origin.keyword)}  # {_said(one, origin.keyword)}"


def _detector(one: Inspection, apart: Varying) -> Iterator[str]:
    keyword = _origin(one, "detector").keyword
    if keyword and keyword != "EXTNAME":
        yield f"\n[fits.detector]\nkeyword = {_quoted(keyword)}  # {_said(one, keyword)}"
    elif not keyword and apart.per_detector:
        first, *rest = apart.per_detector
        others = f"; or {', '.join(rest)}" if rest else ""
        yield f"\n[fits.detector]\nkeyword = {_quoted(first)}  # {CHECK}: differs within a visit{others}"
    for row in one.unused:
        if row.quantity == "detector" and not keyword and not apart.per_detector:
            yield f"\n# [fits.detector]\n# keyword = {_quoted(row.keyword)}  # {row.value}"


def _visit(one: Inspection) -> Iterator[str]:
    for row in one.unused:
        if row.keyword in VISITS and row.value.isdigit():
            yield f"\n# [fits.visit]  # the time tells visits apart without it\n# keyword = {_quoted(row.keyword)}"
            break


def _said(one: Inspection, keyword: str) -> str:
    found = _words(one).find(keyword)
    return " ".join(str(found[1]).split()) if found is not None else ""


def _words(one: Inspection) -> Keywords:
    return Keywords(one.uri, one.headers)


def _zero_point(one: Inspection) -> Iterator[str]:
    unit, zero = one.value("pixel_unit") or "pixel unit", _origin(one, "zero_point")
    likely = [row for row in one.unused if ZERO_POINTS.fullmatch(row.keyword) and _is_number(row.value)]
    if zero.keyword and zero.keyword != "BUNIT":
        yield f"\n[fits.zero_point]\nkeyword = {_quoted(zero.keyword)}"
    elif one.value("zero_point") is None:
        sure = "" if len(likely) == 1 else "# "
        for row in likely:
            yield f"\n{sure}[fits.zero_point]"
            yield f"{sure}keyword = {_quoted(row.keyword)}  # {CHECK}: {row.value}, the AB magnitude of 1 {unit}?"
        if not likely:
            fluxes = (zero_point_of(row.value) for row in one.unused if row.keyword == FLUX_OF_ZERO)
            known = next((zero for zero in fluxes if zero is not None), None)
            by = "" if known is None else f", if it is 2.5 log10 of {FLUX_OF_ZERO}, and that the same in all images"
            yield f"\n# [fits.zero_point]  # {CHECK}: fluxes are null without it"
            yield f"# value = {25.0 if known is None else round(known, 5)}  # AB magnitude of 1 {unit}{by}"


def _gain(one: Inspection) -> Iterator[str]:
    gain, unit = _origin(one, "gain"), one.value("pixel_unit") or "pixel unit"
    if gain.keyword:
        check, note = f"; {CHECK}" if gain.flag else "", f"; {gain.note}" if gain.note else " electrons per adu"
        yield f"\n[fits.gain]\nkeyword = {_quoted(gain.keyword)}  # {_said(one, gain.keyword)}{note}{check}"
    elif one.value("gain") is None:
        yield f"\n# [fits.gain]\n# value = 1.0  # {CHECK}: electrons per {unit}"


def _saturation(one: Inspection) -> Iterator[str]:
    for row in one.unused:
        if row.keyword in SATURATIONS:
            unit = one.value("pixel_unit") or "pixel unit"
            yield f"\n# [fits.saturation]  # {CHECK}: {row.value}, in {unit} of this image?"
            yield f"# keyword = {_quoted(row.keyword)}"


def _psf(one: Inspection) -> Iterator[str]:
    yield "\n# [fits.psf_fwhm]  # stars are measured without it"
    told = ((row, unit_of_width(_words(one).comment(row.keyword))) for row in one.unused if row.quantity == "psf_fwhm")
    row, unit = next(((row, unit) for row, unit in told if unit and "SIGMA" not in row.keyword), (None, None))
    if row is not None:
        yield f'# keywords = [{_quoted(row.keyword)}]  # {row.value}\n# unit = "{unit}"  # by its comment'
    else:
        yield "# keywords = []  # or value = ..., px"
    if (fwhm := one.value("psf_fwhm")) is not None:
        beta, how = one.value("psf_beta"), "assumed" if "assumed_psf" in one.flags else "found"
        yield f"# {how} here: {fwhm_with_pixels(fwhm, beta):.5g} px as seen in the image, beta {beta}"
        if how == "assumed":
            yield f"# [fits.psf_beta]  # with both, errors of fluxes are those of the noise\n# value = {beta}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
