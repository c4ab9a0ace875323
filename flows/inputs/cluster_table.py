"""Tables of galaxies towards clusters."""

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from astropy.table import Table
from numpy.typing import NDArray

from flows.inputs.files import csv_separator
from flows.runtime.settings import require_there
from schemas.errors import BadInput, read_failure

Floats = NDArray[np.float64]

NUMBERS = ("g", "r", "z", "zphot", "zphot_err", "radius", "cluster_z", "redshift", "member", "published", "ra", "dec")
"""Columns that are read; those up to ``cluster_z`` are required, except zphot_err."""

_NEEDED = ("g", "r", "z", "zphot", "cluster_z", "radius")

_NAMES = {
    "g": ("g", "gmag", "mag_g", "g_mag", "gsdss"),
    "r": ("r", "rmag", "mag_r", "r_mag", "rsdss"),
    "z": ("z", "zmag", "mag_z", "z_mag", "zsdss"),
    "zphot": ("zphot", "photoz", "z_phot", "photo_z", "zml"),
    "zphot_err": ("zphot_err", "photoz_err", "z_phot_err", "e_zphot"),
    "radius": ("radius_r200", "r_r200", "radius/r200", "r/r200"),
    "cluster_z": ("cluster_z", "z_cluster", "zspec_cls", "zcl"),
    "redshift": ("redshift", "zspec", "z_spec"),
    "member": ("member", "is_member"),
    "ra": ("ra", "ra_deg", "_ra"),
    "dec": ("dec", "de", "dec_deg", "_de"),
    "cluster": ("cluster", "cluster_id", "icls"),
}

_KNOWN = {one for name, names in _NAMES.items() for one in (*names, f"{name}_")}

_FIELDS = 44
_PLACES = {
    "ra": 0, "dec": 1, "g": 7, "r": 9, "z": 13, "redshift": 14, "member": 21, "radius": 27, "zphot": 29,
    "zphot_err": 30, "cluster_z": 37, "cluster": 38, "published": 40,
}  # fmt: skip
"""Columns of the table published by S-PLUS, by position: its first line, written by hand, is no usable header."""

_HIGHEST = 12.0
_SENTINELS = (9.0, 99.0, 99.99, 999.0, 9999.0, 99999.0)
_FAINTEST = 40.0
_BRIGHTEST_MEDIAN = 5.0
_OF_FLUX = "convert fluxes: m = 8.90 - 2.5 log10(f / Jy), or 22.5 - 2.5 log10(f / nanomaggy)."
_FLUX = re.compile("jy|magg|mgy|erg|watt|count|adu|electron", re.IGNORECASE)
_DISTANCE = re.compile("pc|deg|arc|rad|km", re.IGNORECASE)
_GIVEN = dict.fromkeys(("g", "r", "z"), (0.0, _FAINTEST)) | {
    "zphot": (-0.1, _HIGHEST), "zphot_err": (0.0, _HIGHEST), "radius": (-1e-9, 1e4), "cluster_z": (0.0, _HIGHEST),
    "redshift": (-0.1, _HIGHEST),
}  # fmt: skip
"""Column -> limits of valid values; a value beyond them counts as missing."""

STAR_BELOW = 0.01
"""Redshift below which a row is taken to be a star."""

_LIGHT = 299_792.458
_FASTEST = 3000.0
"""Maximum velocity of a member relative to its cluster, km/s, used if the table gives no class."""


@dataclass(frozen=True)
class ClusterTable:
    """Galaxies towards clusters.

    Attributes
    ----------
    columns
        Name of `NUMBERS` -> (n,) float64; NaN where there is no value.
    cluster : (n,) str
        Name of the cluster; empty if it has none.
    truth
        Source of ``member``: ``the table``, ``redshifts`` or ``none``.
    star_redshifts
        Number of rows left out because their redshift is that of a star.
    not_given
        Column -> number of values that count as missing because they are beyond its limits.
    """

    columns: Mapping[str, Floats]
    cluster: NDArray[np.str_]
    truth: str
    star_redshifts: int
    not_given: Mapping[str, int]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.cluster)


def read_clusters(path: Path) -> ClusterTable:
    """Read a table of galaxies.

    Parameters
    ----------
    path
        CSV, FITS, ECSV or Parquet with the columns ``g``, ``r``, ``z`` (AB mag), ``zphot``, ``cluster_z`` and
        ``radius_r200`` (distance from the centre in units of R200), and optionally ``zphot_err``, ``redshift``
        (spectroscopic), ``member`` (1, 0 or empty), ``cluster``, ``ra`` and ``dec`` (degrees). Or the table of 44
        columns published by S-PLUS. Values beyond a column's limits count as missing: magnitudes must be between 0 and
        40, redshifts between -0.1 and 12 (of clusters above 0), errors above 0 and below 12, distances at least 0.

    Returns
    -------
    ClusterTable
        A galaxy is a member according to the column ``member``; without that column, if its redshift is within
        3,000 km/s of its cluster's. Rows with a redshift below 0.01 are left out as stars. Where the magnitudes have
        other names (``gmag``, ``rmag``, ``zmag``), ``z`` is the redshift.

    Raises
    ------
    Misconfigured
        The file does not exist.
    BadInput
        The file cannot be read, a column is missing or not numeric, or there are no rows; ``member`` is neither 1 nor 0
        (``bad_class``), redshifts are velocities, magnitudes fluxes, or distances not in R200 (``wrong_units``).
    """
    require_there(path, "another table.")
    if path.is_dir():
        raise BadInput("unreadable_table", str(path), "is a folder.", "name one table in it.")
    rows = _published(path)
    columns, cluster = _of_rows(rows, path) if rows is not None else _of_names(_table(path), path)
    _require_usable(columns, path)
    not_given = dict[str, int]()
    for name, (low, high) in _GIVEN.items():
        beyond = (columns[name] <= low) | (columns[name] >= high)
        columns[name] = np.where(beyond, np.nan, columns[name])
        not_given |= {name: int(beyond.sum())} if beyond.any() else {}
    truth = "the table" if np.isfinite(columns["member"]).any() else "redshifts"
    if truth == "redshifts":
        columns["member"] = redshift_member(columns["redshift"], columns["cluster_z"])
        truth = "redshifts" if np.isfinite(columns["member"]).any() else "none"
    star = columns["redshift"] < STAR_BELOW
    kept = {name: values[~star] for name, values in columns.items()}
    return ClusterTable(kept, cluster[~star], truth, int(star.sum()), not_given)


def _require_usable(columns: Mapping[str, Floats], path: Path) -> None:
    for name in ("member", "published"):
        values = columns[name]
        for row in np.flatnonzero(np.isfinite(values) & (values != 0) & (values != 1))[:1]:
            problem = f"row {row + 1} of column {name} is {values[row]:g}, which is neither 1 (member) nor 0."
            raise BadInput("bad_class", str(path), problem, "leave empty what is not known.")
    for name in ("g", "r", "z"):
        given = columns[name][np.isfinite(columns[name]) & ~np.isin(np.abs(columns[name]), (0.0, *_SENTINELS))]
        if len(given) and not _BRIGHTEST_MEDIAN < (middle := float(np.median(given))) < _FAINTEST:
            problem = f"column {name} holds {middle:g} in the median, which is no magnitude."
            raise BadInput("wrong_units", str(path), problem, _OF_FLUX)
    for name in ("cluster_z", "redshift", "zphot"):
        given = columns[name][np.isfinite(columns[name]) & ~np.isin(np.abs(columns[name]), _SENTINELS)]
        if len(given) and np.median(given) >= _HIGHEST:
            problem = f"column {name} holds {np.median(given):g} in the median, which is no redshift."
            raise BadInput("wrong_units", str(path), problem, "divide velocities in km/s by 299792.458.")


def redshift_member(redshift: Floats, cluster_z: Floats) -> Floats:
    """Return 1 within 3,000 km/s of the cluster, otherwise 0, (n,); NaN without a redshift."""
    speed = _LIGHT * np.abs(redshift - cluster_z) / (1 + cluster_z)
    return np.where(np.isfinite(speed), (speed < _FASTEST).astype(np.float64), np.nan)


def _published(path: Path) -> list[list[str]] | None:
    """Return the rows of the table as published by S-PLUS; None if the file is another table."""
    with path.open("rb") as file:
        if not re.match(rb"# ?RA +DEC\b", file.read(16)):
            return None
    rows = [line.split() for line in path.read_text(errors="replace").splitlines() if not line.startswith("#")]
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, 1):
        if len(row) != _FIELDS:
            problem = f"row {number} has {len(row)} columns, not {_FIELDS}."
            raise BadInput("unreadable_table", str(path), problem, "give the table as published, or one with names.")
    return rows


def _of_rows(rows: list[list[str]], path: Path) -> tuple[dict[str, Floats], NDArray[np.str_]]:
    if not rows:
        raise BadInput("no_rows", str(path), "has no rows.", "give a row for each galaxy.")
    found = {name: _numbers([row[place] for row in rows], name, path) for name, place in _PLACES.items()}
    columns = {name: found[name] for name in NUMBERS}
    for name in ("member", "published"):  # where 0 means member
        columns[name] = 1 - columns[name]
    return columns, np.array([row[_PLACES["cluster"]] for row in rows])


def _table(path: Path) -> Table:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    kind = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".parquet": "parquet"}.get(suffix)
    try:
        if kind == "parquet":
            return _parquet(path)
        if kind is None:
            return Table.read(path)
        heading = _heading(path)
        separator = csv_separator(heading)
        # astropy gives the second one another name
        _require_once(heading.split(separator if separator in heading else None), path)
        return Table.read(path, format=kind, **({"delimiter": separator} if kind == "ascii.csv" else {}))
    except BadInput:
        raise
    except Exception as error:
        problem = f"cannot be read: {read_failure(error)}."
        raise BadInput("unreadable_table", str(path), problem, "give CSV, ECSV, FITS or Parquet.") from error


def _parquet(path: Path) -> Table:
    """Read a Parquet file: with astropy if it has written it, as units and masks are then described in the file.

    Of others it reads neither missing words nor categories. Columns that are not ours are kept empty, for their names.
    """
    file = pq.ParquetFile(path)
    if b"table_meta_yaml" in (file.schema_arrow.metadata or {}):
        return Table.read(path, format="parquet")
    names = file.schema_arrow.names
    _require_once(names, path)
    found = file.read(columns=[name for name in names if _bare(name).lower() in _KNOWN])
    table = Table({name: np.zeros(found.num_rows, bool) for name in names})
    for name, column in zip(found.column_names, found.columns, strict=True):
        table[name] = np.array(["" if one is None else one for one in column.to_pylist()], object)
    return table


def _heading(path: Path) -> str:
    """Return the line of a text table that names the columns, after the comments of an ECSV."""
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        line = file.readline(1 << 16)
        while line.startswith(b"# "):
            line = file.readline(1 << 16)
    return line.decode("utf-8-sig", "replace")


def _bare(name: str) -> str:
    return name.strip(' "\ufeff\r\n')


def _require_once(names: Sequence[str], path: Path) -> None:
    """Refuse a table that has a column of ours twice."""
    bare = [_bare(name) for name in names]
    if twice := [name for name in bare if name.lower() in _KNOWN and bare.count(name) > 1]:
        raise BadInput("stated_twice", str(path), f"has the column {twice[0]!r} more than once.", "leave one of them.")


def _require_kind(column: Any, name: str, path: Path) -> None:
    """Refuse a column with several numbers per row, or whose unit does not fit its name."""
    if len(column.shape) > 1:
        problem = f"column {column.name} holds {column.shape[1]} values in each row."
        raise BadInput("not_a_number", str(path), problem, "give one number in each row.")
    unit = str(column.unit or "").strip()
    if name in ("g", "r", "z") and _FLUX.search(unit):
        problem, remedy = f"column {column.name} is in {unit}, not in mag.", _OF_FLUX
    elif name == "radius" and _DISTANCE.search(unit):
        problem, remedy = f"column {column.name} is in {unit}, not in units of R200.", "divide it by R200."
    else:
        return
    raise BadInput("wrong_units", str(path), problem, remedy)


def _of_names(table: Table, path: Path) -> tuple[dict[str, Floats], NDArray[np.str_]]:
    small = sorted(table.colnames, key=lambda name: _bare(name).islower())  # of r and R the first is ours
    lower = {_bare(name).lower(): name for name in small}
    places = _places(lower)
    if missing := [_NAMES[name][0] for name in _NEEDED if places[name] is None]:
        problem = f"lacks the columns {missing}; it has {sorted(lower)[:20]}."
        raise BadInput("missing_columns", str(path), problem, f"name them {', '.join(missing)}.")
    if not len(table):
        raise BadInput("no_rows", str(path), "has no rows.", "give a row for each galaxy.")
    for name in NUMBERS:
        if places.get(name) is not None:
            _require_kind(table[places[name]], name, path)
    none = np.full(len(table), np.nan)
    columns = {
        name: none.copy()
        if places.get(name) is None
        else _numbers(_filled(table[places[name]]), str(places[name]), path)
        for name in NUMBERS
    }
    cluster = (
        np.zeros(len(table), "U1") if places["cluster"] is None else np.array(_filled(table[places["cluster"]]), str)
    )
    return columns, cluster


def _places(lower: Mapping[str, str]) -> dict[str, str | None]:
    """Return our name -> the table's, from lower-case names; beside ``gmag`` and ``zmag``, z is a redshift."""
    places = {
        name: next((lower[one] for one in (*names, f"{name}_") if one in lower), None) for name, names in _NAMES.items()
    }
    magnitude = next((lower[one] for one in _NAMES["z"][1:] if one in lower), None)
    if "z" in lower and magnitude is not None and not {"g", "r"} & set(lower):
        places["z"], places["redshift"] = magnitude, places["redshift"] or lower["z"]
    return places


def _filled(column: Table) -> list[object]:
    return ["" if masked else value for value, masked in zip(column.tolist(), np.ma.getmaskarray(column), strict=True)]


_WORDS = {
    "": np.nan,
    "true": 1.0,
    "false": 0.0,
    "member": 1.0,
    "not member": 0.0,
    "non-member": 0.0,
    "yes": 1.0,
    "no": 0.0,
}


def _numbers(values: list[object] | list[str], name: str, path: Path) -> Floats:
    """Convert values to (n,) float64; empty ones become NaN."""
    out = np.empty(len(values))
    for place, value in enumerate(values):
        word = str(value.decode() if isinstance(value, bytes) else "" if value is None else value).strip().lower()
        try:
            out[place] = _WORDS[word] if word in _WORDS else float(word)
        except ValueError as error:
            problem = f"row {place + 1} of column {name} is {word!r}, no number."
            raise BadInput("not_a_number", str(path), problem, "leave empty what is not known.") from error
    return out
