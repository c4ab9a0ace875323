"""Rows of a published dataset over nights and patches of the sky, read only when needed."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from flows.runtime.parallel import side_by_side
from flows.storage.bucket_path import BucketPath, read_files
from flows.storage.catalog_parts import CATALOG_VERSION, EXPOSURES, PREFIX, VERSION
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import catalogs_folder, other_version
from schemas.dataset import TableOf, column
from schemas.errors import BadInput, Misconfigured, read_failure

Found = TypeVar("Found")

NIGHT = column("night", pa.string(), "", "Night, YYYYMMDD of the local evening.", ucd="meta.id;obs")
"""First column of every table that covers several nights."""

_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
_TOO_LARGE = re.compile("overflow|Integer value .* not in range")  # about a condition, not a file
_AT_ONCE = 256
"""Number of objects of a bucket that are in memory at once."""

_TAIL = 1 << 16
"""Bytes that hold the footers of most files: the thrift message, its length in four bytes, and ``PAR1``."""


class RowSource(Protocol):
    """Rows that can be read by columns and conditions: of catalogues, of the ledger, or in memory."""

    @property
    def name(self) -> str:
        """Return the name of the dataset."""

    @property
    def schema(self) -> pa.Schema:
        """Return the columns; their metadata hold unit and meaning."""

    @property
    def nights(self) -> tuple[str, ...]:
        """Return the nights of the rows, sorted."""

    @property
    def parts(self) -> int:
        """Return the number of files that must be read to count the rows."""

    def of(self, nights: Sequence[str]) -> "RowSource":
        """Return the rows of some of the nights."""

    def read(self, columns: Sequence[str], where: pc.Expression | None, limit: int | None = None) -> pa.Table:
        """Return columns of the rows that meet a condition, at most ``limit``."""

    def count(self, where: pc.Expression | None) -> int:
        """Return the number of rows that meet a condition."""


@dataclass(frozen=True)
class MemoryRows:
    """Rows of a table in memory."""

    name: str
    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """Return the columns."""
        return self.table.schema

    @property
    def nights(self) -> tuple[str, ...]:
        """Return no nights, since the rows are not published."""
        return ()

    @property
    def parts(self) -> int:
        """Return 0, since a count reads no file."""
        return 0

    def of(self, nights: Sequence[str]) -> Self:
        """Return the same rows."""
        return self

    def read(self, columns: Sequence[str], where: pc.Expression | None, limit: int | None = None) -> pa.Table:
        """Return columns of the rows that meet a condition, at most ``limit``."""
        return _scanned(ds.dataset(self.table), self.schema, columns, where, limit)

    def count(self, where: pc.Expression | None) -> int:
        """Return the number of rows that meet a condition."""
        with _readable(None):
            return len(self.table) if where is None else int(ds.dataset(self.table).count_rows(filter=where))


@dataclass(frozen=True)
class CatalogueRows:
    """Rows of a dataset as published in an output folder, with the column ``night`` in front.

    Files of an older version, with missing or additional columns, are read with the others; missing columns are null.
    A run may continue meanwhile: each row is read once, from whichever file holds it.

    Parameters
    ----------
    out
        Output folder, on this machine or in a bucket.
    dataset
        Dataset with its declared schema.
    chosen
        Nights; None: all.
    patches
        Patches of the sky, each by order and number of its pixel; None: all, and rows that do not lie in patches.
    """

    out: Path
    dataset: TableOf
    chosen: tuple[str, ...] | None = None
    patches: tuple[tuple[int, int], ...] | None = None

    @property
    def name(self) -> str:
        """Return the name of the dataset."""
        return self.dataset.name

    @cached_property
    def files(self) -> Mapping[str, tuple[Path, ...]]:
        """Return the published files by night, sorted."""
        found: dict[str, list[Path]] = {}
        for path in CatalogStore(self.out).list(self.dataset):
            night = night_of(path)
            wanted = self.patches is None or patch_of(path) in self.patches
            if wanted and (self.chosen is None or night in self.chosen):
                found.setdefault(night, []).append(path)
        return {night: tuple(sorted(found[night], key=str)) for night in sorted(found)}

    @property
    def nights(self) -> tuple[str, ...]:
        """Return the nights with published files, sorted."""
        return tuple(self.files)

    @property
    def parts(self) -> int:
        """Return the number of published files."""
        return sum(map(len, self.files.values()))

    def of(self, nights: Sequence[str]) -> "CatalogueRows":
        """Return the rows of some of the nights."""
        return replace(self, chosen=tuple(nights))

    @cached_property
    def sky(self) -> tuple[tuple[int, int], ...]:
        """Return the patches of its files, sorted; none if the dataset does not lie in patches."""
        found = {patch_of(path) for paths in self.files.values() for path in paths}
        return tuple(sorted(one for one in found if one is not None))

    @cached_property
    def schema(self) -> pa.Schema:
        """Return the columns: ``night``, those of this version, and additional ones of older nights.

        Raises
        ------
        Misconfigured
            A night was written by a later version (``other_version``).
        """
        # A night is written, or rewritten, by one version, so its first file is enough.
        firsts = [paths[0] for paths in self.files.values()]
        fields = {NIGHT.name: NIGHT} | {one.name: one.with_nullable(True) for one in self.dataset.schema}
        remote = any(isinstance(path, BucketPath) for path in firsts)
        for path, content in zip(firsts, side_by_side(_footer, firsts, remote), strict=True):
            try:
                found = pq.read_schema(content)
            except (OSError, pa.ArrowException):  # reading its rows raises the error
                continue
            version = int((found.metadata or {}).get(VERSION, CATALOG_VERSION))
            if version > CATALOG_VERSION:
                raise other_version(path, version, CATALOG_VERSION)
            fields |= {one.name: one.with_nullable(True) for one in found if one.name not in fields}
        return pa.schema(list(fields.values()))

    def read(self, columns: Sequence[str], where: pc.Expression | None, limit: int | None = None) -> pa.Table:
        """Return columns of the rows that meet a condition, at most ``limit``.

        Raises
        ------
        BadInput
            A file cannot be read (``unreadable_catalogue``).
        Misconfigured
            As in `schema`.
        """

        def once(rows: "CatalogueRows") -> pa.Table:
            parts, left = [_selected(rows.schema, columns).empty_table()], limit
            # For a few rows, read one night at a time, so that the files of other nights are not even listed.
            sources = [rows] if limit is None else [_one_night(rows, night) for night in rows.nights]
            for one in (dataset for source in sources for dataset in source._datasets()):
                if left is not None and left <= 0:
                    break
                parts.append(_scanned(one, rows.schema, columns, where, left))
                left = None if left is None else left - len(parts[-1])
            return pa.concat_tables(parts)

        return self._again_if_moved(once)

    def count(self, where: pc.Expression | None) -> int:
        """Return the number of rows that meet a condition; raise as `read` does."""

        def once(rows: "CatalogueRows") -> int:
            with _readable(rows.out):
                return sum(int(one.count_rows(filter=where)) for one in rows._datasets())

        return self._again_if_moved(once)

    def _again_if_moved(self, work: Callable[["CatalogueRows"], Found]) -> Found:
        """Repeat a step if a file has disappeared since it was listed; a run merges the files of a night at its end."""
        try:
            return work(self)
        except BadInput as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        return work(replace(self))

    def _datasets(self) -> Iterator[ds.Dataset]:
        """Yield the datasets to scan one after another; all local files form one dataset."""
        if isinstance(self.out, BucketPath):
            yield from self._fetched()
            return
        local, fragments = LocalFileSystem(), []
        for night, paths in self.files.items():
            known = pc.field(NIGHT.name) == night
            own = {path.stem for path in paths if not path.stem.startswith(PREFIX)}
            for path in paths:
                if path.stem.startswith(PREFIX) and (rest := _rest(path, own)) is not None:
                    yield ds.dataset(_with_night(rest, night, self.schema))
                else:
                    fragments.append(_PARQUET.make_fragment(str(path), local, partition_expression=known))
        yield ds.FileSystemDataset(fragments, self.schema, _PARQUET, local)

    def _fetched(self) -> Iterator[ds.Dataset]:
        """Yield datasets of several objects of a bucket; a part, which is large, is a dataset by itself."""
        waiting: list[tuple[str, Path]] = []
        for night, paths in self.files.items():
            own = {path.stem for path in paths if not path.stem.startswith(PREFIX)}
            for path in paths:
                is_part = path.stem.startswith(PREFIX)
                if not is_part:
                    waiting.append((night, path))
                if waiting and (is_part or len(waiting) == _AT_ONCE):
                    yield self._of_objects(waiting)
                    waiting = []
                if is_part:
                    (content,) = _contents([path])
                    rest = _rest(content, own)
                    found = None if rest is None else ds.dataset(_with_night(rest, night, self.schema))
                    yield found or self._of_contents([(night, content)])
        if waiting:
            yield self._of_objects(waiting)

    def _of_objects(self, listed: Sequence[tuple[str, Path]]) -> ds.Dataset:
        contents = _contents([path for _, path in listed])
        return self._of_contents([(night, content) for (night, _), content in zip(listed, contents, strict=True)])

    def _of_contents(self, contents: Sequence[tuple[str, Any]]) -> ds.Dataset:
        fragments = [
            _PARQUET.make_fragment(content, partition_expression=pc.field(NIGHT.name) == night)
            for night, content in contents
        ]
        return ds.FileSystemDataset(fragments, self.schema, _PARQUET)


def _one_night(rows: CatalogueRows, night: str) -> CatalogueRows:
    """Return the rows of one night, reusing the known columns and files of all nights."""
    found = replace(rows, chosen=(night,))
    found.__dict__.update(schema=rows.schema, files={night: rows.files[night]})  # where `cached_property` keeps them
    return found


def _contents(paths: Sequence[Path]) -> list[Any]:
    """Return the inputs for pyarrow: names of local files, or contents of bucket objects, fetched in parallel."""
    if not any(isinstance(path, BucketPath) for path in paths):
        return list(paths)
    found = read_files(paths)
    for path, content in zip(paths, found, strict=True):
        with _readable(path):
            if isinstance(content, FileNotFoundError):
                raise content
    return [pa.BufferReader(content) for content in found]


def night_of(path: Path) -> str:
    """Return the night of a published file."""
    return next(part for part in path.parts if part.startswith("night=")).removeprefix("night=")


def patch_of(path: Path) -> tuple[int, int] | None:
    """Return order and number of the sky pixel of a published file; None if it has none."""
    found = dict(part.split("=", 1) for part in path.parts if part.startswith(("Norder=", "Npix=")))
    return (int(found["Norder"]), int(found["Npix"].removesuffix(path.suffix))) if len(found) == 2 else None


def known_tables(out: Path, name: str) -> dict[str, TableOf]:
    """Return the declared schema of each table; for ``name``, that of its files if no installed package declares it.

    Raises
    ------
    BadInput
        A file of ``name`` cannot be read.
    """
    from flows.pipeline.graph import declared_tables  # imports all stages

    tables = declared_tables()
    if name not in tables and is_table(name, tables):
        form = TableOf(name, pa.schema([]))
        for path in CatalogStore(out).list(form)[:1]:
            with _readable(path):
                tables[name] = replace(form, schema=pq.read_schema(_footer(path)).remove_metadata())
    return tables


def published_tables(out: Path) -> tuple[str, ...]:
    """Return the names of the published tables, sorted, without arrays and margins of tables."""
    from flows.pipeline.graph import declared_arrays, declared_tables  # imports all stages

    declared, there = declared_tables(), {path.name for path in catalogs_folder(out).glob("*")} - declared_arrays()
    of_packages = {name for name in there - declared.keys() if is_table(name, declared)}
    has_files = {name for name in of_packages if CatalogStore(out).list(TableOf(name, pa.schema([])))}
    return tuple(sorted((there & declared.keys()) | has_files))


def is_table(name: str, declared: Collection[str]) -> bool:
    """Return whether a folder of catalogues is a table, and not the margin of one."""
    return name in declared or name.removesuffix("_margin") not in declared


def _footer(path: Path) -> Any:
    """Return the input for pyarrow to read the schema of a file: its name, or the end of an object."""
    if not isinstance(path, BucketPath):
        return path
    with _readable(path):
        _, content = path.read_end(_TAIL)
        if len(content) == _TAIL and (length := int.from_bytes(content[-8:-4], "little") + 8) > _TAIL:
            _, content = path.read_end(length)
    return pa.BufferReader(content)


def _scanned(
    dataset: ds.Dataset, schema: pa.Schema, columns: Sequence[str], where: pc.Expression | None, limit: int | None
) -> pa.Table:
    with _readable(None):
        names = list(columns)
        table = dataset.to_table(names, where) if limit is None else _first(dataset, names, where, limit)
    return pa.Table.from_arrays(table.columns, schema=_selected(schema, columns))


def _first(dataset: ds.Dataset, names: list[str], where: pc.Expression | None, limit: int) -> pa.Table:
    """Return the first rows, opening only the files that are needed, unlike `Dataset.head`."""
    parts = [dataset.schema.empty_table().select(names)]
    for fragment in dataset.get_fragments():
        if (left := limit - sum(map(len, parts))) <= 0:
            break
        parts.append(fragment.scanner(schema=dataset.schema, columns=names, filter=where).head(left))
    return pa.concat_tables(parts)


def _selected(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns])


def _rest(part: Any, elsewhere: set[str]) -> pa.Table | None:
    """Return the rows of a part without exposures that are also elsewhere; None if the part holds no such exposures.

    The exposures of the part are added to ``elsewhere``.
    """
    where = part if isinstance(part, Path) else None
    with _readable(where), pq.ParquetFile(part, page_checksum_verification=True) as file:
        said = json.loads((file.metadata.metadata or {}).get(EXPOSURES, b"[]"))
        known, names = frozenset(elsewhere), {name for name, *_ in said}
        elsewhere |= names
        if not known & names:
            return None
        whole, first, kept = file.read(), 0, []
    for name, rows, *_ in said:
        if name not in known:
            kept.append(whole.slice(first, rows))
        first += rows
    return pa.concat_tables([whole.slice(0, 0), *kept])


def _with_night(table: pa.Table, night: str, schema: pa.Schema) -> pa.Table:
    columns = [
        pa.array([night] * len(table), pa.string())
        if field.name == NIGHT.name
        else table[field.name].cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


@contextmanager
def _readable(path: Path | None) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        if _TOO_LARGE.match(str(error)):
            problem = "whole numbers of it are too large to be computed with, or compared with fractions."
            raise Misconfigured("bad_condition", "where", problem, "compare them with whole numbers.") from error
        named = re.search("input source '(/[^']+)'", str(error))
        where = str(path or (named[1] if named else "the catalogues"))
        raise BadInput(
            "unreadable_catalogue", where, f"cannot be read as Parquet: {read_failure(error)}.",
            "run `nightstride verify OUT`, which names the file, and the night again: it is made again.",
        ) from error  # fmt: skip
