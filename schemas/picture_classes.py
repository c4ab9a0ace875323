"""Classes of pictures, and the common labels mapped to them."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas.classes import galaxy_class

MORPHOLOGIES = ("elliptical", "spiral", "edge-on", "merger")
SCENES = ("solar system", "nebula", "galaxy")
MEMBERSHIPS = ("not member", "member")

_MORPHOLOGY = {
    "elliptical": (
        "elliptical", "early type", "smooth", "round", "cigar", "e0", "lenticular", "s0", "etg", "round smooth",
        "in between round smooth", "cigar shaped smooth",
    ),
    "spiral": (
        "spiral", "barred spiral", "unbarred spiral", "late type", "ltg", "face on", "clockwise", "anticlockwise",
        "counterclockwise", "cw", "acw", "ccw", "unbarred tight spiral", "unbarred loose spiral",
    ),
    "edge-on": (
        "edge on", "edgeon", "edge on disk", "edge on disc", "edge on spiral", "disk edge on", "disc edge on",
        "edge on galaxies with bulge", "edge on galaxies without bulge",
    ),
    "merger": ("merger", "merging", "interacting", "merging pair", "galaxy merger"),
}  # fmt: skip
_SCENE = {
    "solar system": ("solar system", "planet", "dwarf planet", "sun", "moon", "comet", "asteroid"),
    "nebula": (
        "nebula", "planetary nebula", "emission nebula", "reflection nebula", "dark nebula", "supernova remnant",
    ),
    "galaxy": ("galaxy", "galaxies"),
}  # fmt: skip
_MEMBERSHIP = {
    "not member": (
        "not member", "non member", "background", "cluster or background ltg",
        "likely background etg or unresolved source",
        "likely cluster or background edge on disk galaxy", "background galaxy with possibly weak substructure",
    ),
    "member": ("member", "cluster member", "likely de/etg cluster candidate", "possible de/etg cluster candidate"),
}  # fmt: skip
_HUBBLE = {
    "elliptical": re.compile(r"E[0-7]?|S(A|B|AB)?0"),
    "spiral": re.compile(r"S(A|B|AB)?(a|ab|b|bc|c|cd|d)"),
}
"""Types of the Hubble sequence, in their usual letters; lenticular galaxies count as elliptical."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_NOT = re.compile(r"^(?:non|not|no)\s+(?:an?\s+)?(.+)$")


def morphologies(label: str) -> frozenset[str] | None:
    """Return the classes of `MORPHOLOGIES` that a label stands for; None for an unknown label.

    Parameters
    ----------
    label
        A name (``Spirals``, ``edge_on``, ``EdgeOn``, ``anticlockwise spiral``, ``merging``), its negation
        (``non_spirals``), a ``gz2class`` of Galaxy Zoo 2 (``SBb``, ``Ser``, ``Ei``; see
        `schemas.classes.galaxy_class`), a type of the Hubble sequence (``E3``, ``Sab``), or a class of Galaxy10 except
        disturbed galaxies, which have no class here. Lenticular galaxies count as elliptical, as in Galaxy Zoo 1.
    """
    if kind := galaxy_class(label):
        return frozenset({"elliptical" if kind[0] == "E" else "edge-on" if kind[:2] == "Se" else "spiral"})
    for name, types in _HUBBLE.items():
        if types.fullmatch(label.strip()):
            return frozenset({name})
    return _classes(label, _MORPHOLOGY, MORPHOLOGIES)


def scenes(label: str) -> frozenset[str] | None:
    """Return the classes of `SCENES` that a label stands for (``planets``, ``Nebulae``); None for an unknown label."""
    return _classes(label, _SCENE, SCENES)


def memberships(label: str) -> frozenset[str] | None:
    """Return the class of `MEMBERSHIPS` that a label stands for; None for an unknown label.

    Parameters
    ----------
    label
        ``member``, ``not member``, or the name of a class in the Perseus catalogue (Wittmann et al. 2019, ApJS 245,
        10). Likely mergers and galaxies with the redshift of a star (``star``) have neither class.
    """
    return _classes(label, _MEMBERSHIP, MEMBERSHIPS)


class PictureTask(NamedTuple):
    """Classification task for pictures: its classes, and the function from a label to classes."""

    classes: tuple[str, ...]
    rule: Callable[[str], frozenset[str] | None]


PICTURE_TASKS: Mapping[str, PictureTask] = {
    "morphology": PictureTask(MORPHOLOGIES, morphologies),
    "scene": PictureTask(SCENES, scenes),
    "cluster": PictureTask(MEMBERSHIPS, memberships),
}


def _classes(label: str, names: Mapping[str, tuple[str, ...]], classes: tuple[str, ...]) -> frozenset[str] | None:
    plain = re.sub(r"[\s_\u2010-\u2015-]+", " ", _CAMEL.sub(" ", label.strip()).lower())
    known = {_singular(alias): name for name, aliases in names.items() for alias in aliases}
    if found := known.get(_singular(plain)):
        return frozenset({found})
    if (other := _NOT.match(plain)) and (found := known.get(_singular(other[1]))):
        return frozenset(classes) - {found}
    return None


def _singular(name: str) -> str:
    """Return a label in the singular, without "galaxies" at its end."""
    words = name.split(" ")
    if len(words) > 1 and words[-1] in ("galaxy", "galaxies"):
        words = words[:-1]
    if words[0] in ("anti", "counter") and words[1:2] == ["clockwise"]:
        words = [words[0] + words[1], *words[2:]]
    if len(words) > 1 and words[0] in ("clockwise", "anticlockwise", "counterclockwise", "cw", "acw", "ccw"):
        words = words[:1]
    last = "nebula" if words[-1] == "nebulae" else words[-1]
    return " ".join([*words[:-1], last.removesuffix("s") if len(last) > 2 else last])
