"""Catalogues as VOTable, the format of the Virtual Observatory: TOPCAT, Aladin and others read it."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.adapters.atomic import write_file
from schemas.dataset import TableOf
from schemas.errors import Misconfigured

_UNITS = {"mag(AB)": "mag", "pix": "pixel", "arcsec/pix": "arcsec/pixel", "pixel_unit": "", "pixel_unit**2": ""}
"""Units that the VOUnits standard spells otherwise, or does not know."""


_SHORTEST = 2
"""Characters of a text column: arrays of one were abolished by erratum 3 to VOTable 1.3."""


def write_votable(path: Path, dataset: TableOf, table: pa.Table) -> None:
    """Write a catalogue as one VOTable (1.4, BINARY2), with units, UCDs and descriptions of its columns.

    Nulls are NaN in floating-point columns and marked as null in others. ``mag(AB)`` becomes ``mag``; the description
    says which magnitude.

    Raises
    ------
    Retryable, Misconfigured
        It cannot be written (see `flows.adapters.atomic.write_file`), or there is a folder of that name.
    """
    if path.is_dir():
        raise Misconfigured("not_a_file", str(path), "is a folder; a VOTable is one file.", "name a file with --to.")
    from astropy.io.votable import from_table
    from astropy.table import Table

    rows = Table({field.name: _values(table[field.name]) for field in dataset.schema})
    document = from_table(rows, table_id=dataset.name)
    document.version = "1.4"
    resource = document.resources[0].tables[0]
    resource.name = dataset.name
    for field, column in zip(dataset.schema, resource.fields, strict=True):
        unit = field.metadata[b"unit"].decode()
        column.unit = _UNITS.get(unit, unit) or None
        column.ucd = field.metadata[b"ucd"].decode() or None
        column.description = field.metadata[b"doc"].decode()
    content = BytesIO()
    document.to_xml(content, tabledata_format="binary2")
    write_file(path, content.getvalue(), path.parent)


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    values = column.combine_chunks()
    if pa.types.is_fixed_size_list(values.type):
        blank = [np.nan] * values.type.list_size
        rows = [blank if row is None else row for row in values.to_pylist()]
        return np.array(rows, float).reshape(-1, values.type.list_size)
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        texts = values.fill_null("").to_pylist()
        return np.ma.array(texts, dtype=f"U{max(_SHORTEST, *map(len, texts))}" if texts else f"U{_SHORTEST}")
    plain = values.fill_null(False if pa.types.is_boolean(values.type) else 0).to_numpy(zero_copy_only=False)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return np.ma.array(plain, mask=missing) if missing.any() else plain
