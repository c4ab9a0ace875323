"""Groups of objects that are there whole or not at all, and copies of them on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.adapters.bucket_path import BucketPath, files_below, remove_objects, side_by_side

ROOT = "zarr.json"
"""Without it a group cannot be opened: written last, removed first."""


def publish_group(folder: Path, path: BucketPath) -> None:
    """Put the files of a Zarr group below ``path``; what was there before is replaced.

    Until the last object is there, the group has no root and is missing to its readers; never are two states mixed
    for who opens it.

    Raises
    ------
    Misconfigured, Retryable
        As in `BucketPath.write`. The group is missing then, and the next attempt writes it anew.
    """
    new = {path / file.relative_to(folder).as_posix(): file for file in files_below(folder)}
    old = set(files_below(path))
    root = path / ROOT
    if root in old:
        root.unlink()
    side_by_side(lambda name: name.write(new[name].read_bytes()), sorted(new.keys() - {root}), remote=True)
    remove_objects(sorted(old - new.keys()))
    root.write(new[root].read_bytes())


def remove_group(path: BucketPath) -> None:
    """Remove all objects below ``path``, the root of the group first; errors as in `BucketPath.unlink`."""
    (path / ROOT).unlink()
    remove_objects(files_below(path))


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Give a folder on this machine with the files below ``path``: itself, or a copy that goes with the block.

    Raises
    ------
    OSError, Misconfigured, Retryable
        It cannot be read.
    """
    if not isinstance(path, BucketPath):
        yield path
        return
    with TemporaryDirectory(prefix="nightstride-") as folder:

        def fetch(file: Path) -> None:
            there = Path(folder) / file.relative_to(path).as_posix()
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(file.read_bytes())

        side_by_side(fetch, files_below(path), remote=True)
        yield Path(folder)
