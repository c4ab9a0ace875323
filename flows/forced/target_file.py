"""Lists of targets as files: CSV, ECSV or Parquet, told apart by their content."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.adapters.given_file import require_there
from schemas.errors import Misconfigured


@dataclass(frozen=True)
class TargetFile:
    """What a file holds, not looked at yet.

    Attributes
    ----------
    path
        Of the file.
    columns
        Cells by column, one per row; text in a CSV file, None where there is none.
    units
        Of those columns for which the file states one, in astropy's spelling.
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    units: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))


def read_target_file(path: Path) -> TargetFile:
    """Read a list of targets.

    Parquet may state units in the field metadata ``unit``, as our own catalogues do; ECSV in its header. A row of
    a CSV file that is too short lacks the last cells, and what a row has too much is not read.

    Raises
    ------
    Misconfigured
        There is no such file, it cannot be read as any of the three, or has no columns.
    """
    require_there(path, "another list of targets.")
    try:
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            columns, units = _parquet(content)
        elif content.startswith(b"# %ECSV"):
            columns, units = _ecsv(content)
        else:
            columns, units = _csv(content.decode("utf-8-sig")), {}
    except (OSError, ValueError, TypeError, csv.Error, pa.ArrowException) as error:
        raise Misconfigured(
            "unreadable_targets",
            str(path),
            f"cannot be read as Parquet, ECSV or CSV: {error}.",
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
    # Coordinates and times are no plain columns; tolist makes masked values None.
    plain = [name for name in table.colnames if isinstance(table[name], Column)]
    units = {name: str(table[name].unit) for name in plain if table[name].unit is not None}
    return {name: table[name].tolist() for name in plain}, units


def _csv(text: str) -> dict[str, Sequence[Any]]:
    reader = csv.DictReader(StringIO(text, newline=""), skipinitialspace=True, strict=True)
    rows = list(reader)
    names = [name for name in reader.fieldnames or () if name]
    return {name.strip(): [row[name] for row in rows] for name in names}
