"""Compaction: the catalogues of a night in few files instead of one per exposure.

A part (`flows.storage.catalog_parts`) holds the rows of thousands of exposures by visit and detector. An exposure that
has a file of its own is read from that. What the ledger says of a catalogue stays true, wherever its rows lie: the path
is that of its own file, which `extract` makes again with the same bytes.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from flows.storage import catalog_parts
from flows.storage.atomic import new_folder, require_lease, write_file
from flows.storage.bucket_path import BucketPath
from flows.storage.catalog_parts import (
    PREFIX,
    Catalogue,
    Held,
    catalogue_of,
    entries,
    forget_parts,
    parts,
    read_held,
    rewrite_without,
    write_parts,
)
from flows.storage.catalog_store import encoded, read_described
from flows.storage.digest import file_digest
from schemas.errors import BadInput

_OF_EXPOSURE = re.compile(r"\d+-\d+")

Fill = Callable[[Path, Path], None]


def compact(out: Path, night: str, least: int, run: Callable[[Fill, Path, Path], Any]) -> int:
    """Join the catalogues of exposures, dataset by dataset, where there are many of a night.

    The folder of a dataset and night is replaced in one step: whoever reads its files finds each row once. Nothing may
    be published in it meanwhile; the caller holds the lease of ``out``.

    Parameters
    ----------
    out, night
        Output folder on this machine, and night. In a bucket nothing is done.
    least
        Files from which on those of a dataset are joined.
    run
        Calls a function, in a process of its own where that takes long.

    Returns
    -------
    int
        Files that there are fewer.

    Raises
    ------
    Retryable, Misconfigured
        As in `flows.storage.atomic.new_folder`; ``taken_over``.
    """
    if isinstance(out, BucketPath):
        return 0
    fewer = 0
    for folder in sorted((out / "catalogs").glob(f"*/night={night}")):
        if not _is_due(folder, least):
            continue
        count = len(list(folder.iterdir()))
        with new_folder(folder) as staged:
            run(fill, folder, staged)
            require_lease(folder)
        forget_parts()
        fewer += count - len(list(folder.iterdir()))
    return fewer


def fill(folder: Path, staged: Path) -> None:
    """Fill a new folder with what a folder of catalogues holds, those of exposures joined.

    Parameters
    ----------
    folder
        Of a dataset and night.
    staged
        New and empty, on the same file system.
    """
    singles, joined, kept = _singles(folder), list[Held | Path](), list[Path]()
    for part in parts(folder):
        try:
            found = entries(part)
        except BadInput:  # verify names it
            kept.append(part)
            continue
        if _is_full(found.values()) and not found.keys() & singles.keys():
            kept.append(part)
        else:
            joined += [one for name, one in found.items() if name not in singles]
    kept += [path for path in folder.iterdir() if path.stem not in singles and not path.name.startswith(PREFIX)]
    for path in kept:
        _link(path, staged / path.name)
    joined += singles.values()
    write_parts(staged, _readable(sorted(joined, key=_place), staged), len(parts(staged)))


def extract(folder: Path, names: Collection[str], staging: Path) -> None:
    """Give exposures that a part holds files of their own again, which can be replaced.

    For a moment both are there, the file first: what is read by the ledger is the file.

    Parameters
    ----------
    folder, names
        As of `flows.storage.catalog_parts.rewrite_without`; errors, too.
    staging
        Folder for files being written.
    """

    def write(one: Held) -> None:
        if not (path := folder / f"{one.name}.parquet").exists():
            write_file(path, _own_file(one), staging)

    rewrite_without(folder, names, write)


def _is_due(folder: Path, least: int) -> bool:
    singles = _singles(folder)
    if len(singles) >= least:
        return True
    with suppress(BadInput):  # of a process killed in `extract`: both are there
        return any(entries(part).keys() & singles.keys() for part in parts(folder))
    return False


def _singles(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.parquet") if _OF_EXPOSURE.fullmatch(path.stem)}


def _is_full(found: Iterable[Held]) -> bool:
    rows = [one.rows for one in found]
    return len(rows) >= catalog_parts.MOST_EXPOSURES or sum(rows) >= catalog_parts.MOST_ROWS


def _readable(catalogues: Iterable[Held | Path], staged: Path) -> Iterator[Catalogue]:
    """Yield catalogues; a file that cannot be read stays as it is."""
    for one in catalogues:
        if isinstance(one, Held):
            yield catalogue_of(one)
            continue
        try:
            found, rows = read_described(one)
        except Exception:  # of whatever kind: verify names it
            _link(one, staged / one.name)
            continue
        yield Catalogue(found.dataset, (one.stem, found.rows, found.digest, file_digest(one)), rows)


def _place(one: Held | Path) -> tuple[int, ...]:
    return tuple(map(int, (one.name if isinstance(one, Held) else one.stem).split("-")))


def _link(path: Path, to: Path) -> None:
    """Give a file a second name, or copy it where the file system has none."""
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
    """Return a field with the name that Arrow gives the values of lists; Parquet calls them otherwise."""
    if not pa.types.is_fixed_size_list(field.type):
        return field
    return field.with_type(pa.list_(field.type.value_type, field.type.list_size))
