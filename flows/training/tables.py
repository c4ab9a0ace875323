"""Tables of stars or galaxies without magnitudes in ugriz."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from flows.training.spectral_sample import Sample
from schemas.classes import STELLAR_CLASSES, map_labels, stellar_class
from schemas.errors import BadInput, read_failure

STAR_TYPES = ("brown dwarf", "red dwarf", "white dwarf", "main sequence", "supergiant", "hypergiant")

HOT_TO_COOL = ("blue", "blue-white", "white", "yellow-white", "yellow", "orange", "red")
"""Colours used in the table of 240 stars."""

_COLOURS = {
    "blue white": "blue-white",
    "yellowish white": "yellow-white",
    "white-yellow": "yellow-white",
    "whitish": "white",
    "yellowish": "yellow",
    "pale yellow orange": "orange",
    "orange-red": "orange",
}

_SEQUENCE = (
    ("O5", 41400), ("O9", 33300), ("B0", 31400), ("B2", 20600), ("B5", 15700), ("B8", 12300), ("A0", 9700),
    ("A5", 8100), ("F0", 7220), ("F5", 6550), ("G0", 5930), ("G5", 5660), ("K0", 5290), ("K2", 5100), ("K5", 4440),
    ("M0", 3850), ("M2", 3560), ("M5", 3060), ("M9", 2380),
)  # fmt: skip
"""Effective temperatures of dwarfs, K: Pecaut & Mamajek 2013 (ApJS 208, 9), table 5 as of 2024."""

_GIANTS = (
    ("G0", 5910), ("G5", 5150), ("G8", 4960), ("K0", 4810), ("K1", 4640), ("K2", 4510), ("K3", 4260), ("K4", 4080),
    ("K5", 3950), ("M0", 3850), ("M2", 3720), ("M5", 3420),
)  # fmt: skip
"""Effective temperatures of giants, K: Cox 2000, Allen's Astrophysical Quantities, and van Belle et al. 1999 (AJ 117,
521), rounded."""

_MEASURED = ("Temperature", "Luminosity", "Radius", "AbsoluteMagnitude")
_OF_SMALL = (*_MEASURED, "StarType", "StarColor", "SpectralClass")
_OF_LARGE = ("B-V", "Vmag", "Plx", "Amag", "SpType", "TargetClass")

_TYPE = re.compile(r"^([OBAFGKM])(\d(?:\.\d)?)")


def is_star_table(path: Path) -> bool:
    """Return whether a CSV file is one of the two star tables, judged by its header."""
    header = _header(path)
    return "Temperature" in header or "SpType" in header


def star_sample(path: Path, task: str) -> tuple[Sample, tuple[str, ...]]:
    """Read one of the two star tables.

    Parameters
    ----------
    path
        CSV file, possibly compressed.
    task
        ``star``: letter of the spectral type; ``kind``: the six types of the table of 240 stars, or giant and dwarf in
        the other table.

    Returns
    -------
    sample, features
        Features are the logarithms of temperature, luminosity and radius, and the absolute magnitude; or B-V, V,
        parallax and the magnitude from both. Rows with a label without class are counted and left out.

    Raises
    ------
    BadInput
        The task is another one, the table cannot be read, or a column is missing or not numeric.
    """
    table, small = _star_table(path)
    classes: tuple[str, ...] = STAR_TYPES if small else ("giant", "dwarf")
    if small:
        values = [_number(table, name) for name in _MEASURED]
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = {f"log{name}": np.log10(one) for name, one in zip(_MEASURED[:3], values, strict=False)}
        columns["absMag"] = values[3]
        label, kind = "SpectralClass", "StarType"
    else:
        columns = {"colourBV": _number(table, "B-V"), "V": _number(table, "Vmag"), "parallax": _number(table, "Plx")}
        columns["reducedMag"] = _number(table, "Amag")
        label, kind = "SpType", "TargetClass"
    columns = {name: value.astype(np.float32) for name, value in columns.items()}
    notes: dict[str, Any] = {"table": path.name, "rows": len(table), "split_by": "row"}
    if task == "kind":
        given = _number(table, kind)
        code = np.where(np.isin(given, range(len(classes))), np.nan_to_num(given), -1).astype(np.int16)
    elif task == "star":
        mapped, classes = map_labels(table[label].cast(pa.string()), stellar_class, STELLAR_CLASSES), STELLAR_CLASSES
        code, notes["labels_without_class"] = mapped.code, mapped.unknown
    else:
        raise BadInput("wrong_task", str(path), f"has no labels for {task!r}.", "use --task star or --task kind.")
    notes["rows_without_class"] = int((code < 0).sum())
    return Sample(columns, code, classes, np.arange(len(table)), notes).take(code >= 0), tuple(columns)


def _star_table(path: Path) -> tuple[pa.Table, bool]:
    """Read one of the two star tables; return also whether it is that of 240 stars."""
    try:
        table = csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        problem = f"cannot be read: {read_failure(error)}."
        raise BadInput("unreadable_table", str(path), problem, "give it as it was written.") from error
    small = _MEASURED[0] in table.column_names
    if missing := [name for name in (_OF_SMALL if small else _OF_LARGE) if name not in table.column_names]:
        problem = f"the table has {table.column_names}."
        raise BadInput("missing_columns", f"columns {missing}", problem, "give a whole table.")
    return table, small


def temperature_and_colour(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Return temperature (K) and colour of stars that have both, and a description of the colour.

    Notes
    -----
    Table of 240 stars: its temperature, and the rank of its colour name (0 blue, 6 red). Other table: the temperature
    of the spectral type, on the scale of dwarfs or giants, and B-V.
    """
    table, small = _star_table(path)
    if small:
        rank = np.array([_rank(name or "") for name in table["StarColor"].cast(pa.string()).to_pylist()])
        known = rank >= 0
        return _number(table, "Temperature")[known], rank[known].astype(float), "rank of the colour"
    dwarf = _number(table, "TargetClass") == 1
    types = table["SpType"].cast(pa.string()).to_pylist()
    hot = np.array([type_temperature(one or "", giant=not main) for one, main in zip(types, dwarf, strict=True)])
    colour = _number(table, "B-V")
    known = np.isfinite(hot) & np.isfinite(colour)
    return hot[known], colour[known], "B-V, mag"


def type_temperature(spectral_type: str, *, giant: bool) -> float:
    """Return the effective temperature of a spectral type, K; NaN if it does not begin with letter and digit.

    Giants hotter than G0 get the temperature of dwarfs.
    """
    found = _TYPE.match(spectral_type)
    if not found:
        return float("nan")
    place = _place(found.group(1), float(found.group(2)))
    scale = _GIANTS if giant and place >= _place("G", 0) else _SEQUENCE
    places = [_place(name[0], float(name[1:])) for name, _ in scale]
    return float(np.interp(place, places, [kelvin for _, kelvin in scale]))


def _place(letter: str, digit: float) -> float:
    return 10 * "OBAFGKM".index(letter) + digit


def _rank(name: str) -> int:
    plain = " ".join(name.lower().split())
    plain = _COLOURS.get(plain, plain)
    return HOT_TO_COOL.index(plain) if plain in HOT_TO_COOL else -1


def _number(table: pa.Table, name: str) -> NDArray[np.float64]:
    try:
        return table[name].cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise BadInput("bad_columns", f"columns {[name]}", "are not numbers.", "save them as numbers.") from error


def _header(path: Path) -> list[str]:
    with pa.input_stream(str(path), compression="detect") as stream:
        first = stream.read(4096).split(b"\n")[0].decode("utf-8", "replace")
    return [name.strip() for name in first.split(",")]


GALAXY_KINDS = ("elliptical", "merger", "spiral")

_GALAXY_COLOURS = {"u-g": "colourUG", "g-r": "colourGR", "r-i": "colourRI", "i-z": "colourIZ"}
_RADII = ("u", "r", "z")
_OTHERS = ("ecc", *(f"m4_{band}" for band in "ugriz"))
_LABEL = "class"
_SENTINEL = -999.0  # and below: the archive's value for missing


def is_galaxy_table(path: Path) -> bool:
    """Return whether a file is a galaxy table, judged by its extension."""
    return path.suffix == ".npy"


def galaxy_sample(path: Path, task: str) -> tuple[Sample, tuple[str, ...]]:
    """Read the galaxy table.

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
            These columns, and the concentration petroR50 / petroR90 in each of the three bands. Duplicate rows count
            once.

    Raises
    ------
    BadInput
        The task is another one, columns are missing, or a class is not in `GALAXY_KINDS`.
    """
    if task != "kind":
        raise BadInput("wrong_task", str(path), f"has no labels for {task!r}.", "use --task kind.")
    rows = np.unique(_read(path))
    code = np.array([GALAXY_KINDS.index(name) if name in GALAXY_KINDS else -1 for name in rows[_LABEL]], np.int16)
    if (code < 0).any():
        unknown = sorted(set(rows[_LABEL][code < 0].tolist()))[:5]
        raise BadInput("unknown_label", str(path), f"has the classes {unknown}.", f"name them {list(GALAXY_KINDS)}.")
    values = {name: np.where(rows[name] > _SENTINEL, rows[name], np.nan) for name in _names()}
    columns = {_GALAXY_COLOURS.get(name, name): value.astype(np.float32) for name, value in values.items()}
    for band in _RADII:
        inner, outer = values[f"petroR50_{band}"], values[f"petroR90_{band}"]
        ratio = np.divide(inner, outer, out=np.full(len(rows), np.nan), where=outer > 0)
        columns[f"concentration_{band}"] = ratio.astype(np.float32)
    notes = {"table": path.name, "rows": len(rows), "split_by": "row"}
    return Sample(columns, code, GALAXY_KINDS, np.arange(len(rows)), notes), tuple(columns)


def _names() -> tuple[str, ...]:
    return (*_GALAXY_COLOURS, *_OTHERS, *(f"petroR{share}_{band}" for share in (50, 90) for band in _RADII))


def _read(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        problem = f"is not an array that can be read: {read_failure(error)}."
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
