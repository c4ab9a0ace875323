"""Catalogues as Parquet files: complete or absent, the same bytes for the same table.

Each exposure has one file per dataset, until many are joined after the night: `flows.storage.compaction`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.storage.atomic import write_file
from flows.storage.bucket_path import located
from flows.storage.catalog_parts import (
    CATALOG_VERSION,
    DATASET,
    DIGEST,
    LAYOUT,
    VERSION,
    Held,
    find,
    own_metadata,
    read_held,
)
from flows.storage.digest import file_digest
from flows.storage.layout import catalogs_folder, dataset_folder, other_version, patch_path, staging_folder
from schemas.dataset import TableOf
from schemas.errors import BadInput, read_failure
from schemas.exposure import ExposureKey
from schemas.ledger import DatasetRecord
from schemas.patch import PatchKey

if TYPE_CHECKING:
    from astropy.table import QTable


class CatalogStore:
    """Files ``OUT/catalogs/<dataset>/night=<night>/<visit>-<detector>.parquet``.

    Files of a night are ``<dataset>.parquet``, those of its patches ``dataset/Norder=<k>/Dir=<d>/Npix=<n>.parquet``.

    A file appears under its name only when it is complete, and replaces an earlier one in one step.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    def path(self, dataset: TableOf, key: ExposureKey) -> Path:
        """Return the path of the catalogue of an exposure."""
        return dataset_folder(self._out, dataset.name, key.night) / f"{key.name}.parquet"

    def night_path(self, dataset: TableOf, night: str) -> Path:
        """Return the path of the catalogue of a whole night."""
        return dataset_folder(self._out, dataset.name, night) / f"{dataset.name}.parquet"

    def publish(self, dataset: TableOf, key: ExposureKey | PatchKey | str, table: pa.Table, digest: str) -> Path:
        """Write the catalogue of an exposure, a patch or a whole night; return its path.

        Parameters
        ----------
        dataset
            Declared form; names, types, units and descriptions go into the file.
        key
            Exposure, patch, or night.
        table
            Rows in the order in which they are stored.
        digest
            Digest of its inputs, stored in the file's metadata.

        Raises
        ------
        DatasetError
            The table does not have the declared form.
        Retryable, Misconfigured
            It cannot be written: see `flows.storage.atomic.write_file`.
        """
        dataset.check(table)
        if isinstance(key, PatchKey):
            path = patch_path(self._out, dataset.name, key, ".parquet")
        else:
            path = self.night_path(dataset, key) if isinstance(key, str) else self.path(dataset, key)
        write_file(path, encoded(dataset.name, dataset.schema, table, digest), staging_folder(self._out))
        return path

    def read(self, dataset: TableOf, key: ExposureKey) -> pa.Table:
        """Return a published catalogue with the declared schema; errors as in `read_table`."""
        return read_table(self.path(dataset, key), dataset)

    def read_path(self, path: Path, dataset: TableOf) -> pa.Table:
        """Return a published catalogue, given its path; errors as in `read_table`."""
        return read_table(path, dataset)

    def read_night(self, dataset: TableOf, night: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """Return the catalogue of a whole night, or of all its patches; None if there is none.

        Parameters
        ----------
        dataset, night
            Declared form, and label of the night.
        columns
            Names of the columns to read; None: all.

        Raises
        ------
        BadInput, Misconfigured
            As in `read_table`.
        """
        path = self.night_path(dataset, night)
        paths = [path] if path.exists() else self._patches(dataset, night)
        names = dataset.schema.names if columns is None else list(columns)
        return joined(read_table(one, dataset).select(names) for one in paths)

    def record(self, path: Path) -> DatasetRecord:
        """Return the ledger record of a published file; errors as in `read_table`."""
        _, digest, rows = read_metadata(path)
        return DatasetRecord(
            path=path.relative_to(self._out).as_posix(), digest=digest, rows=rows, sha256=file_digest(path)
        )

    def list(self, dataset: TableOf, night: str | None = None) -> "list[Path]":
        """Return the published files of a dataset, sorted, of one night or of all nights."""
        whole = (catalogs_folder(self._out) / dataset.name).glob(f"night={night or '*'}/*.parquet")
        return sorted([*whole, *self._patches(dataset, night or "*")])

    def _patches(self, dataset: TableOf, night: str) -> Sequence[Path]:
        """Return the published files of patches, by night, order and pixel."""
        folder = dataset_folder(self._out, dataset.name, night).relative_to(self._out)
        found = self._out.glob(f"{folder.as_posix()}/dataset/Norder=*/Dir=*/Npix=*.parquet")
        return sorted(found, key=lambda path: (path.parts[-5], *(_number(part) for part in path.parts[-3:])))


_TOGETHER = 256


def joined(tables: Iterable[pa.Table]) -> pa.Table | None:
    """Return the rows of tables of the same form, in order; None if there are no tables.

    Tables are joined as they come, since each takes kilobytes however few rows it has.
    """
    whole, waiting = list[pa.Table](), list[pa.Table]()
    for table in tables:
        waiting.append(table)
        if len(waiting) == _TOGETHER:
            whole.append(pa.concat_tables(waiting).combine_chunks())
            waiting.clear()
    found = [*whole, *waiting]
    return pa.concat_tables(found) if found else None


def _number(part: str) -> int:
    return int(part.removesuffix(".parquet").partition("=")[2])


def read_table(path: Path, dataset: TableOf) -> pa.Table:
    """Read a catalogue with a declared form.

    Raises
    ------
    BadInput
        The file is missing or damaged, or has another dataset or another form.
    Misconfigured
        It was written by another version.
    """
    found, table = read_described(path)
    _require_form(path, found.dataset, table.schema, dataset)
    return pa.Table.from_arrays(table.columns, schema=dataset.schema)


def _require_form(path: Path, name: str, schema: pa.Schema, dataset: TableOf) -> None:
    if name != dataset.name or not schema.equals(dataset.schema):
        ours = {f"{field.name}: {field.type}" for field in dataset.schema}
        theirs = {f"{field.name}: {field.type}" for field in schema}
        raise BadInput(
            "catalogue_form",
            str(path),
            f"is {name!r} where {dataset.name!r} is expected: missing {sorted(ours - theirs)}, "
            f"unexpected {sorted(theirs - ours)}.",
            "run the night again.",
        )


class Inspected(NamedTuple):
    """Metadata of a catalogue: dataset, digest of its inputs, number of rows."""

    dataset: str
    digest: str
    rows: int


def read_content(path: Path) -> bytes | Held:
    """Return the bytes of a catalogue, or its entry in a part; errors as in `read_table`."""
    with _failures(path):
        place = find(path)
        return place.read_bytes() if isinstance(place, Path) else place


def inspect(path: Path, content: bytes, dataset: TableOf | None) -> Inspected:
    """Return the metadata of a catalogue without reading its rows.

    Parameters
    ----------
    path, content
        Path for messages, and bytes of the file.
    dataset
        Declared form; None: not checked.

    Raises
    ------
    BadInput, Misconfigured
        As in `read_table`.
    """
    with _failures(path), pq.ParquetFile(pa.BufferReader(content)) as file:
        found = _metadata(path, file)
        if dataset is not None:
            _require_form(path, found.dataset, file.schema_arrow, dataset)
        return found


def read_metadata(path: Path) -> Inspected:
    """Return the metadata of a catalogue; errors as in `read_table`."""
    with _failures(path):
        place = find(path)
        if isinstance(place, Held):
            return Inspected(place.dataset, place.digest, place.rows)
        with _opened(place) as file:
            return _metadata(path, file)


def _metadata(path: Path, file: pq.ParquetFile) -> Inspected:
    metadata = {**(file.metadata.metadata or {}), **(file.schema_arrow.metadata or {})}
    rows = file.metadata.num_rows
    if VERSION not in metadata or DIGEST not in metadata or DATASET not in metadata:
        raise BadInput("no_catalogue", str(path), "is Parquet, but no catalogue of nightstride.", "remove the file.")
    if (version := int(metadata[VERSION])) != CATALOG_VERSION:
        raise other_version(path, version, CATALOG_VERSION)
    return Inspected(metadata[DATASET].decode(), metadata[DIGEST].decode(), rows)


def read_qtable(path: Path | str) -> "QTable":
    """Read a catalogue into an astropy table whose columns have units.

    Nulls become NaN, or masked values in columns that are not floating point. Lists become 2-d columns. Descriptions of
    columns are in ``table[name].info.description``.

    Raises
    ------
    BadInput, Misconfigured
        As in `read_table`.
    """
    _, table = read_described(located(path) if isinstance(path, str) else path)
    return qtable_of(table)


def qtable_of(table: pa.Table) -> "QTable":
    """Return rows of a catalogue as an astropy table, like `read_qtable`; the schema's metadata are in ``meta``."""
    from astropy.table import QTable

    found = QTable(meta={key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()})
    for field, values in zip(table.schema, table.columns, strict=True):
        said = field.metadata or {}
        found[field.name] = _quantity(values.combine_chunks(), said.get(b"unit", b"").decode())
        found[field.name].info.description = said.get(b"doc", b"").decode() or None
    return found


def field_unit(name: str) -> Any:
    """Return the astropy unit of a field; ``pixel_unit`` stands for the unit of an exposure's pixels."""
    from astropy import units

    with units.add_enabled_units([units.def_unit("pixel_unit")]):
        return units.Unit(name)


def _quantity(values: pa.Array, unit: str) -> Any:
    from astropy.table import Column, MaskedColumn
    from astropy.units import Quantity

    numbers: Any
    if pa.types.is_fixed_size_list(values.type):
        numbers = list_rows(values)
    elif pa.types.is_floating(values.type):
        numbers = values.to_numpy(zero_copy_only=False)
    elif pa.types.is_string(values.type):
        found = values.fill_null("").dictionary_encode()  # bands and nights: many rows with few different strings
        numbers = np.array(found.dictionary.to_pylist() or [""], str)[found.indices.to_numpy()]
    elif unit and values.null_count:  # quantities cannot be masked
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    else:
        numbers = values.fill_null(pa.scalar(0).cast(values.type)).to_numpy(zero_copy_only=False)
    if unit:
        return Quantity(numbers, field_unit(unit), dtype=numbers.dtype, subok=True)
    if values.null_count and not np.issubdtype(numbers.dtype, np.floating):
        return MaskedColumn(numbers, mask=values.is_null().to_numpy(zero_copy_only=False))
    return Column(numbers)


def list_rows(values: pa.Array) -> NDArray[np.float64]:
    """Return lists of equal length as an array (n, length); NaN for nulls."""
    found = np.full((len(values), values.type.list_size), np.nan)
    there = values.is_valid().to_numpy(zero_copy_only=False)
    found[there] = values.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, values.type.list_size)
    return found


def encoded(name: str, schema: pa.Schema, table: pa.Table, digest: str) -> bytes:
    """Return a catalogue as the bytes of a Parquet file, which depend only on the arguments.

    Parameters
    ----------
    name, schema
        Name and schema of the dataset.
    table, digest
        As in `CatalogStore.publish`.
    """
    whole = pa.Table.from_arrays(
        [column.combine_chunks() for column in table.columns], schema=schema.with_metadata(own_metadata(name, digest))
    )
    sink = BytesIO()
    pq.write_table(whole, sink, row_group_size=1 << 20, **LAYOUT)
    return sink.getvalue()


def read_described(path: Path) -> tuple[Inspected, pa.Table]:
    """Return the metadata and rows of a catalogue, reading it once; errors as in `read_table`."""
    with _failures(path):
        place = find(path)
        if isinstance(place, Held):
            return Inspected(place.dataset, place.digest, place.rows), read_held(place)
    return described_file(path, place)


def described_file(path: Path, content: bytes | Path) -> tuple[Inspected, pa.Table]:
    """Return the metadata and rows of a catalogue, given its bytes or its file; errors as in `read_table`."""
    with _failures(path), _opened(content) as file:
        return _metadata(path, file), file.read()


@contextmanager
def _opened(content: bytes | Path) -> Iterator[pq.ParquetFile]:
    source = pa.BufferReader(content) if isinstance(content, bytes) else content
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        yield file


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            "unreadable_catalogue",
            str(path),
            f"cannot be read as Parquet: {read_failure(error)}.",
            "run the night again: a missing or damaged file is made again.",
        ) from error
