"""Tables of which little matters."""

import numpy as np
import pyarrow as pa


def blank_row(schema):
    """A row of nulls; what may not be null is 0, an empty text, False, or a list of these, and a band is r."""
    blank = {field.name: None if field.nullable else _blank(field.type) for field in schema}
    return blank | {name: "r" for name in ("band", "refBand") if blank.get(name) == ""}


def filled_rows(schema, rows):
    """Rows with what is known of each, and blank else."""
    blank = blank_row(schema)
    return pa.Table.from_pylist([blank | row for row in rows], schema)


def filled(schema, count, **columns):
    """So many rows with these columns, or the same value in all rows, and blank else; NaN is null where that may be."""
    blank = blank_row(schema)
    made = []
    for field in schema:
        values = columns.get(field.name, blank[field.name])
        every = isinstance(values, str | int) or not np.iterable(values) or field.name not in columns
        array = pa.array([values] * count if every else values, from_pandas=field.nullable)
        made.append(array.cast(field.type))
    return pa.Table.from_arrays(made, schema=schema)


def _blank(kind):
    if pa.types.is_fixed_size_list(kind):
        return [_blank(kind.value_type)] * kind.list_size
    if pa.types.is_list(kind):
        return []
    return "" if pa.types.is_string(kind) else pa.scalar(0).cast(kind).as_py()
