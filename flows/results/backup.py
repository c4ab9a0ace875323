"""Backup and restoration of the parts of an output folder that only another search could replace."""

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.results.verify import Verification, verify_output
from flows.storage.association_tables import FILE
from flows.storage.atomic import STAGED, make_folder, publish_file
from flows.storage.bucket_path import BucketPath, files_below
from flows.storage.catalog_parts import PREFIX, Held, read_from_part
from flows.storage.file_lock import MODE
from flows.storage.hats import METADATA
from flows.storage.layout import PARTS, catalogs_folder, ledger_folder, outbox_path, require_output
from flows.storage.lease import lease
from flows.storage.ledger import Ledger
from flows.storage.ledger_local import INDEX, as_it_is, named
from flows.storage.writing import writing
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.received_alert import RECEIVED_ALERT

FOLDERS = ("catalogs", "quarantine", "reports", "vetting")
"""Folders whose files are complete as soon as they have their name, except for the last line of verdicts."""


@dataclass(frozen=True)
class Copied:
    """Numbers of files copied, of their bytes, and of unchanged files; each file counts once."""

    files: int = 0
    bytes: int = 0
    kept: int = 0


class _Totals:
    """Files by outcome; a file that changed while it was copied is copied again."""

    def __init__(self) -> None:
        self._sizes, self._kept = dict[Path, int](), set[Path]()

    def copied(self, target: Path, size: int) -> None:
        self._sizes[target] = size

    def kept(self, target: Path) -> None:
        self._kept.add(target)

    def counts(self) -> Copied:
        return Copied(len(self._sizes), sum(self._sizes.values()), len(self._kept - self._sizes.keys()))


def backup_output(out: Path, to: Path) -> Copied:
    """Copy catalogues, ledger, association, outbox, quarantine, pages and verdicts; unchanged files are not copied.

    A run may continue meanwhile. SQLite copies databases in a consistent state, after the files, and again after the
    files that have changed since. Withdrawn catalogues stay in the backup, but are not restored, because its ledger
    does not list them. Tiles are left out; a run makes them again from the images.

    Parameters
    ----------
    out, to
        Output folder, and folder of the backup; both on this machine.

    Raises
    ------
    Misconfigured
        ``out`` is not an output folder or lies in a bucket; the backup cannot be written, or lies in ``out``.
    Retryable
        The disk is full.
    """
    _require_here(out, to)
    require_output(out)
    if to.resolve().is_relative_to(out.resolve()):
        raise Misconfigured("bad_backup", str(to), f"lies in {out}, which is to be backed up.", "name another place.")
    with writing(to):
        totals = _Totals()
        for _ in range(2):
            _copy_files(out, to, (path for folder in FOLDERS for path in _files(out / folder)), totals)
            # Before the ledger: the next run adds what the association lacks.
            for path in (out / FILE, outbox_path(out)):
                _take_database(path, to / path.relative_to(out), totals)
            _copy_ledger(ledger_folder(out), ledger_folder(to), totals)
        # Exposures of a missing part are in another part or in their own files.
        for part in catalogs_folder(to).glob(f"*/*/{PREFIX}*.parquet"):
            if not (out / part.relative_to(to)).exists():
                part.unlink()
        return totals.counts()


def restore_output(source: Path, out: Path, tables: dict[str, TableOf]) -> tuple[Copied, Verification]:
    """Copy a backup to an empty output folder, and verify it.

    Parameters
    ----------
    source, out
        Folder of the backup, and output folder.
    tables
        As in `verify_output`.

    Raises
    ------
    Misconfigured
        ``source`` is not a backup, or ``out`` is not empty (``not_empty``).
    Retryable
        The disk is full.
    """
    _require_here(source, out)
    require_output(source)
    if any((out / part).exists() for part in PARTS):
        raise Misconfigured(
            "not_empty", str(out), "holds results already.", "name an empty folder, or move these away first."
        )
    totals = _Totals()
    with lease(out), writing(out):
        # The ledger is copied last, so that every recorded file exists.
        _copy_files(source, out, _restorable(source), totals)
        for path in (source / FILE, outbox_path(source)):
            _take_database(path, out / path.relative_to(source), totals)
        _copy_ledger(ledger_folder(source), ledger_folder(out), totals)
    return totals.counts(), verify_output(out, tables)


def recorded_files(source: Path, nights: Collection[str] | None = None) -> Iterator[Path]:
    """Yield the catalogues in a ledger, and the files that make those of patches HATS catalogues.

    Parameters
    ----------
    source
        Output folder, or its backup.
    nights
        Nights to include; None: all.
    """
    ledger, parts = Ledger(source), set[Path]()
    labels = sorted({*ledger.nights(), *ledger.named_nights()} if nights is None else nights)
    patches = (one for night in labels for one in ledger.patches(night))
    records = (one for night in labels for one in ledger.records(night))
    for record in (*ledger.whole_nights(labels), *patches, *records):
        for entry in record.datasets.values() if not isinstance(record, NightstrideError) else ():
            path = source / entry.path
            with suppress(BadInput):
                if (one := _joined(path)) is not None and one.sha256 == entry.sha256:
                    parts.add(one.part)
                    continue
            yield from files_below(path) if path.suffix == ".zarr" else [path]
    yield from sorted(parts)
    for night in labels:
        found = (one for name in METADATA for one in catalogs_folder(source).glob(f"*/night={night}/{name}"))
        yield from (one for one in found if one.is_file())


def _joined(path: Path) -> Held | None:
    return None if isinstance(path, BucketPath) else read_from_part(path)


def _restorable(source: Path) -> Iterator[Path]:
    """Yield the catalogues in the ledger of a backup, and all other files."""
    yield from recorded_files(source)
    yield from _files(catalogs_folder(source) / RECEIVED_ALERT.name)  # which no record names
    for folder in FOLDERS[1:]:
        yield from _files(source / folder)


def _require_here(*folders: Path) -> None:
    for folder in folders:
        if isinstance(folder, BucketPath):
            raise Misconfigured(
                "local_folder", str(folder), "is in an object store.", "use versions or replication of the store."
            )


def _copy_files(source: Path, to: Path, files: Iterable[Path], totals: _Totals) -> None:
    groups = set[Path]()
    for path in files:
        target = to / path.relative_to(source)
        staged = target.with_name(f".{target.name}{STAGED}")
        groups |= {one for one in path.parents if one.suffix == ".zarr"}
        try:
            found = path.stat()
            if _same(found, target):
                totals.kept(target)
                continue
            make_folder(target.parent)
            shutil.copy2(path, staged)
        except FileNotFoundError:  # withdrawn meanwhile, or lost: verify tells
            staged.unlink(missing_ok=True)
            continue
        publish_file(staged, target)
        totals.copied(target, found.st_size)
    for group in groups:  # one that was made again may have fewer files
        for path in _files(to / group.relative_to(source)):
            if not (source / path.relative_to(to)).exists():
                path.unlink()


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that have their final name."""
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(top, name) for name in sorted(names) if not name.startswith("."))


def _same(found: os.stat_result, target: Path) -> bool:
    try:
        known = target.stat()
    except FileNotFoundError:
        return False
    return (known.st_size, known.st_mtime_ns) == (found.st_size, found.st_mtime_ns)


PAGES, PAUSE_S, ROUNDS = 5000, 0.01, 20
"""Pages of a database copied while it is locked, the pause after them, s, and the number of attempts."""


def _copy_ledger(source: Path, to: Path, totals: _Totals) -> None:
    """Copy the ledger: first the nights, then the index, which may hold more sources than there are records."""
    there = sorted(source.glob("*.sqlite"), key=lambda path: (path.name == INDEX, path.name))
    for path in there:
        _take_database(path, to / path.name, totals)
    if source / INDEX in there:  # a night without records has no file: one of before must not come back
        for gone in {path.name for path in to.glob("*.sqlite")} - {path.name for path in there}:
            detections = catalogs_folder(source.parent) / DIA_SOURCE.name / f"night={Path(gone).stem}"
            if not any(detections.glob("*.parquet")):  # otherwise it is lost, and nowhere else
                (to / gone).unlink()


def _take_database(path: Path, target: Path, totals: _Totals) -> None:
    size = copy_database(path, target)
    if size is not None:
        totals.copied(target, size)
    elif path.exists():
        totals.kept(target)


def copy_database(path: Path, target: Path) -> int | None:
    """Copy an SQLite database in a consistent state; return its size, bytes, or None if unchanged, missing or empty."""
    staged = target.with_name(f".{target.name}{STAGED}")
    try:
        found = path.stat()
    except FileNotFoundError:  # of a night: its last record was withdrawn meanwhile
        return None
    if not found.st_size or _same(found, target):  # empty: its first change was dropped, or its content is lost
        return None
    make_folder(target.parent)
    staged.unlink(missing_ok=True)
    os.close(os.open(staged, os.O_CREAT | os.O_RDWR, MODE))
    with named(path):
        as_it_is(path, partial(_copy_in_parts, to=staged))
        _require_whole(staged)
    # Of before: what has changed since is copied by the next backup.
    os.utime(staged, ns=(found.st_atime_ns, found.st_mtime_ns))
    publish_file(staged, target)
    return found.st_size


def _require_whole(staged: Path) -> None:
    """Remove a copy with damaged pages, which SQLite copies as they are, and raise: one of before may be whole."""
    try:
        with closing(sqlite3.connect(f"{staged.absolute().as_uri()}?immutable=1", uri=True)) as copy:
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorname = "SQLITE_CORRUPT"
            raise error
    except sqlite3.Error:
        staged.unlink()
        raise


def _copy_in_parts(uri: str, to: Path) -> None:
    """Copy a database in parts, so that writers wait only briefly; each change of it restarts the copy."""
    steps = 0

    def count(_: int, left: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps > ROUNDS * (total // PAGES + 1) and left:
            raise _Restless

    with closing(sqlite3.connect(uri, uri=True)) as one, closing(sqlite3.connect(to)) as other:
        try:
            one.backup(other, pages=PAGES, progress=count, sleep=PAUSE_S)
        except _Restless:
            one.backup(other)


class _Restless(Exception):
    """Raised when a copy is restarted too often."""
