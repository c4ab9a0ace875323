"""Stellar subclasses: ten of them, from some 170 spectral types."""

import re

STELLAR_CLASSES = ("O", "B", "A", "F", "G", "K", "M", "D", "C", "d")
"""Letters of the MK system; D white dwarf, C carbon star, d brown dwarf (L, T, Y)."""

_STAR_NAME = re.compile(r"\s*\(.*")  # templates are given with their star: "F5V (30743)"
_WHITE_DWARF = re.compile(r"^(WD|D[ABCOQXZ])|WD$", re.IGNORECASE)
_CARBON = re.compile(r"^Carbon|^C$|^C[-\d]|^[RN]\d", re.IGNORECASE)
_BROWN_DWARF = re.compile(r"^[LTY](\d|\.|$)|^[LTY] ?dwarf", re.IGNORECASE)
_LETTER = re.compile(r"^(?:sd:?|esd|usd|d(?=[FGKM]))?([OBAFGKM])(?=B?$|\d|[IV]|[/+:-]|[mpe](?:$|\W))")


def stellar_class(raw: str) -> str | None:
    """Give the class of an SDSS ``subClass`` or of an MK type; None if it names no star of the ten classes.

    Parameters
    ----------
    raw
        ``F5V (30743)``, ``M3``, ``sdF3``, ``WDhotter``, ``CarbonWD``, ``Carbon_lines``, ``L5.5``, ``K2/K3III`` …

    Notes
    -----
    Rules, the first that holds: white dwarfs (``WD…``, ``…WD``, ``DA`` and its like) are D, carbon in them or not;
    carbon stars (``Carbon…``, ``C``, the older ``R`` and ``N``) C; L, T and Y d; otherwise the first letter of
    the type, with or without the prefix of a subdwarf, so that ``OB`` is O and ``K2/M0`` K. Cataclysmic variables
    (``CV``), Wolf-Rayet stars and the classes of galaxies (``AGN``, ``STARBURST``, ``BROADLINE``) are none.
    """
    name = _STAR_NAME.sub("", raw.strip())
    if _WHITE_DWARF.search(name):
        return "D"
    if _CARBON.search(name):
        return "C"
    if _BROWN_DWARF.search(name):
        return "d"
    letter = _LETTER.match(name)
    return letter.group(1) if letter else None
