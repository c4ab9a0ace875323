"""Lazy tables with units: rows are read when a table is converted, displayed or counted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.results.catalogue_rows import RowSource
from flows.results.row_filter import (
    FLAGS,
    cone_condition,
    flag_names,
    listed_condition,
    require_condition,
    row_condition,
)
from nightstride.arguments import path_of, whole_number
from schemas.dataset import column
from schemas.errors import Misconfigured, choice

if TYPE_CHECKING:
    import pandas
    import polars
    from astropy.table import QTable

LOOK = 10
"""Number of rows shown in a notebook."""

NAMED = "flagNames"
"""Name of the column of flag names."""

MOST_ROWS = 2**31 - 1
"""Largest number of rows that can be asked for by number; more are as many."""

COUNTED = 200
"""Largest number of files for which ``repr`` counts the rows."""

_NULLABLE = {"int64": "Int64", "int32": "Int32", "int16": "Int16", "bool": "boolean"}
"""Arrow types whose nulls numpy cannot hold -> pandas types."""


class Table:
    """Rows of a dataset, read only when they are needed.

    Convert a table with `to_astropy`, `to_pandas`, `to_polars` or `to_arrow`. Calling a table, as in
    ``detections(columns=..., where=...)``, selects columns and rows and returns another table.

    Parameters
    ----------
    rows
        Source of the rows.
    columns
        Names of the columns to read; None: all.
    where
        Condition on the rows.
    """

    def __init__(
        self, rows: RowSource, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> None:
        self._rows, self._columns, self._where = rows, None if columns is None else tuple(columns), where

    def __call__(
        self, columns: Sequence[str] | None = None, where: "str | pc.Expression | Sequence[Any] | None" = None
    ) -> "Table":
        """Return a table with some of the columns, and with the rows that meet one more condition.

        Parameters
        ----------
        columns
            Names, in the order wanted; repeated names count once.
        where
            Text such as ``"snr > 10 and band == 'r' and not flags.EDGE"``; a pyarrow expression; or one (column, sign,
            value), or a list of them.

        Raises
        ------
        Misconfigured
            There is no such column, or ``where`` is not a condition.
        """
        one = isinstance(columns, str) or not isinstance(columns, Iterable)
        chosen: Any = self._columns if columns is None else (columns,) if one else tuple(columns)
        known = self.schema.names
        for name in chosen or ():
            if name not in known:
                raise Misconfigured("no_column", self.name, f"has no column {name!r}.", choice(name, known))
        condition = self._condition(where)
        if condition is None:
            condition = self._where
        elif self._where is not None:
            condition = self._where & condition
        return Table(self._rows, None if chosen is None else tuple(dict.fromkeys(chosen)), condition)

    def near(self, ra: Any, dec: Any, radius: Any) -> "Table":
        """Return the rows within a circle on the sky, edge included; rows without a position are left out.

        Parameters
        ----------
        ra, dec
            Centre (ICRS): deg, or astropy quantities.
        radius
            Angular radius: deg, or an astropy quantity; up to 90 deg.

        Raises
        ------
        Misconfigured
            The dataset has no ``ra`` and ``dec``, or the centre or radius is not valid.
        """
        if not {"ra", "dec"} <= set(self._rows.schema.names):
            raise Misconfigured("no_column", self.name, "has no ra and dec.", "choose by other columns.")
        inside = cone_condition(*(_degrees(name, one) for name, one in (("ra", ra), ("dec", dec), ("radius", radius))))
        return Table(self._rows, self._columns, inside if self._where is None else self._where & inside)

    def _condition(self, where: Any) -> pc.Expression | None:
        if where is None:
            return None
        if isinstance(where, str):
            return row_condition(where, self._rows.schema, FLAGS.get(self.name))
        found = where if isinstance(where, pc.Expression) else listed_condition(where)
        require_condition(found, self._rows.schema, where)
        return found

    @property
    def name(self) -> str:
        """Return the name of the dataset."""
        return self._rows.name

    @property
    def schema(self) -> pa.Schema:
        """Return the schema; the metadata of each field hold its unit, meaning and UCD."""
        whole = self._rows.schema
        return whole if self._columns is None else pa.schema([whole.field(name) for name in self._columns])

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(self.schema.names)

    @property
    def units(self) -> dict[str, str]:
        """Return the unit of each column that has one, in astropy's spelling."""
        return {one.name: unit for one in self.schema if (unit := _said(one, b"unit"))}

    @property
    def meanings(self) -> dict[str, str]:
        """Return the meaning of each column."""
        return {one.name: _said(one, b"doc") for one in self.schema}

    @property
    def nights(self) -> tuple[str, ...]:
        """Return the nights of the table's files, sorted."""
        return self._rows.nights

    def by_night(self) -> "Iterator[tuple[str, Table]]":
        """Yield each night with its rows."""
        for night in self.nights:
            yield night, Table(self._rows.of((night,)), self._columns, self._where)

    def __iter__(self) -> NoReturn:
        """Refuse to iterate: it is unclear whether rows, columns or nights are meant.

        Raises
        ------
        Misconfigured
            Always (``not_iterable``).
        """
        remedy = "convert it for its rows: .to_arrow().to_pylist(); or write .columns, or .by_night()."
        raise Misconfigured(
            "not_iterable", self.name, "does not say whether rows, columns or nights are meant.", remedy
        )

    def __len__(self) -> int:
        return self._rows.count(self._where)

    def __bool__(self) -> bool:
        return True

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the rows for libraries with Arrow's PyCapsule interface: DuckDB, polars, pyarrow, pandas."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __getitem__(self, name: str) -> Any:
        """Return a column as an astropy column, or as a quantity if it has a unit."""
        return self([name]).to_astropy()[name]

    def head(self, rows: int = LOOK) -> "QTable":
        """Return the first rows, with units.

        Raises
        ------
        Misconfigured
            The argument is not a number of rows.
        """
        from flows.storage.catalog_store import qtable_of

        wanted = min(whole_number(rows, "rows", 0), MOST_ROWS)
        return qtable_of(self._rows.read(self.columns, self._where, wanted))

    def to_arrow(self, *, decode: bool = False) -> pa.Table:
        """Return a pyarrow table; the metadata of its fields hold unit, meaning and UCD.

        Parameters
        ----------
        decode
            Add the column ``flagNames``: the names of the flags of each row, separated by spaces.

        Raises
        ------
        Misconfigured
            The dataset has no flags to decode.
        """
        found = self._rows.read(self.columns, self._where)
        if not decode:
            return found
        bits, kind = self._bits()
        known = {one: " ".join(flag_names(one, kind)) for one in np.unique(bits).tolist()}
        names = pa.array([known[one] for one in bits.tolist()], pa.string())
        return found.append_column(column(NAMED, pa.string(), "", "Names of the flags, separated by spaces."), names)

    def to_astropy(self, *, decode: bool = False) -> "QTable":
        """Return an astropy table of quantities; nulls are NaN, or masked in columns that cannot hold NaN.

        ``decode`` is as in `to_arrow`.
        """
        from flows.storage.catalog_store import qtable_of

        found = qtable_of(self.to_arrow(decode=decode))
        found.meta["dataset"] = self.name
        return found

    def to_pandas(self, *, decode: bool = False) -> "pandas.DataFrame":
        """Return a pandas data frame with its units in ``attrs["units"]``. Integers with nulls become Int64.

        ``decode`` is as in `to_arrow`.

        Raises
        ------
        Misconfigured
            pandas is not installed.
        """
        frames = _library("pandas")
        table, found = self.to_arrow(decode=decode), {}
        for field, values in zip(table.schema, table.columns, strict=True):
            kind = _NULLABLE.get(str(field.type)) if values.null_count else None
            mapper = None if kind is None else {field.type: frames.api.types.pandas_dtype(kind)}.get
            found[field.name] = values.to_pandas(types_mapper=mapper)
        frame = frames.DataFrame(found, columns=table.schema.names, copy=False)
        frame.attrs |= {"dataset": self.name, "units": self.units}
        return frame

    def to_polars(self, *, decode: bool = False) -> "polars.DataFrame":
        """Return a polars data frame; `units` has the units. ``decode`` is as in `to_arrow`.

        Raises
        ------
        Misconfigured
            polars is not installed.
        """
        return _library("polars").from_arrow(self.to_arrow(decode=decode))

    def write(self, path: str | Path) -> int:
        """Write the table in the format given by the suffix of the file; return the number of rows.

        CSV (``.csv``), Parquet (``.parquet``), VOTable (``.vot``, ``.xml``), FITS table (``.fits``), or regions for DS9
        (``.reg``). A HATS catalogue, which is a folder of a whole dataset, needs ``nightstride export``.

        Raises
        ------
        Misconfigured
            The suffix is none of these, or the folder does not exist.
        """
        from flows.results.export_formats import file_format, write_rows
        from flows.storage.folder import require_folder

        target = path_of(path, "path")
        form = file_format(target)
        require_folder(target, "path")
        return write_rows(target, form, self.name, self.to_arrow())

    @property
    def flags(self) -> "QTable":
        """Return a boolean column for each flag of this dataset.

        Raises
        ------
        Misconfigured
            The dataset has no flags.
        """
        from astropy.table import QTable

        bits, kind = self._bits()
        return QTable({name: (bits & int(flag.value)) != 0 for name, flag in kind.__members__.items()})

    @property
    def flag_names(self) -> list[tuple[str, ...]]:
        """Return the names of the flags of each row; raise as `flags` does."""
        bits, kind = self._bits()
        return [flag_names(one, kind) for one in bits.tolist()]

    def _bits(self) -> tuple[Any, Any]:
        if (kind := FLAGS.get(self.name)) is None:
            raise Misconfigured("no_flags", self.name, "has no flags.", f"{', '.join(FLAGS)} have some.")
        return self._rows.read(["flags"], self._where)["flags"].fill_null(0).to_numpy(), kind

    def _told(self) -> str:
        """Return the number of rows as text; "" if counting them would take long."""
        return f"{len(self):,} rows, " if self._rows.parts <= COUNTED else ""

    def __repr__(self) -> str:
        nights = self.nights
        of = (
            f", {len(nights)} nights, {nights[0]} to {nights[-1]}"
            if len(nights) > 1
            else "".join(f", night {one}" for one in nights)
        )
        return f"<Table {self.name}: {self._told()}{len(self.columns)} columns{of}>"

    def _repr_html_(self) -> str:
        head = self._rows.read(self.columns, self._where, LOOK)
        kind = FLAGS.get(self.name)
        titles = "".join(
            f'<th title="{escape(_said(one, b"doc"))}">{escape(one.name)}'
            f'<br><small style="font-weight:normal">{escape(_said(one, b"unit")) or "&nbsp;"}</small></th>'
            for one in head.schema
        )
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(name, value, kind))}</td>" for name, value in row.items()) + "</tr>"
            for row in head.to_pylist()
        )
        more = f"<p>The first {len(head)} rows.</p>" if len(head) == LOOK else ""
        about = f"<p>{escape(repr(self)[1:-1])}</p>"
        return f"<div>{about}<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>{more}</div>"


def _cell(name: str, value: Any, kind: Any) -> str:
    if value is None:
        return "–"
    if name == "flags" and kind is not None:
        return " ".join(flag_names(value, kind)) or "0"
    if isinstance(value, float):
        return f"{value:.6f}" if name in ("ra", "dec", "midpointMjdTai") else f"{value:.5g}"
    return "…" if isinstance(value, list) else str(value)


def _degrees(name: str, given: Any) -> float:
    try:
        return float(given.to_value("deg") if hasattr(given, "to_value") else given)
    except (TypeError, ValueError) as error:  # astropy's unit errors are ValueErrors
        said = str(given) if hasattr(given, "to_value") else repr(given)
        remedy = "give deg, or an astropy quantity of an angle."
        raise Misconfigured("bad_condition", f"near: {name}", f"is {said}, not an angle.", remedy) from error


def _said(field: pa.Field, key: bytes) -> str:
    said: Mapping[bytes, bytes] = field.metadata or {}
    return said.get(key, b"").decode()


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise Misconfigured("missing_extra", name, "is not installed.", f"pip install {name}.") from error
