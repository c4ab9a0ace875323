"""Classes of objects, and the labels of archives mapped to them."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SUPERCLASSES = ("star", "galaxy", "quasar")

_NAMES = {"STAR": "star", "GALAXY": "galaxy", "QSO": "quasar", "QUASAR": "quasar"}


def superclass(raw: str) -> str | None:
    """Return the superclass of an SDSS ``class`` (``STAR``, ``GALAXY``, ``QSO``, in any case); None if it has none."""
    return _NAMES.get(raw.strip().upper())


STELLAR_CLASSES = ("O", "B", "A", "F", "G", "K", "M", "D", "C", "d")
"""Letters of the MK system; D white dwarf, C carbon star, d brown dwarf (L, T, Y)."""

_STAR_NAME = re.compile(r"\s*\(.*")  # templates are given with their star: "F5V (30743)"
_WHITE_DWARF = re.compile(r"^(WD|D[ABCOQXZ])|WD$", re.IGNORECASE)
_CARBON = re.compile(r"^Carbon|^C$|^C[-\d]|^[RN]\d", re.IGNORECASE)
_BROWN_DWARF = re.compile(r"^[LTY](\d|\.|$)|^[LTY] ?dwarf", re.IGNORECASE)
_LETTER = re.compile(r"^(?:sd:?|esd|usd|d(?=[FGKM]))?([OBAFGKM])(?=B?$|\d|[IV]|[/+:-]|[mpe](?:$|\W))")


def stellar_class(raw: str) -> str | None:
    """Return the class of an SDSS ``subClass`` or of an MK type; None if it names no star of the ten classes.

    Parameters
    ----------
    raw
        ``F5V (30743)``, ``M3``, ``sdF3``, ``WDhotter``, ``CarbonWD``, ``Carbon_lines``, ``L5.5``, ``K2/K3III`` …

    Notes
    -----
    Rules, the first that holds: white dwarfs (``WD…``, ``…WD``, ``DA`` and its like) are D, carbon in them or not;
    carbon stars (``Carbon…``, ``C``, the older ``R`` and ``N``) C; L, T and Y d; otherwise the first letter of
    the type, with or without the prefix of a subdwarf, so that ``OB`` is O and ``K2/M0`` K. Cataclysmic variables
    (``CV``), Wolf-Rayet stars and the classes of galaxies (``AGN``, ``STARBURST``, ``BROADLINE``) have none.
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


GALAXY_CLASSES = ("Er", "Ee", "Ec", "Sa", "Sb", "Sc", "Sd", "SBa", "SBb", "SBc", "SBd", "Ser", "Seb", "Sen")
"""Ellipticals round, in between, cigar-shaped; spirals by bulge from dominant (a) to none (d), barred (SB) or not;
edge-on spirals with a round, a boxy or no bulge."""

_ELLIPTICAL = {"r": "Er", "i": "Ee", "c": "Ec"}
_CLASS = re.compile(
    r"^(?:E(?P<shape>[ric])|Se(?P<edge>[rbn])|S(?P<bar>B?)(?P<bulge>[a-d])(?:[1-4+?]?[tml]?))(?:\([a-z]\))?$"
)


def galaxy_class(raw: str) -> str | None:
    """Return the class of a Galaxy Zoo 2 ``gz2class``; None if it is not one, as ``A`` (a star or an artefact).

    Notes
    -----
    The strings are those of Willett et al. 2013 (MNRAS 435, 2835, appendix): ``E`` and roundness (``r``, ``i``,
    ``c``); ``Se`` and the bulge seen edge-on (``r``, ``b``, ``n``); ``S`` or ``SB`` and the bulge (``a`` to ``d``),
    then, which we leave out, number of arms (``1`` to ``4``, ``+``, ``?``), their winding (``t``, ``m``, ``l``) and an
    odd feature in brackets.
    """
    found = _CLASS.match(raw.strip())
    if not found:
        return None
    if shape := found["shape"]:
        return _ELLIPTICAL[shape]
    if edge := found["edge"]:
        return f"Se{edge}"
    return f"S{found['bar']}{found['bulge']}"


class Mapped(NamedTuple):
    """Labels with their classes.

    Attributes
    ----------
    code : (n,) int16
        Index of the class; -1 where the label has none.
    unknown
        Label -> how many rows have it, of those without a class, most frequent first.
    """

    code: NDArray[np.int16]
    unknown: dict[str, int]


def map_labels(raw: pa.Array | pa.ChunkedArray, rule: Callable[[str], str | None], classes: Sequence[str]) -> Mapped:
    """Map labels by a rule, once per different label.

    Parameters
    ----------
    raw
        Strings as the archive gives them; null counts as the empty label.
    rule
        From a label without outer blanks to a class, or None.
    classes
        All that the rule gives, in the order of the codes.
    """
    combined = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
    encoded = combined.cast(pa.string()).fill_null("").dictionary_encode()
    labels = [label.strip() for label in encoded.dictionary.to_pylist()]
    found = [rule(label) for label in labels]
    codes = np.array([-1 if one is None else classes.index(one) for one in found], np.int16)
    index = encoded.indices.to_numpy()
    count = np.bincount(index, minlength=len(labels))
    unknown: dict[str, int] = {}
    for label, code, rows in zip(labels, codes, count, strict=True):
        if code < 0:
            unknown[label] = unknown.get(label, 0) + int(rows)
    order = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    return Mapped(codes[index] if len(labels) else np.empty(0, np.int16), dict(order))
