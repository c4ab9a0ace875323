"""Files with lists of targets, and their cells as values in our units."""

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from astropy.units import Unit

from flows.runtime.settings import require_there
from kernels.sky.times import tai
from schemas.errors import BadInput, Misconfigured, read_failure


@dataclass(frozen=True)
class TargetFile:
    """Contents of a file, not yet checked.

    Attributes
    ----------
    path
        Path of the file.
    columns
        Cells by column, one per row; text in a CSV file, None for missing values.
    units
        Units of the columns for which the file states one, in astropy's spelling.
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    units: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))


def read_target_file(path: Path) -> TargetFile:
    """Read a list of targets.

    Parquet may state units in the field metadata ``unit``, as our own catalogues do; ECSV in its header. A short row of
    a CSV file lacks the last cells; extra cells are ignored.

    Raises
    ------
    Misconfigured
        The file does not exist, cannot be read as any of the three formats, has no columns, or has one twice.
    """
    require_there(path, "another list of targets.")
    try:
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            columns, units = _parquet(content)
        elif content.startswith(b"# %ECSV"):
            columns, units = _ecsv(content)
        else:
            columns, units = _csv(path, content.decode("utf-8-sig")), {}
    except (OSError, ValueError, TypeError, csv.Error, pa.ArrowException) as error:
        raise Misconfigured(
            "unreadable_targets",
            str(path),
            f"cannot be read as Parquet, ECSV or CSV: {read_failure(error)}.",
            "give the list of targets in one of these formats.",
        ) from error
    if not columns:
        raise Misconfigured("empty_targets", str(path), "has no columns.", "name its columns in the first line.")
    return TargetFile(path, columns, units)


def _parquet(content: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, str]]:
    table = pq.read_table(BytesIO(content))
    stated = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return columns, {name: unit for name, unit in stated.items() if unit}


def _ecsv(content: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, str]]:
    from astropy.table import Column, Table

    table = Table.read(content.decode(), format="ascii.ecsv")
    # Coordinates and times are not plain columns; tolist turns masked values into None.
    plain = [name for name in table.colnames if isinstance(table[name], Column)]
    units = {name: str(table[name].unit) for name in plain if table[name].unit is not None}
    return {name: table[name].tolist() for name in plain}, units


def _csv(path: Path, text: str) -> dict[str, Sequence[Any]]:
    reader = csv.DictReader(StringIO(text, newline=""), skipinitialspace=True, strict=True)
    rows = list(reader)
    names = [name for name in reader.fieldnames or () if name]
    given = Counter(name.strip() for name in names)
    for name in ("name", *UNITS):
        if given[name] > 1:
            raise Misconfigured("stated_twice", str(path), f"has the column {name!r} twice.", "leave one of them.")
    return {name.strip(): [row[name] for row in rows] for name in names}


UNITS = {
    "ra": "deg",
    "dec": "deg",
    "epoch": "d",
    "epoch_utc": "d",
    "rate_ra_cosdec": "arcsec / h",
    "rate_dec": "arcsec / h",
    "rate": "arcsec / h",
    "position_angle": "deg",
}
"""Units of the columns; values in other units stated in the file are converted."""

_FIRST, _LAST = 41317.0, 88069.0  # MJD of 1972, when UTC got its present form, and 2100


class Cells:
    """Access to single cells.

    Parameters
    ----------
    file
        File with the cells.

    Raises
    ------
    Misconfigured
        A column has a unit that cannot be converted to ours.
    """

    def __init__(self, file: TargetFile) -> None:
        self._file = file
        self._scale = {name: _scale(file, name) for name in UNITS if name in file.columns}

    def has(self, column: str) -> bool:
        """Return whether there is such a column."""
        return column in self._file.columns

    def text(self, row: int, column: str) -> str:
        """Return a text that is not empty.

        Raises
        ------
        BadInput
            The cell is empty, or has several lines.
        """
        cell = self._cell(row, column)
        text = "" if cell is None else str(cell).strip()
        if not text or not text.isprintable():
            raise self.bad(row, column, cell, "must be a printable text of one line", "name the target.")
        return text

    def number(self, row: int, column: str, low: float, high: float) -> float:
        """Return a number from ``low`` to ``high``, in our unit.

        Raises
        ------
        BadInput
            The number is missing, invalid, or out of range.
        """
        cell = self._cell(row, column)
        try:
            value = float(cell) * self._scale[column]
        except (TypeError, ValueError):
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)):
            span = f" from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else ""
            span = f" of at least {low:g}" if math.isfinite(low) and not span else span
            raise self.bad(row, column, cell, f"must be a number{span} ({UNITS[column]})", "correct it.")
        return value

    def epoch(self, row: int, *, needed: bool) -> float:
        """Return the epoch of the position, MJD TAI; NaN if it is missing and not needed.

        Raises
        ------
        BadInput
            The epoch is missing or not a date.
        """
        column = next((name for name in ("epoch", "epoch_utc") if self.has(name)), None)
        if column is None or (not needed and _is_blank(self._cell(row, column))):
            return math.nan
        mjd = self.number(row, column, _FIRST, _LAST)
        return float(tai(mjd, "mjd", "utc").mjd) if column == "epoch_utc" else mjd

    def bad(self, row: int, column: str, cell: Any, rule: str, remedy: str) -> BadInput:
        """Return the error for a cell; rows are counted from 1, without the header."""
        return BadInput(
            "bad_target", f"{self._file.path}: row {row + 1}, column {column}", f"is {cell!r}, {rule}.", remedy
        )

    def _cell(self, row: int, column: str) -> Any:
        return self._file.columns[column][row]


def _is_blank(cell: Any) -> bool:
    """Return whether a cell is empty; dataframe libraries write NaN for that."""
    return cell is None or not str(cell).strip() or cell != cell


def _scale(file: TargetFile, column: str) -> float:
    stated = file.units.get(column)
    if stated is None:
        return 1.0
    try:
        return float(Unit(stated).to(Unit(UNITS[column])))
    except (ValueError, TypeError) as error:  # unknown, or for another quantity
        raise Misconfigured(
            "bad_unit",
            f"{file.path}: column {column}",
            f"has the unit {stated!r}, which is not one of {UNITS[column]}.",
            f"give it in {UNITS[column]}, or in a unit that converts to it.",
        ) from error
