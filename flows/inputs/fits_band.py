"""Band according to a header, of one filter or several filter wheels."""

import re

from flows.inputs.fits_header import HeaderOrigin, Keywords, unmapped
from schemas.errors import BadInput
from schemas.keyword_mapping import BandFromHeader

_EMPTY = frozenset({"CLEAR", "CLR", "OPEN", "NONE", "EMPTY", "AIR", "BLANK", "NO", "NOFILTER", "NULL", "N/A", "HOLE"})
"""Names of wheel positions without a filter, in capitals, without spaces and trailing numbers."""

_WHEELS = ("FILTER", *(f"FILTER{number}" for number in range(1, 7)), *(f"FILTER0{number}" for number in range(1, 7)))


COLOUR_MOSAIC = "colour_mosaic"
"""Exposure flag: the pixels have colour filters of their own (BAYERPAT)."""

_BAYER = re.compile("[RGB]{4}")


def band_of(words: Keywords, given: BandFromHeader) -> tuple[str, HeaderOrigin]:
    """Return the band: from the settings or the keyword; if that names no filter, from the only wheel with one.

    An exposure with BAYERPAT, whose pixels have filters of their own, is flagged.

    Raises
    ------
    BadInput
        ``missing_keyword``; ``invalid_keyword``: it names no filter, but several other keywords do.
    Misconfigured
        The settings name neither a keyword nor a band.
    """
    band, origin = _filter_of(words, given)
    pattern = str((words.find("BAYERPAT") or ("", ""))[1]).strip().upper()
    if not _BAYER.fullmatch(pattern):
        return band, origin
    note = f"BAYERPAT is {pattern}: separate the colours first, if that was not done"
    return band, origin._replace(note="; ".join(filter(None, (origin.note, note))), flag=COLOUR_MOSAIC)


def _filter_of(words: Keywords, given: BandFromHeader) -> tuple[str, HeaderOrigin]:
    if given.keyword is None:
        if given.value is None:
            raise unmapped("fits.band")
        band = str(given.value)
        return given.aliases.get(band, band), HeaderOrigin("band", note="of the settings")
    band = words.text(given.keyword)
    if band in given.aliases or not _is_empty(band):
        return given.aliases.get(band, band), HeaderOrigin("band", given.keyword)
    others = {name: words.text(name) for name in _WHEELS if name != given.keyword and words.has(name)}
    filled = {name: text for name, text in others.items() if not _is_empty(text)}
    if not filled:
        note = "no filter by its name; if that is another band, give aliases in [fits.band]"
        return band, HeaderOrigin("band", given.keyword, note, assumed=True)
    if len(set(filled.values())) > 1:
        raise BadInput(
            "invalid_keyword",
            words.where,
            f"{given.keyword} is {band!r}, which is no filter, and "
            f"{' and '.join(f'{name} is {text!r}' for name, text in filled.items())}.",
            "name the keyword of the band in the settings, section [fits.band].",
        )
    name, text = next(iter(filled.items()))
    note = f"{given.keyword} is {band!r}, which is no filter"
    return given.aliases.get(text, text), HeaderOrigin("band", name, note)


def _is_empty(name: str) -> bool:
    return "".join(name.upper().split()).rstrip("0123456789_-") in _EMPTY
