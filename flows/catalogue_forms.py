"""Catalogues of older versions, brought to the form of this one without their pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.dataset import TableOf
from schemas.dia_source import CAUSES
from schemas.forced_source import FORCED_SOURCE
from stages import PIPELINE

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    # Before the causes of false streaks were looked for: nobody knows what spoke for them.
    "dia_source": {**{f"{name}Evidence": float("nan") for name, _, _ in CAUSES}, "trailClass": ""},
}
"""Dataset -> column that may not be null and that older versions did not have -> what stands for `not known`."""


@dataclass(frozen=True)
class Adapted:
    """A catalogue in the form of this version; ``added``: its columns that hold nothing but a default."""

    table: pa.Table
    added: tuple[str, ...]


def declared_tables() -> dict[str, TableOf]:
    """Give the declared form of each table that is published, by its name."""
    published = (*(stage.gives for stage in PIPELINE), FORCED_SOURCE)
    return {dataset.name: dataset for dataset in published if isinstance(dataset, TableOf)}


def adapted(table: pa.Table, dataset: TableOf) -> Adapted | None:
    """Bring a catalogue to its declared form: columns that are missing are null, or the default of `DEFAULTS`.

    Parameters
    ----------
    table
        As it is stored.
    dataset
        Its declared form.

    Returns
    -------
    Adapted or None
        None where something would be lost or invented: a column is not known, is of another type, or may not be null
        and has no default. Such a catalogue has to be made anew.
    """
    defaults = DEFAULTS.get(dataset.name, {})
    if set(table.column_names) - set(dataset.schema.names):
        return None
    columns, added = [], []
    for field in dataset.schema:
        if field.name in table.column_names:
            column = table[field.name]
            if column.type != field.type or (column.null_count and not field.nullable):
                return None
        elif field.nullable or field.name in defaults:
            column = pa.repeat(pa.scalar(defaults.get(field.name), field.type), table.num_rows)
            added.append(field.name)
        else:
            return None
        columns.append(column)
    return Adapted(pa.Table.from_arrays(columns, schema=dataset.schema), tuple(added))
