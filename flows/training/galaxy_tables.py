"""A table of galaxies that has no magnitudes: colours, ellipticity, fourth moments and Petrosian radii."""

from pathlib import Path

import numpy as np

from flows.training.spectral_sample import Sample
from schemas.errors import BadInput

GALAXY_KINDS = ("elliptical", "merger", "spiral")

_COLOURS = {"u-g": "colourUG", "g-r": "colourGR", "r-i": "colourRI", "i-z": "colourIZ"}
_RADII = ("u", "r", "z")
_OTHERS = ("ecc", *(f"m4_{band}" for band in "ugriz"))
_LABEL = "class"
_SENTINEL = -999.0  # and below: the archive's word for no value


def is_galaxy_table(path: Path) -> bool:
    """Whether a file is such a table, by its ending."""
    return path.suffix == ".npy"


def galaxy_sample(path: Path, task: str) -> tuple[Sample, tuple[str, ...]]:
    """Read the table.

    Parameters
    ----------
    path
        Structured array: ``u-g`` to ``i-z`` (mag), ``ecc``, ``m4_u`` to ``m4_z``, ``petroR50_`` and ``petroR90_`` of
        u, r and z (arcsec), ``class`` (elliptical, merger or spiral). Nothing in the file is unpickled.
    task
        ``kind``.

    Returns
    -------
    sample, features
        These columns, and the concentration petroR50 / petroR90 of each of the three bands. A row that is there twice
        counts once.

    Raises
    ------
    BadInput
        Another task, columns are missing, or a class is none of `GALAXY_KINDS`.
    """
    if task != "kind":
        raise BadInput("wrong_task", str(path), f"has no labels for {task!r}.", "use --task kind.")
    rows = np.unique(_read(path))
    code = np.array([GALAXY_KINDS.index(name) if name in GALAXY_KINDS else -1 for name in rows[_LABEL]], np.int16)
    if (code < 0).any():
        unknown = sorted(set(rows[_LABEL][code < 0].tolist()))[:5]
        raise BadInput("unknown_label", str(path), f"has the classes {unknown}.", f"name them {list(GALAXY_KINDS)}.")
    values = {name: np.where(rows[name] > _SENTINEL, rows[name], np.nan) for name in _names()}
    columns = {_COLOURS.get(name, name): value.astype(np.float32) for name, value in values.items()}
    for band in _RADII:
        inner, outer = values[f"petroR50_{band}"], values[f"petroR90_{band}"]
        ratio = np.divide(inner, outer, out=np.full(len(rows), np.nan), where=outer > 0)
        columns[f"concentration_{band}"] = ratio.astype(np.float32)
    notes = {"table": path.name, "rows": len(rows), "split_by": "row"}
    return Sample(columns, code, GALAXY_KINDS, np.arange(len(rows)), notes), tuple(columns)


def _names() -> tuple[str, ...]:
    return (*_COLOURS, *_OTHERS, *(f"petroR{share}_{band}" for share in (50, 90) for band in _RADII))


def _read(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        problem = f"is not an array that can be read ({type(error).__name__}: {error})."
        raise BadInput("bad_npy", str(path), problem, "save it with numpy.save, without objects.") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 1 or not len(rows):
        problem = f"is {getattr(rows, 'shape', type(rows).__name__)}, not one axis of rows."
        raise BadInput("bad_npy", str(path), problem, "save the table itself with numpy.save.")
    if missing := [name for name in (*_names(), _LABEL) if name not in (rows.dtype.names or ())]:
        raise BadInput(
            "missing_columns", f"columns {missing}", f"{path} has {rows.dtype.names}.", "give a whole table."
        )
    if words := [name for name in _names() if rows.dtype[name].kind not in "fiu"]:
        raise BadInput("bad_columns", f"columns {words}", "are not numbers.", "save them as numbers.")
    return rows
