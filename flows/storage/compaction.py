"""Compaction: the catalogues of a night in few files instead of one per exposure.

A part (`flows.storage.catalog_parts`) holds the rows of thousands of exposures, sorted by visit and detector. If an
exposure has a file of its own, that is read instead. Ledger records stay valid: they give the path of an exposure's own
file, which `extract` can write again with the same bytes.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from flows.storage import catalog_parts
from flows.storage.atomic import new_folder, require_lease, write_file
from flows.storage.bucket_path import BucketPath, read_files, remove_objects
from flows.storage.catalog_parts import (
    Catalogue,
    Held,
    catalogue_of,
    entries,
    forget_parts,
    is_part,
    parts,
    read_held,
    rewrite_without,
    upload_parts,
    write_parts,
)
from flows.storage.catalog_store import described_file, encoded
from flows.storage.digest import content_digest
from flows.storage.layout import catalogs_folder
from flows.storage.object_store import configure, configured
from schemas.errors import BadInput
from schemas.settings import StoreSettings

_OF_EXPOSURE = re.compile(r"\d+-\d+")

_AT_ONCE = 64  # objects in a bucket fetched in parallel

Fill = Callable[[Path, Path], None]


def compact(out: Path, night: str, least: int, run: Callable[[Fill, Path, Path], Any]) -> int:
    """Join the catalogues of a night's exposures, for each dataset that has many files.

    The folder of a dataset and night is replaced in one step, so readers of its files find each row once. A bucket has
    no such step: parts are uploaded first, and then the objects that they hold are removed. Until that is done, also
    after a kill, only readers that use the ledger or `nightstride.open` find each row once.

    Nothing may be published in the folder meanwhile; the caller holds the lease of ``out``.

    Parameters
    ----------
    out, night
        Output folder, and label of the night.
    least
        Least number of files of a dataset that are joined.
    run
        Calls a function, in a separate process if that takes long.

    Returns
    -------
    int
        Decrease of the number of files.

    Raises
    ------
    Retryable, Misconfigured
        As in `flows.storage.atomic.new_folder` and `BucketPath.upload`; ``taken_over``.
    """
    fewer = 0
    for folder in sorted(catalogs_folder(out).glob(f"*/night={night}")):
        if not _is_due(folder, least):
            continue
        count = len(list(folder.iterdir()))
        if isinstance(folder, BucketPath):
            _replace_objects(folder, run)
        else:
            _replace_folder(folder, run)
        forget_parts()
        fewer += count - len(list(folder.iterdir()))
    return fewer


def _replace_folder(folder: Path, run: Callable[[Fill, Path, Path], Any]) -> None:
    with new_folder(folder) as staged:
        run(fill, folder, staged)
        require_lease(folder)


def _replace_objects(folder: BucketPath, run: Callable[[Fill, Path, Path], Any]) -> None:
    with TemporaryDirectory(prefix="nightstride-") as staged:
        run(partial(_fill_from_bucket, configured()), folder, Path(staged))
        new = upload_parts(Path(staged), folder)
        names = {name for part in parts(Path(staged)) for name in entries(part)}
    singles, joined = _listed(folder)
    old = [part for part in joined if part not in new and names | singles.keys() >= set(_names(part))]
    for gone in (old, [path for name, path in singles.items() if name in names]):
        # Parts first: they may hold earlier states of exposures that were made again.
        require_lease(folder)
        remove_objects(gone)


def _fill_from_bucket(store: StoreSettings, folder: Path, staged: Path) -> None:
    """Fill a folder like `fill`, in a process that must first be told how to reach the store."""
    configure(store)
    fill(folder, staged)


def _names(part: Path) -> Collection[str]:
    """Return the names of exposures in a part; for a damaged part, which is kept, a name that no exposure has."""
    try:
        return entries(part).keys()
    except BadInput:  # `verify` reports it
        return {part.name}


def fill(folder: Path, staged: Path) -> None:
    """Fill a new folder with the content of a folder of catalogues, joining those of exposures.

    Parameters
    ----------
    folder
        Folder of a dataset and night. In a bucket, unchanged objects are not copied.
    staged
        New and empty folder; on the same file system as ``folder`` unless that is in a bucket.
    """
    singles, earlier = _listed(folder)
    joined, kept = dict[str, Held | Path](), list[Path]()
    repeated = _repeated(singles, earlier)
    for part in earlier:
        try:
            found = entries(part)
        except BadInput:  # `verify` reports it
            kept.append(part)
            continue
        if _is_full(found.values()) and not found.keys() & repeated:
            kept.append(part)
        else:
            joined |= found
    if not isinstance(folder, BucketPath):
        others = [path for path in folder.iterdir() if path.stem not in singles and not is_part(path.name)]
        for path in kept + others:
            _link(path, staged / path.name)
    joined |= singles
    write_parts(staged, _readable(sorted(joined.values(), key=_place), staged), len(kept))


def extract(folder: Path, names: Collection[str], staging: Path) -> None:
    """Write separate, replaceable files for exposures held by a part.

    For a moment both exist, the file first: readers that use the ledger read the file.

    Parameters
    ----------
    folder, names
        As in `flows.storage.catalog_parts.rewrite_without`, which also lists the errors.
    staging
        Folder for files being written.
    """

    def write(one: Held) -> None:
        if not (path := folder / f"{one.name}.parquet").exists():
            write_file(path, _own_file(one), staging)

    rewrite_without(folder, names, write)


def _is_due(folder: Path, least: int) -> bool:
    singles, joined = _listed(folder)
    return len(singles) >= least or bool(_repeated(singles, joined))


def _repeated(singles: Collection[str], joined: Iterable[Path]) -> set[str]:
    """Return exposures found in several places, after a kill during `extract` or while joining."""
    found = Counter(list(singles))  # a Counter would take the values of a mapping as counts
    for part in joined:
        with suppress(BadInput):
            found.update(entries(part).keys())
    return {name for name, places in found.items() if places > 1}


def _listed(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return the catalogues of exposures by name, and the sorted parts."""
    singles, joined = {}, list[Path]()
    for path in folder.glob("*.parquet"):
        if _OF_EXPOSURE.fullmatch(path.stem):
            singles[path.stem] = path
        elif is_part(path.name):
            joined.append(path)
    return singles, sorted(joined)


def _is_full(found: Iterable[Held]) -> bool:
    rows = [one.rows for one in found]
    return len(rows) >= catalog_parts.MOST_EXPOSURES or sum(rows) >= catalog_parts.MOST_ROWS


def _readable(catalogues: Sequence[Held | Path], staged: Path) -> Iterator[Catalogue]:
    """Yield the catalogues; a file that cannot be read is kept as it is."""
    for first in range(0, len(catalogues), _AT_ONCE):
        some = catalogues[first : first + _AT_ONCE]
        remote = [one for one in some if isinstance(one, BucketPath)]
        contents = dict(zip(remote, read_files(remote), strict=True))
        for one in some:
            if isinstance(one, Held):
                yield catalogue_of(one)
                continue
            try:
                yield _own(one, contents[one] if isinstance(one, BucketPath) else one)
            except Exception:  # an error of any kind: `verify` reports it
                if not isinstance(one, BucketPath):
                    _link(one, staged / one.name)


def _own(path: Path, content: bytes | Path | FileNotFoundError) -> Catalogue:
    if isinstance(content, FileNotFoundError):
        raise content
    found, rows = described_file(path, content)
    return Catalogue(found.dataset, (path.stem, found.rows, found.digest, content_digest(content)), rows)


def _place(one: Held | Path) -> tuple[int, ...]:
    return tuple(map(int, (one.name if isinstance(one, Held) else one.stem).split("-")))


def _link(path: Path, to: Path) -> None:
    """Link a file under a second name, or copy it if the file system has no links."""
    if path.is_dir():
        shutil.copytree(path, to, copy_function=lambda one, other: _link(Path(one), Path(other)))
        return
    try:
        os.link(path, to)
    except OSError:
        shutil.copy2(path, to)


def _own_file(one: Held) -> bytes:
    table = read_held(one)
    return encoded(one.dataset, pa.schema(map(_as_declared, table.schema)), table, one.digest)


def _as_declared(field: pa.Field) -> pa.Field:
    """Return a field with the name that Arrow gives list items; Parquet names them differently."""
    if not pa.types.is_fixed_size_list(field.type):
        return field
    return field.with_type(pa.list_(field.type.value_type, field.type.list_size))
