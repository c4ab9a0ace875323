"""Tables of SDSS from SkyServer and CasJobs: CSV, FITS or Parquet."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from flows.inputs.files import csv_separator
from flows.runtime.settings import require_there
from schemas.archive_columns import BANDS, WORDS, locate_columns
from schemas.errors import BadInput, read_failure

_BLOCK = 1 << 22  # bytes of CSV at a time
_HEAD = 1 << 20  # bytes that surely hold the names of all columns: views of SDSS have 500 and more
_RANGES = {"petroRad_r": (0.0, 1000.0), "redshift": (-1.0, 20.0), "plate": (0.0, 1e6)}
_SENTINELS = (-9999.0, -999.0, -99.0, 9999.0, 999.0, 99.0, 99.99)
_BRIGHTEST, _FAINTEST = 0.0, 35.0  # mag; asinh magnitudes without any flux are 22 to 29
_STRAY = 0.05  # a larger share of values beyond these bounds means another unit
_NO_ID = re.compile(r"(-\d+|0*)(\.0*)?")  # ids that mean "no match"
_ROUNDED = re.compile(r"^\d\.\d+[eE]\+?\d+$")


@dataclass(frozen=True)
class ArchiveTable:
    """Rows of an archive's table.

    Attributes
    ----------
    numbers
        Name in `schemas.archive_columns` -> (n,) float32; NaN where there is no value.
    words
        Name -> n strings.
    columns
        Our name -> the name in the table.
    cleaned
        Name -> number of missing values: sentinels, values out of bounds, and empty fields.
    duplicates
        Rows left out because an earlier one has the same objid.
    ids_rounded
        A spreadsheet has rounded the ids (``1.23767E+18``), which makes them useless.
    """

    numbers: Mapping[str, NDArray[np.float32]]
    words: Mapping[str, pa.ChunkedArray]
    columns: Mapping[str, str]
    cleaned: Mapping[str, int]
    duplicates: int = 0
    ids_rounded: bool = False

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.numbers.values())))


def read_archive(path: Path, wanted: Collection[str], optional: Collection[str] = ()) -> ArchiveTable:
    """Read columns of a table, block by block.

    Parameters
    ----------
    path
        CSV (with commas, semicolons or tabs; with or without a first line ``#Table1``; may be compressed), ECSV, FITS
        or Parquet, recognised by the content.
    wanted, optional
        Names from `schemas.archive_columns.NAMES`.

    Raises
    ------
    Misconfigured
        The file does not exist.
    BadInput
        The file cannot be read, columns are missing, there are no rows, a value is not a number, or magnitudes are in
        another unit (``wrong_units``).
    """
    require_there(path, "another table.")
    remedy = "give a CSV, FITS or Parquet table."
    if path.is_dir():
        raise BadInput("unreadable_table", str(path), "is a folder, not a file.", remedy)
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            begin = stream.read(_HEAD)
    except (OSError, pa.ArrowException) as error:
        raise BadInput("unreadable_table", str(path), f"cannot be read: {read_failure(error)}.", remedy) from error
    if begin.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<"):
        raise BadInput("unreadable_table", str(path), "is XML, as a VOTable.", remedy)
    read = _fits if begin.startswith(b"SIMPLE") else _parquet if begin.startswith(b"PAR1") else _csv
    blocks, columns, units = read(path, begin, wanted, optional)
    parts: list[dict[str, Any]] = []
    try:
        parts.extend({name: _typed(name, block[column]) for name, column in columns.items()} for block in blocks)
    except OSError as error:
        problem = f"cannot be read: {read_failure(error)}."
        raise BadInput("unreadable_table", str(path), problem, "give it as it was written.") from error
    except (pa.ArrowException, ValueError) as error:
        problem = f"holds what is not a number: {error}."
        raise BadInput("unreadable_table", str(path), problem, "correct the row, or take it out.") from error
    if not parts or not sum(len(part[next(iter(columns))]) for part in parts):
        raise BadInput("empty_table", str(path), "has no rows.", "give a table with rows.")
    return _joined(path, parts, columns, units)


def _joined(path: Path, parts: list[dict[str, Any]], columns: dict[str, str], units: Mapping[str, str]) -> ArchiveTable:
    numbers, words, cleaned = {}, {}, {}
    for name in columns:
        if name in WORDS:
            words[name] = pa.chunked_array([part.pop(name) for part in parts], pa.string())
        elif name != "objid":
            values = np.concatenate([part.pop(name) for part in parts])
            cleaned[name] = _clean(values, name, path, columns[name], units.get(name, ""))
            numbers[name] = values
    ids, rounded = _ids([part["objid"] for part in parts]) if "objid" in columns else (None, False)
    if ids is None:
        return ArchiveTable(numbers, words, columns, cleaned, ids_rounded=rounded)
    first = np.sort(np.unique(ids, return_index=True)[1])
    if len(first) < len(ids):
        numbers = {name: values[first] for name, values in numbers.items()}
        words = {name: values.take(pa.array(first)) for name, values in words.items()}
    return ArchiveTable(numbers, words, columns, cleaned, len(ids) - len(first))


def _csv(
    path: Path, begin: bytes, wanted: Collection[str], optional: Collection[str]
) -> tuple[Iterator[pa.RecordBatch], dict[str, str], Mapping[str, str]]:
    lines = begin.split(b"\n")
    skip = next((n for n, line in enumerate(lines) if not line.startswith(b"#")), 0)
    read = csv.ReadOptions(block_size=_BLOCK, skip_rows=skip)
    first = lines[skip].decode("utf-8-sig", "replace").strip("\r\n ")
    separator = csv_separator(first)
    if separator not in first and begin.startswith(b"# %ECSV"):
        separator = " "
    header = [name.strip().strip('"') for name in first.split(separator)]
    columns = locate_columns(header, wanted, optional)
    kinds = {column: pa.string() if _is_text(name) else pa.float32() for name, column in columns.items()}
    convert = csv.ConvertOptions(
        column_types=kinds,
        include_columns=list(dict.fromkeys(columns.values())),
        null_values=["", "NaN", "nan", "null", "NULL", "None", "N/A", "n/a", "NA", "--"],
    )
    read = csv.ReadOptions(block_size=_BLOCK, skip_rows=skip + 1, column_names=header)

    def blocks() -> Iterator[pa.RecordBatch]:
        with csv.open_csv(path, read, csv.ParseOptions(delimiter=separator), convert) as reader:
            yield from reader

    return blocks(), columns, {}


def _fits(
    path: Path, begin: bytes, wanted: Collection[str], optional: Collection[str]
) -> tuple[Iterator[Any], dict[str, str], Mapping[str, str]]:
    from astropy.io import fits

    try:
        with fits.open(path, memmap=True) as file:
            table = next((unit for unit in file if isinstance(unit, fits.BinTableHDU)), None)
            if table is None:
                raise BadInput("unreadable_table", str(path), "has no binary table.", "give a FITS binary table.")
            columns = locate_columns(table.columns.names, wanted, optional)
            units = {name: table.columns[column].unit or "" for name, column in columns.items()}
            values = {column: np.array(table.data[column]) for column in set(columns.values())}
    except BadInput:
        raise
    except Exception as error:  # damaged bytes make astropy raise errors of all kinds
        problem = f"cannot be read: {read_failure(error)}."
        raise BadInput("unreadable_table", str(path), problem, "give a FITS table.") from error
    return iter([values]), columns, units


def _parquet(
    path: Path, begin: bytes, wanted: Collection[str], optional: Collection[str]
) -> tuple[Iterator[Any], dict[str, str], Mapping[str, str]]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        problem = f"cannot be read: {read_failure(error)}."
        raise BadInput("unreadable_table", str(path), problem, "give a Parquet table.") from error
    columns = locate_columns(file.schema_arrow.names, wanted, optional)
    kinds = {column: pa.string() if _is_text(name) else pa.float32() for name, column in columns.items()}
    blocks = (
        {column: batch[column].cast(kind) for column, kind in kinds.items()}
        for batch in file.iter_batches(columns=list(kinds))
    )
    return blocks, columns, {}


def _is_text(name: str) -> bool:
    return name in WORDS or name == "objid"


def _typed(name: str, values: Any) -> Any:
    """Return a block's column as float32 numbers or as strings."""
    if isinstance(values, np.ndarray):
        if _is_text(name):
            return pa.array(np.char.strip(values.astype(str)).tolist(), pa.string())
        return np.ma.filled(np.ma.masked_array(values).astype(np.float32), np.nan)
    if _is_text(name):
        return values
    return values.to_numpy(zero_copy_only=False).astype(np.float32, copy=True)


def _clean(values: NDArray[np.float32], name: str, path: Path, column: str, unit: str) -> int:
    """Set missing values to NaN, in place; return how many there are.

    Raises
    ------
    BadInput
        The name is that of a magnitude, but unit or values are not.
    """
    low, high = _RANGES.get(name, (_BRIGHTEST, _FAINTEST))
    sentinels = () if name == "plate" else _SENTINELS  # plates may be numbered 99, 999 and 9999
    absent = ~np.isfinite(values) | np.isin(values, np.array(sentinels, np.float32))
    beyond = ~absent & ((values <= low) | (values >= high))
    if name in BANDS:
        given = values[~absent]
        middle = float(np.median(given)) if len(given) else 20.0
        if (unit and "mag" not in unit.lower()) or "magg" in unit.lower() or _no_magnitude(middle, beyond, absent):
            raise BadInput(
                "wrong_units",
                f"column {column!r} of {path}",
                f"must hold AB magnitudes ({_BRIGHTEST:g} to {_FAINTEST:g}), got {unit or 'values'} with a median of "
                f"{middle:.4g}: fluxes{' or redshifts' if name == 'z' else ''}, by the look of them.",
                "convert them: m = 8.90 - 2.5 log10(f / Jy), or 22.5 - 2.5 log10(f / nanomaggy)."
                + (" Name a redshift so." if name == "z" else ""),
            )
    values[absent | beyond] = np.nan
    return int((absent | beyond).sum())


def _no_magnitude(middle: float, beyond: NDArray[np.bool_], absent: NDArray[np.bool_]) -> bool:
    given = int((~absent).sum())
    return not 5 < middle < 30 or (given > 0 and beyond.sum() > max(_STRAY * given, 1))


def _ids(parts: list[pa.Array]) -> tuple[NDArray[np.int64] | None, bool]:
    """Return the ids, None if they are useless, and whether a spreadsheet has rounded them."""
    sample = [text for text in parts[0].slice(0, 100).to_pylist() if text]
    if sample and any(_ROUNDED.match(text) for text in sample):
        return None, True
    try:
        if not any(part.null_count for part in parts):
            found = np.concatenate([part.cast(pa.int64()).to_numpy() for part in parts])
            return np.where(found > 0, found, -1 - np.arange(len(found))), False  # 0 and less: no match
    except pa.ArrowInvalid:
        pass  # ids with letters
    texts = [text for part in parts for text in part.to_pylist()]
    # A row without an id is a duplicate of none.
    named = np.array([f"row {n}" if _NO_ID.fullmatch(text or "") else text for n, text in enumerate(texts)])
    return np.unique(named, return_inverse=True)[1], False
