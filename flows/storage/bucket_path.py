"""Paths in a bucket, with the methods of `pathlib.Path` used to read and write the output folder."""

import posixpath
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from flows.runtime.parallel import side_by_side
from flows.runtime.secrets import refuse_credentials
from flows.storage.digest import digest, file_digest
from flows.storage.fence import require_held
from flows.storage.object_store import PROTOCOL, patiently, store_failures, store_of
from schemas.errors import Misconfigured

if TYPE_CHECKING:
    from datetime import datetime

    from obstore.store import S3Store

    # Type checkers see a Path; the class does not inherit methods that use the local disk.
    _Path = Path
else:
    _Path = PurePosixPath


class Versioned(NamedTuple):
    """Content of an object, its version (ETag), and when it was written by the store's clock."""

    content: bytes
    version: str
    written: "datetime"


class BucketPath(_Path):
    """Path ``s3://bucket/prefix/name`` of an object, or of a folder: the objects whose names begin with it.

    A folder exists only if it has objects. An object appears complete with one put, which also replaces an earlier one;
    it is read as a whole.
    """

    def __str__(self) -> str:
        # PurePosixPath reduces two slashes to one.
        text = super().__str__()
        return f"{PROTOCOL}{text[4:]}" if text.startswith("s3:/") else text

    def __fspath__(self) -> str:
        raise Misconfigured(
            "local_folder", str(self), "is in an object store; this needs a folder on this machine.", "copy it there."
        )

    def resolve(self, strict: bool = False) -> Self:
        """Return the path itself: it is always absolute."""
        return self

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a folder exists as soon as it has an object."""

    def read_bytes(self) -> bytes:
        """Read the object; errors as in `flows.storage.object_store.store_failures`."""
        store, key = self._object()
        return patiently(str(self), lambda: bytes(store.get(key).bytes()))

    def open(self, mode: str = "r", **_: Any) -> IO[Any]:  # type: ignore[override]
        """Return the object, read completely, as a file; ``mode`` must be "rb". Errors as in `read_bytes`."""
        if mode != "rb":
            raise ValueError(f"an object is opened in mode 'rb', not {mode!r}")
        return BytesIO(self.read_bytes())

    def read_versioned(self) -> Versioned:
        """Read the object and its version; errors as in `read_bytes`."""
        store, key = self._object()

        def once() -> Versioned:
            found = store.get(key)
            return Versioned(bytes(found.bytes()), found.meta["e_tag"] or "", found.meta["last_modified"])

        return patiently(str(self), once)

    def version(self) -> str:
        """Return the version of the object; errors as in `read_bytes`."""
        store, key = self._object()
        return patiently(str(self), lambda: store.head(key)["e_tag"]) or ""

    def read_end(self, length: int) -> tuple[int, bytes]:
        """Return the size of the object and its last bytes, at most ``length``; errors as in `read_bytes`."""
        store, key = self._object()

        def once() -> tuple[int, bytes]:
            found = store.get(key, options={"range": {"suffix": length}})
            return found.meta["size"], bytes(found.bytes())

        return patiently(str(self), once)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of ranges of the object, each (first, one past the last); errors as in `read_bytes`.

        Ranges that are close together are fetched in one request.
        """
        store, key = self._object()
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        return patiently(str(self), lambda: [bytes(found) for found in store.get_ranges(key, starts=starts, ends=ends)])

    def write(self, content: bytes, replaces: str | None = None, *, create: bool = False) -> str:
        """Write the object; return its version.

        Parameters
        ----------
        content
            Complete content.
        replaces
            Version that must exist now, in the form the store expects; None: any or none.
        create
            Whether the object must not exist yet.

        Raises
        ------
        FileExistsError
            The object has another version, or exists already.
        Misconfigured, Retryable
            As in `flows.storage.object_store.store_failures`.
        """
        store, key = self._object()
        mode: Any = "create" if create else "overwrite" if replaces is None else {"e_tag": replaces}

        def once() -> str:
            # Never in parts: a put is one step, and can have a condition.
            return store.put(key, content, mode=mode, use_multipart=False)["e_tag"] or ""

        if mode == "overwrite":
            return patiently(str(self), once)
        with store_failures(str(self)):  # the write may have succeeded; the caller has to check
            return once()

    def upload(self, file: Path) -> None:
        """Write the object from a local file; a large one in parts, which appear together at the end.

        Raises
        ------
        Misconfigured, Retryable
            As in `flows.storage.object_store.store_failures`.
        """
        store, key = self._object()
        patiently(str(self), lambda: store.put(key, file))

    def download(self, file: IO[bytes]) -> None:
        """Write the object to an open file, piece by piece; errors as in `read_bytes`, and those of the file."""
        store, key = self._object()

        def once() -> OSError | None:
            file.seek(0)
            file.truncate()
            for piece in store.get(key).stream():
                try:
                    file.write(piece)
                    file.flush()
                except OSError as error:  # an error of the local disk, not of the store
                    return error
            return None

        if (error := patiently(str(self), once)) is not None:
            raise error

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object, if it exists."""
        store, key = self._object()
        with suppress(FileNotFoundError):
            patiently(str(self), lambda: store.delete(key))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether the path is an object."""
        store, key = self._object()
        try:
            patiently(str(self), lambda: store.head(key))
        except FileNotFoundError:
            return False
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there are objects below the path."""
        store, prefix = self._object()
        return bool(patiently(str(self), lambda: next(store.list(prefix or None, chunk_size=1), None)))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether the path is an object or has objects below it."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Generator[Self, None, None]:
        """Yield the objects and folders directly below."""
        store, prefix = self._object()
        found = patiently(str(self), lambda: store.list_with_delimiter(prefix or None))
        names = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        yield from (self / posixpath.basename(name.rstrip("/")) for name in names)

    def glob(self, pattern: str, **_: Any) -> Generator[Self, None, None]:
        """Yield matching paths level by level; ``**`` is not supported, and the last level must be a pattern."""
        found = [self]
        for part in PurePosixPath(pattern).parts:
            if any(sign in part for sign in "*?["):
                found = [one for folder in found for one in folder.iterdir() if fnmatchcase(one.name, part)]
            else:
                found = [folder / part for folder in found]
        yield from found

    def rglob(self, pattern: str, **_: Any) -> Generator[Self, None, None]:
        """Yield all objects below; the only supported pattern is ``*``."""
        if pattern != "*":
            raise ValueError(f"objects are listed by '*', not {pattern!r}")
        yield from (path for path, _ in self.objects())

    def objects(self) -> list[tuple[Self, int]]:
        """Return all objects below, and their sizes in bytes."""
        bucket = type(self)(PROTOCOL + self.parts[1])
        store, prefix = self._object()
        pages = patiently(str(self), lambda: list(store.list(prefix or None)))
        return [(bucket / one["path"], one["size"]) for page in pages for one in page]

    def sizes(self) -> list[int]:
        """Return the size of the object, or of every object below, bytes."""
        store, key = self._object()
        try:
            return [patiently(str(self), lambda: store.head(key))["size"]]
        except FileNotFoundError:
            return [size for _, size in self.objects()]

    def _object(self) -> "tuple[S3Store, str]":
        return store_of(self.parts[1]), "/".join(self.parts[2:])


def located(text: str) -> Path:
    """Return the path of a folder named on the command line: local, or ``s3://bucket/prefix``.

    Raises
    ------
    Misconfigured
        The URL has another protocol, no bucket, or credentials.
    """
    protocol, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    refuse_credentials(text, "the URL of a folder")
    if protocol != "s3" or not rest.strip("/") or ".." in PurePosixPath(rest).parts:
        raise Misconfigured(
            "no_such_folder", text, "is not a place for results.", "name a folder, or s3://BUCKET/PREFIX."
        )
    return BucketPath(text.rstrip("/"))


def read_files(paths: Iterable[Path]) -> list[bytes | FileNotFoundError]:
    """Read files, in parallel if they are in a bucket; missing files give `FileNotFoundError` in place of content.

    Raises
    ------
    OSError, Misconfigured, Retryable
        As in reading a single file, except `FileNotFoundError`.
    """
    listed = list(paths)
    return side_by_side(_read, listed, any(isinstance(path, BucketPath) for path in listed))


def remove_objects(paths: Sequence[Path]) -> None:
    """Remove objects in parallel; errors as in `BucketPath.unlink`."""
    side_by_side(lambda path: path.unlink(missing_ok=True), paths, remote=True)


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted."""
    if isinstance(folder, BucketPath):
        return sorted(folder.rglob("*"))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def file_sizes(path: Path) -> list[int]:
    """Return the size of a file, or of every file below a folder, bytes; empty if the path does not exist."""
    if isinstance(path, BucketPath):
        return path.sizes()
    return [one.stat().st_size for one in ([path] if path.is_file() else files_below(path))]


def change_of(path: Path) -> object:
    """Return a value that differs after a file changes or a folder's entries do; errors as in reading a file."""
    if not isinstance(path, BucketPath):
        return path.stat().st_mtime_ns
    try:
        return path.version()
    except FileNotFoundError:
        if found := path.objects():
            return tuple(found)
        raise


def _read(path: Path) -> bytes | FileNotFoundError:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        return error


ROOT = "zarr.json"
"""A group cannot be opened without it, so it is written last and removed first."""


def publish_group(folder: Path, path: BucketPath) -> None:
    """Upload the files of a Zarr group to ``path``, replacing an existing group.

    Until its root, the last object, is written, readers find no group; they never see a mixture of two states.

    Raises
    ------
    Misconfigured, Retryable
        As in `BucketPath.write`. Then the group is missing, and the next attempt writes it again.
    """
    require_held(path)
    new = {path / file.relative_to(folder).as_posix(): file for file in files_below(folder)}
    old = set(files_below(path))
    root = path / ROOT
    if root in old:
        root.unlink()
    side_by_side(lambda name: name.write(new[name].read_bytes()), sorted(new.keys() - {root}), remote=True)
    remove_objects(sorted(old - new.keys()))
    require_held(path)
    root.write(new[root].read_bytes())


def remove_group(path: BucketPath) -> None:
    """Remove all objects below ``path``, the root of the group first; errors as in `BucketPath.unlink`."""
    (path / ROOT).unlink()
    remove_objects(files_below(path))


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 over the names and bytes of all files below a folder."""
    files = files_below(folder)
    return digest({path.relative_to(folder).as_posix(): file_digest(path) for path in files})
