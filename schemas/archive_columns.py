"""Columns of SDSS tables, and the columns used by classifiers of catalogue rows."""

from collections.abc import Collection, Sequence
from itertools import combinations

from schemas.errors import BadInput

BANDS = ("u", "g", "r", "i", "z")

_FAMILIES = ("{}", "modelMag_{}", "cModelMag_{}", "psfMag_{}", "petroMag_{}", "dered_{}")
_ERRORS = ("err_{}", "modelMagErr_{}", "cModelMagErr_{}", "psfMagErr_{}", "petroMagErr_{}")
_OTHERS = {
    "redshift": ("redshift", "specz", "z_spec", "zspec", "z1"),
    "plate": ("plate",),
    "petroRad_r": ("petroRad_r", "petroR_r"),
    "class": ("class", "specClass"),
    "subClass": ("subClass",),
    "gz2class": ("gz2class", "gz2_class"),
    "objid": ("objid", "bestObjID", "dr7objid", "obj_ID"),
}

WORDS = ("class", "subClass", "gz2class")
"""Columns of strings; all others but `objid` are numbers."""

NAMES = (*BANDS, *(f"err_{band}" for band in BANDS), *_OTHERS)
"""Names that `locate_columns` accepts."""


def locate_columns(columns: Sequence[str], wanted: Collection[str], optional: Collection[str] = ()) -> dict[str, str]:
    """Return the name that each column has in a table.

    Parameters
    ----------
    columns
        Names in the table; case is ignored if no name matches exactly.
    wanted, optional
        Names from `NAMES`: required ones, and those used only if present.

    Returns
    -------
    dict
        Name in `NAMES` -> name in the table.

    Raises
    ------
    BadInput
        Columns are missing; the message names all of them.

    Notes
    -----
    All magnitudes are of one kind: the first of ``u``, ``modelMag_u``, ``cModelMag_u``, ``psfMag_u``, ``petroMag_u``,
    ``dered_u`` for which the table has all requested bands. The redshift of `SpecObj` is ``z`` in a table whose
    magnitudes have other names, and ``z1`` in a table with a magnitude ``z``.
    """
    asked = [*wanted, *optional]
    found = _bands(columns, [name for name in asked if name in BANDS])
    for name in asked:
        patterns = _patterns(name)
        if name == "redshift" and found.get("z", "z").lower() != "z":
            patterns = (*patterns, "z")
        if name not in found and (column := _first(columns, patterns)):
            found[name] = column
    if missing := [name for name in wanted if name not in found]:
        names = "; ".join(" or ".join(_patterns(name)) for name in missing)
        raise BadInput(
            "missing_columns",
            f"column{'s' * (len(missing) > 1)} {', '.join(missing)}",
            f"not in the table under any name: {names}. It has {', '.join(columns)}.",
            "ask the archive for them, or rename the columns.",
        )
    return found


def _bands(columns: Sequence[str], bands: Sequence[str]) -> dict[str, str]:
    for family in _FAMILIES:
        found = {band: _first(columns, (family.format(band),)) for band in bands}
        if all(found.values()):
            return {band: column for band, column in found.items() if column}
    return {}


def _patterns(name: str) -> tuple[str, ...]:
    if name in BANDS:
        return tuple(family.format(name) for family in _FAMILIES)
    if name.startswith("err_"):
        return tuple(pattern.format(name[-1]) for pattern in _ERRORS)
    return _OTHERS[name]


def _first(columns: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {column.strip().lower(): column for column in reversed(columns)}
    for name in names:
        if name in columns:
            return name
        if name.lower() in lower:
            return lower[name.lower()]
    return None


COLOURS = tuple(f"{blue}-{red}" for blue, red in combinations(BANDS, 2))
"""All ten colours; if a band is missing, those of the other bands are used."""

FEATURE_SETS = {
    "n5": BANDS,
    "n8": (*BANDS, "petroRad_r", "redshift", "g-r"),
    "photometry": (*COLOURS, "r"),
    "photometry-redshift": (*COLOURS, "r", "redshift"),
    "colours": COLOURS,
}
"""Name -> features. ``n5`` and ``n8`` have as many as in the classification study with which this stage is compared;
``photometry`` needs no spectrum; ``colours`` do not depend on the magnitude limits of a survey's targets."""


def columns_of(features: tuple[str, ...]) -> tuple[str, ...]:
    """Return the table columns from which features are computed, in the order of first use."""
    return tuple(dict.fromkeys(column for feature in features for column in feature.split("-")))
