"""Columns of SDSS tables, and the columns used by classifiers of catalogue rows."""

from collections.abc import Collection, Sequence
from itertools import combinations

from schemas.errors import BadInput

BANDS = ("u", "g", "r", "i", "z")

_ERRORS = {
    "{}": "err_{}",
    "modelMag_{}": "modelMagErr_{}",
    "cModelMag_{}": "cModelMagErr_{}",
    "psfMag_{}": "psfMagErr_{}",
    "petroMag_{}": "petroMagErr_{}",
    "dered_{}": "modelMagErr_{}",
}
"""Name of a kind of magnitudes -> that of their errors; the first kind that a table has is used."""

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
        Columns are missing, and the message names all of them; or one that is used is there twice (``stated_twice``).

    Notes
    -----
    All magnitudes are of one kind: the first of ``u``, ``modelMag_u``, ``cModelMag_u``, ``psfMag_u``, ``petroMag_u``,
    ``dered_u`` for which the table has all requested bands, or if there is none, the first with all that are required.
    Errors of the same kind are preferred. The redshift of `SpecObj` is ``z`` in a table whose magnitudes have other
    names, and ``z1`` in a table with a magnitude ``z``.
    """
    kind, found = _bands(columns, wanted, optional)
    for name in (*wanted, *optional):
        patterns = _patterns(name)
        if name == "redshift" and found and kind != "{}":
            patterns = (*patterns, "z")
        if name.startswith("err_"):
            patterns = (_ERRORS[kind].format(name[-1]), *patterns)
        if name not in BANDS and (column := _first(columns, patterns)):
            found[name] = column
    if missing := [name for name in wanted if name not in found]:
        names = "; ".join(" or ".join(_patterns(name)) for name in missing)
        raise BadInput(
            "missing_columns",
            f"column{'s' * (len(missing) > 1)} {', '.join(missing)}",
            f"not in the table under any name: {names}. It has {', '.join(columns)}.",
            "ask the archive for them, or rename the columns; magnitudes are of one kind.",
        )
    if twice := [column for column in found.values() if columns.count(column) > 1]:
        raise BadInput("stated_twice", f"column {twice[0]!r}", "is in the table more than once.", "leave one of them.")
    return found


def _bands(columns: Sequence[str], wanted: Collection[str], optional: Collection[str]) -> tuple[str, dict[str, str]]:
    """Return the kind of magnitudes that has most of the bands, above all of those wanted, and their columns."""
    kinds = {}
    for kind in _ERRORS:
        named = ((band, _first(columns, (kind.format(band),))) for band in (*wanted, *optional) if band in BANDS)
        kinds[kind] = {band: column for band, column in named if column}
    best = max(kinds, key=lambda kind: (len(kinds[kind].keys() & wanted), len(kinds[kind])))
    return best, kinds[best]


def _patterns(name: str) -> tuple[str, ...]:
    if name in BANDS:
        return tuple(kind.format(name) for kind in _ERRORS)
    if name.startswith("err_"):
        return tuple(dict.fromkeys(pattern.format(name[-1]) for pattern in _ERRORS.values()))
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
