"""Classes of objects, and the mapping of archive labels to them."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SUPERCLASSES = ("star", "galaxy", "quasar")

_NAMES = {"STAR": "star", "GALAXY": "galaxy", "QSO": "quasar", "QUASAR": "quasar"}


def superclass(raw: str) -> str | None:
    """Return the superclass of an SDSS ``class`` (``STAR``, ``GALAXY``, ``QSO``, case ignored); None for others."""
    return _NAMES.get(raw.strip().upper())


STELLAR_CLASSES = ("O", "B", "A", "F", "G", "K", "M", "D", "C", "d")
"""Letters of the MK system; D white dwarf, C carbon star, d brown dwarf (L, T, Y)."""

_STAR_NAME = re.compile(r"\s*\(.*")  # templates include the number of their star: "F5V (30743)"
_WHITE_DWARF = re.compile(r"^(WD|D[ABCOQXZ])|WD$", re.IGNORECASE)
_CARBON = re.compile(r"^Carbon|^C$|^C[-\d]|^[RN]\d", re.IGNORECASE)
_BROWN_DWARF = re.compile(r"^[LTY](\d|\.|$)|^[LTY] ?dwarf", re.IGNORECASE)
_LETTER = re.compile(r"^(?:sd:?|esd|usd|d(?=[FGKM]))?([OBAFGKM])(?=B?$|\d|[IV]|[/+:-]|[mpe](?:$|\W))")


def stellar_class(raw: str) -> str | None:
    """Return the class of an SDSS ``subClass`` or of an MK type; None if it is not one of the ten stellar classes.

    Parameters
    ----------
    raw
        ``F5V (30743)``, ``M3``, ``sdF3``, ``WDhotter``, ``CarbonWD``, ``Carbon_lines``, ``L5.5``, ``K2/K3III`` …

    Notes
    -----
    The first rule that applies is used. White dwarfs (``WD…``, ``…WD``, ``DA`` and similar) are D, with or without
    carbon. Carbon stars (``Carbon…``, ``C``, the older ``R`` and ``N``) are C. L, T and Y are d. All others take the
    first letter of the type, after any subdwarf prefix: ``OB`` is O, ``K2/M0`` is K. Cataclysmic variables (``CV``),
    Wolf-Rayet stars and galaxy classes (``AGN``, ``STARBURST``, ``BROADLINE``) have none.
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
"""Ellipticals: round, intermediate, cigar-shaped; spirals by bulge from dominant (a) to none (d), barred (SB) or not;
edge-on spirals with a round, a boxy or no bulge."""

_ELLIPTICAL = {"r": "Er", "i": "Ee", "c": "Ec"}
_CLASS = re.compile(
    r"^(?:E(?P<shape>[ric])|Se(?P<edge>[rbn])|S(?P<bar>B?)(?P<bulge>[a-d])(?:[1-4+?]?[tml]?))(?:\([a-z]\))?$"
)


def galaxy_class(raw: str) -> str | None:
    """Return the class of a Galaxy Zoo 2 ``gz2class``; None if it is not a galaxy, as ``A`` (a star or an artefact).

    Notes
    -----
    The strings are those of Willett et al. 2013 (MNRAS 435, 2835, appendix): ``E`` and roundness (``r``, ``i``,
    ``c``); ``Se`` and the bulge seen edge-on (``r``, ``b``, ``n``); ``S`` or ``SB`` and the bulge (``a`` to ``d``).
    The rest is ignored: the number of arms (``1`` to ``4``, ``+``, ``?``), their winding (``t``, ``m``, ``l``) and an
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
        Index of the class; -1 if the label has none.
    unknown
        Label without a class -> number of rows, most frequent first.
    """

    code: NDArray[np.int16]
    unknown: dict[str, int]


def map_labels(raw: pa.Array | pa.ChunkedArray, rule: Callable[[str], str | None], classes: Sequence[str]) -> Mapped:
    """Map labels to classes, applying the rule once per distinct label.

    Parameters
    ----------
    raw
        Labels as given by the archive; null counts as the empty label.
    rule
        Function from a stripped label to a class or None.
    classes
        All classes of the rule, in the order of the codes.
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
