"""Parts: Parquet files that each hold the catalogues of many exposures of a night."""

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from threading import Lock
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.storage.atomic import STAGED, holds, publish_file, remove, require_lease, sync, term_of
from flows.storage.bucket_path import BucketPath
from flows.storage.digest import digest, file_digest
from flows.storage.writing import writing
from schemas.errors import BadInput, read_failure

PREFIX = "part-"
"""Prefix of the names of parts, which end in the first half of their SHA-256: ``part-0000-<sha256>.parquet``."""

_PARTS = f"{PREFIX}*.parquet"

DATASET, DIGEST, VERSION = b"nightstride.dataset", b"nightstride.digest", b"nightstride.schema_version"
"""Metadata keys of each catalogue."""

EXPOSURES = b"nightstride.exposures"
"""Key of a part's metadata: name, rows, digest and SHA-256 of each catalogue in it, as JSON."""

CATALOG_VERSION = 1
"""Version of the layout and the metadata of the files. Readers refuse later versions."""

LAYOUT: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": True,
    "write_page_checksum": True,
    "store_schema": True,
}
"""Complete file layout, so that new defaults of the library change no bytes."""


def own_metadata(name: str, digest: str) -> dict[bytes, str]:
    """Return the metadata of a catalogue: dataset, digest of its inputs, and version."""
    return {DATASET: name, DIGEST: digest, VERSION: str(CATALOG_VERSION)}


MOST_EXPOSURES, MOST_ROWS = 4096, 1 << 20
"""Numbers of exposures and rows at which a part is closed."""

GROUP = 1024
"""Minimum number of rows in a row group, which is what is read for one exposure."""


class Held(NamedTuple):
    """Catalogue held by a part.

    Attributes
    ----------
    part
        Path of the part.
    name
        Name of the exposure, ``<visit>-<detector>``.
    first, rows
        Index of its first row in the part, and number of rows.
    dataset, digest, sha256
        Dataset and digest as in the metadata of its own file, and the SHA-256 of that file.
    """

    part: Path
    name: str
    first: int
    rows: int
    dataset: str
    digest: str
    sha256: str


def parts(folder: Path) -> list[Path]:
    """Return the parts in the folder of a dataset and night, sorted."""
    return sorted(folder.glob(_PARTS))


def is_part(name: str) -> bool:
    """Return whether a file with this name is a part."""
    return fnmatchcase(name, _PARTS)


def held(path: Path) -> Held | None:
    """Return the part's catalogue of an exposure that has no file of its own, given the path which that would have.

    None if the file exists or no part holds the catalogue. Errors as in `read_from_part`.
    """
    there = path.is_file() if isinstance(path, BucketPath) else path.exists()
    return None if there else read_from_part(path)


def find(path: Path) -> Held | bytes | Path:
    """Return where a catalogue is: in a part, or its own file; for an object in a bucket, return its bytes.

    Raises
    ------
    FileNotFoundError
        The object does not exist, and no part holds the catalogue.
    BadInput
        As in `read_from_part`.
    """
    if not isinstance(path, BucketPath):
        return held(path) or path
    # The holder of the lease knows without asking: only it joins and extracts catalogues.
    names = _known_names(path.parent)
    if names is not None and path.name not in names and (one := read_from_part(path)) is not None:
        return one
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if (one := read_from_part(path)) is None:
            raise
        return one


def read_from_part(path: Path) -> Held | None:
    """Return a part's catalogue of an exposure by the path of its own file, which may exist too; None: no part has it.

    Raises
    ------
    BadInput
        A part is damaged (``damaged_part``), and no other part holds the catalogue.
    """
    folder, trouble = path.parent, None
    try:
        found = _listed(folder)
    except OSError:
        return None
    for part in found:
        try:
            if (one := entries(part).get(path.stem)) is not None:
                return one
        except BadInput as error:
            if isinstance(error.__cause__, FileNotFoundError):  # rewritten since it was listed
                return held(path)
            trouble = error
    if trouble is not None:
        raise trouble
    return None


def _listed(folder: Path) -> Sequence[Path]:
    """Return the parts in a folder, listing it again if it may have changed."""
    if not isinstance(folder, BucketPath):
        return _parts(folder, _identity(folder))
    if (names := _known_names(folder)) is None:
        return parts(folder)
    return [folder / name for name in sorted(names) if is_part(name)]


def _known_names(folder: BucketPath) -> frozenset[str] | None:
    """Return the names in a folder as first seen by the holder of the lease; None if others may change them."""
    out = folder.parents[2]
    if not holds(out):
        return None
    with _listing:  # if threads ask at the same time, only one lists the folder
        return _names(folder, term_of(out))


_listing = Lock()


@lru_cache(maxsize=16)
def _names(folder: BucketPath, _: int) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir())


def _identity(path: Path) -> tuple[int, int, int]:
    if isinstance(path, BucketPath):  # the content of a part never changes under its name
        return 0, 0, 0
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=16)
def _parts(folder: Path, _: tuple[int, int, int]) -> tuple[Path, ...]:
    return tuple(parts(folder))


def forget_parts() -> None:
    """Forget the contents of folders, since this process has changed one."""
    _parts.cache_clear()
    _names.cache_clear()


def entries(part: Path) -> Mapping[str, Held]:
    """Return exposure name -> catalogue in a part; the SHA-256 of the file is compared with its name once.

    Raises
    ------
    BadInput
        Its bytes differ from those published, or cannot be read (``damaged_part``).
    """
    try:
        return _entries(part, _identity(part))
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise _damaged(part, f"cannot be read: {read_failure(error)}") from error


@lru_cache(maxsize=64)
def _entries(part: Path, _: tuple[int, int, int]) -> Mapping[str, Held]:
    with _here(part) as file:
        if (named := part.stem.rpartition("-")[2]) != (sha256 := file_digest(file))[: len(named)] or not named:
            raise _damaged(part, f"its SHA-256 is {sha256}, not that of its name")
        metadata = pq.read_metadata(file).metadata
    dataset, first, found = metadata[DATASET].decode(), 0, {}
    for name, rows, made_from, own in json.loads(metadata[EXPOSURES]):
        found[name] = Held(part, name, first, rows, dataset, made_from, own)
        first += rows
    return found


_COPIES = 32
"""Number of parts from buckets that a process keeps on this machine."""

_copies: OrderedDict[Path, int] = OrderedDict()
_lock = Lock()


@contextmanager
def _here(part: Path) -> Iterator[Path]:
    """Yield a part as a local file: itself, or a cached copy; errors as in `BucketPath.download`.

    Within the block the file stays valid, whatever other threads request.
    """
    if not isinstance(part, BucketPath):
        yield part
        return
    with _lock:
        if part not in _copies:
            with writing(Path(gettempdir())), TemporaryFile(prefix="nightstride-") as copy:
                part.download(copy)
                _copies[part] = os.dup(copy.fileno())  # unnamed, so nothing is left when the process ends
        _copies.move_to_end(part)
        while len(_copies) > _COPIES:
            os.close(_copies.popitem(last=False)[1])
        own = os.dup(_copies[part])
    try:
        yield Path(f"/proc/self/fd/{own}")
    finally:
        os.close(own)


def _damaged(part: Path, problem: str) -> BadInput:
    return BadInput(
        "damaged_part",
        str(part),
        f"{problem}.",
        "put it back from a backup, or run its exposures again and remove the file then.",
    )


def read_held(one: Held) -> pa.Table:
    """Return the rows of a catalogue in a part; raises pyarrow's errors."""
    metadata, bounds = _footer(one.part, _identity(one.part))
    first, last = np.searchsorted(bounds, (one.first, max(one.first, one.first + one.rows - 1)), side="right") - 1
    groups = list(range(first, last + 1)) if one.rows else []
    with (
        _here(one.part) as here,
        pq.ParquetFile(here, metadata=metadata, page_checksum_verification=True) as file,
    ):
        rows = file.read_row_groups(groups) if groups else file.schema_arrow.empty_table()
    return rows.slice(one.first - int(bounds[first]) if groups else 0, one.rows)


@lru_cache(maxsize=8)
def _footer(part: Path, _: tuple[int, int, int]) -> tuple[pq.FileMetaData, NDArray[np.int64]]:
    with _here(part) as here:
        metadata = pq.read_metadata(here)
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return metadata, np.concatenate([[0], np.cumsum(rows, dtype=int)])


class Catalogue(NamedTuple):
    """Rows of an exposure, and its entry in a part: name, number of rows, digest, SHA-256 of its own file."""

    dataset: str
    said: tuple[str, int, str, str]
    rows: pa.Table


def catalogue_of(one: Held) -> Catalogue:
    """Return a catalogue held by a part; raises pyarrow's errors."""
    return Catalogue(one.dataset, (one.name, one.rows, one.digest, one.sha256), read_held(one))


def write_parts(folder: Path, catalogues: Iterable[Catalogue], number: int) -> None:
    """Write catalogues into parts numbered from ``number``; each appears when complete.

    Errors as in `flows.storage.atomic.write_file`.
    """
    if isinstance(folder, BucketPath):
        with TemporaryDirectory(prefix="nightstride-") as here, writing(Path(here)):
            write_parts(Path(here), catalogues, number)
            upload_parts(Path(here), folder)
        return
    readings = iter(catalogues)
    one = next(readings, None)
    while one is not None:
        staged = folder / f".{uuid4().hex}{STAGED}"
        try:
            one = _write_part(staged, one, readings)
            publish_file(staged, folder / f"{PREFIX}{number:04}-{file_digest(staged)[:32]}.parquet")
        finally:
            staged.unlink(missing_ok=True)
        number += 1


def upload_parts(here: Path, folder: BucketPath) -> list[BucketPath]:
    """Upload the parts in a local folder to a folder in a bucket; return their paths there.

    Raises
    ------
    Retryable, Misconfigured
        As in `BucketPath.upload`; ``taken_over``.
    """
    there = [folder / part.name for part in parts(here)]
    for part in there:
        require_lease(folder)
        part.upload(here / part.name)
    return there


def _write_part(path: Path, one: Catalogue | None, others: Iterator[Catalogue]) -> Catalogue | None:
    """Write catalogues with the same schema until the part is full; return the first that is not in it."""
    assert one is not None
    said, waiting, total, rows = list[tuple[str, int, str, str]](), list[pa.Table](), 0, 0
    whole = own_metadata(one.dataset, "")
    schema = one.rows.schema.with_metadata({key: value for key, value in whole.items() if key != DIGEST})
    with pq.ParquetWriter(path, schema, **LAYOUT) as writer:
        while one is not None and len(said) < MOST_EXPOSURES and total < MOST_ROWS and one.rows.schema.equals(schema):
            said.append(one.said)
            if len(one.rows):
                waiting.append(one.rows.replace_schema_metadata(schema.metadata))
            total, rows = total + len(one.rows), rows + len(one.rows)
            if rows >= GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
                waiting, rows = [], 0
            one = next(others, None)
        if rows:
            writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
        made_from = digest(*(part for _, _, part, _ in said))
        writer.add_key_value_metadata({DIGEST: made_from, EXPOSURES: json.dumps(said)})
    return one


def rewrite_without(folder: Path, names: Collection[str], before: Callable[[Held], None] | None = None) -> None:
    """Rewrite parts without some exposures.

    Parameters
    ----------
    folder
        Folder of a dataset and night.
    names
        Names of exposures, ``<visit>-<detector>``; those in no part are ignored, and damaged parts are not changed.
    before
        Called with each removed catalogue while the part still holds it.

    Raises
    ------
    Retryable, Misconfigured
        As in `flows.storage.atomic.write_file`; ``taken_over``.
    """
    for part in parts(folder):
        try:
            found = entries(part)
        except BadInput:
            continue
        if not (wanted := sorted(found.keys() & set(names))):
            continue
        require_lease(folder)
        if before is not None:
            for name in wanted:
                before(found[name])
        with writing(folder):
            taken = set(wanted)
            left = (catalogue_of(one) for name, one in found.items() if name not in taken)
            write_parts(folder, left, int(part.stem.split("-")[1]))
            part.unlink()
            if not isinstance(folder, BucketPath):
                sync(folder)
    forget_parts()


def withdraw(paths: Iterable[Path]) -> None:
    """Remove published files, including those held by parts; removing many together costs little more than one.

    Errors as in `rewrite_without`.
    """
    listed = list(paths)
    for folder in sorted({path.parent for path in listed}):
        if parts(folder):
            rewrite_without(folder, {path.stem for path in listed if path.parent == folder})
    for path in listed:
        remove(path)
