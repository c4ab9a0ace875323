"""Galaxy subclasses: fourteen of them, from some 800 classes of Galaxy Zoo 2."""

import re

GALAXY_CLASSES = ("Er", "Ee", "Ec", "Sa", "Sb", "Sc", "Sd", "SBa", "SBb", "SBc", "SBd", "Ser", "Seb", "Sen")
"""Ellipticals round, in between, cigar-shaped; spirals by bulge from dominant (a) to none (d), barred (SB) or not;
edge-on spirals with a round, a boxy or no bulge."""

_ELLIPTICAL = {"r": "Er", "i": "Ee", "c": "Ec"}
_CLASS = re.compile(
    r"^(?:E(?P<shape>[ric])|Se(?P<edge>[rbn])|S(?P<bar>B?)(?P<bulge>[a-d])(?:[1-4+?]?[tml]?))(?:\([a-z]\))?$"
)


def galaxy_class(raw: str) -> str | None:
    """Give the class of a Galaxy Zoo 2 ``gz2class``; None if it is none, as ``A`` (a star or an artefact).

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
