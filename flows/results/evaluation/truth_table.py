"""Truth tables, from our own simulator or others."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.inputs.truth_llnl import read_llnl_truth
from flows.results.evaluation.evaluate import Floats, Ints, Truth
from flows.runtime.settings import require_there
from schemas.errors import Misconfigured, read_failure

KINDS = ("streak", "point", "satellite")
_ZIP = b"PK\x03\x04"


_COLUMNS = {
    "kind": "kind",
    "visit": "visit",
    "detector": "detector",
    "x": "x",
    "y": "y",
    "snr": "snr",
    "length": "length_px",
    "angle": "angle_deg",
    "visible": "visible",
    "fwhm": "fwhm_px",
    "beta": "beta",
}
_DEFAULTS = {"visible": 1.0, "fwhm": np.nan, "beta": np.nan}


def read_truth(paths: Iterable[Path]) -> Truth:
    """Read truth tables: Parquet, CSV, ECSV or the LLNL challenge's npz, distinguished by their content.

    Columns may be in any order and of any numeric type; other columns are ignored. ``visible``, ``fwhm_px`` and
    ``beta`` may be missing or null, as may length and angle of a point, and S/N of sources other than streaks. The
    challenge's files have no S/N: it is NaN, to be measured on the pixels
    (`flows.results.evaluation.published.with_measured_snr`).

    Raises
    ------
    Misconfigured
        A file does not exist, cannot be read, lacks a column, or has an impossible value.
    """
    parts = [truth_of(str(path), *_read(path)) for path in paths]
    return Truth(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Truth)))


def _read(path: Path) -> tuple[pa.Table, bool]:
    """Return a table, and whether it includes the S/N of streaks."""
    require_there(path, "another truth table with --truth.")
    try:
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            return pq.read_table(BytesIO(content)), True
        if content[:4] == _ZIP:
            return read_llnl_truth(str(path)), False
        if content.startswith(b"# %ECSV"):
            return _read_ecsv(content), True
        return pc.read_csv(BytesIO(content)), True
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise Misconfigured(
            "unreadable_truth",
            str(path),
            f"cannot be read as Parquet, ECSV, CSV or npz of the LLNL challenge: {read_failure(error)}.",
            "give --truth the truth table of the images.",
        ) from error


def _read_ecsv(content: bytes) -> pa.Table:
    from astropy.table import Column, Table

    table = Table.read(content.decode(), format="ascii.ecsv")
    # Coordinates and times are not plain columns, and not ours; tolist turns masked values into None.
    return pa.table({name: table[name].tolist() for name in table.colnames if isinstance(table[name], Column)})


def truth_of(where: str, table: pa.Table, with_snr: bool) -> Truth:
    """Return the truth in a table; ``where`` is its name in messages, ``with_snr`` whether streaks have an S/N.

    Raises
    ------
    Misconfigured
        A column is missing, or a value impossible.
    """
    required = [column for name, column in _COLUMNS.items() if name not in _DEFAULTS]
    if missing := [column for column in required if column not in table.column_names]:
        raise Misconfigured(
            "missing_column",
            where,
            f"has no column {', '.join(missing)}; its columns are {', '.join(table.column_names)}.",
            f"name its columns {', '.join(_COLUMNS.values())}.",
        )
    values = {}
    for name, column in _COLUMNS.items():
        if column not in table.column_names:
            values[name] = np.full(len(table), _DEFAULTS[name])
            continue
        try:
            values[name] = _CASTS[name](table[column])
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise _bad_value(where, column, str(error)) from error
        if name in _DEFAULTS:
            values[name] = np.where(np.isnan(values[name]), _DEFAULTS[name], values[name])
    for name in ("length", "angle"):
        values[name] = np.where((values["kind"] == "point") & np.isnan(values[name]), 0.0, values[name])
    _check(where, values, ("x", "y", "length", "angle", *(("snr",) if with_snr else ())))
    return Truth(**values)


def _check(where: str, values: dict[str, NDArray[Any]], finite: Iterable[str]) -> None:
    if unknown := sorted(set(values["kind"].tolist()) - set(KINDS)):
        raise _bad_value(where, "kind", f"{', '.join(map(repr, unknown))}, must be one of {', '.join(KINDS)}")
    streak = values["kind"] == "streak"
    for name in finite:
        rows = streak if name == "snr" else slice(None)
        if not np.isfinite(values[name][rows].astype(float)).all():
            raise _bad_value(where, _COLUMNS[name], "null or not finite")


def _bad_value(where: str, column: str, value: str) -> Misconfigured:
    return Misconfigured("bad_value", f"{where}: {column}", f"has a value that cannot be used: {value}.", "correct it.")


def _text(values: pa.ChunkedArray) -> NDArray[np.str_]:
    if values.null_count:
        raise ValueError("null")
    return np.array([str(value).strip() for value in values.to_pylist()], str)


def _whole(values: pa.ChunkedArray) -> Ints:
    if values.null_count:
        raise ValueError("null")
    return values.cast(pa.int64()).to_numpy().astype(np.int64)


def _number(values: pa.ChunkedArray) -> Floats:
    return values.cast(pa.float64()).to_numpy().astype(np.float64)


_CASTS: dict[str, Callable[[pa.ChunkedArray], NDArray[Any]]] = {
    name: {"kind": _text, "visit": _whole, "detector": _whole}.get(name, _number) for name in _COLUMNS
}
