"""Exposures that arrive: in a folder, or under a prefix of an object store."""

import posixpath
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flows.inputs.files import failure_words, file_system, no_credentials, outside
from flows.inputs.folder_walk import SUFFIXES, is_local, walk
from flows.inputs.siblings import Beside, archive_plane, beside, siblings, stem_of
from flows.inputs.source import uri_of
from schemas.errors import Misconfigured, Retryable


class Arrivals(Protocol):
    """Image files that arrive one after another. Files not asked for stay where they are."""

    announced: bool
    """Whether the files are named in messages, which may name anything."""

    @property
    def ready(self) -> bool:
        """Return whether arrivals would be noticed, or why not is known; until then silence means nothing."""

    @property
    def waiting(self) -> int:
        """Return the number of files that are ready and not taken yet; 0 if not known."""

    def poll(self, room: int) -> list[str]:
        """Return up to ``room`` paths or URLs that are ready, possibly none, each once per state of the file.

        Raises
        ------
        Retryable
            The place cannot be read for now.
        """

    def finished(self, uri: str) -> None:
        """Mark a file as done: published, or recorded as unusable; it need not be delivered again."""

    def close(self) -> None:
        """Release what was not taken."""


Signature = tuple[int, str]
"""Size, bytes, and the file system's record of the last change."""


@dataclass(frozen=True)
class _Seen:
    """File as last seen: its signature, since when it is unchanged, and whether it was returned."""

    signature: Signature
    since: float
    taken: bool = False


class FolderArrivals:
    """Arrivals in a folder and all below it, also behind links to folders, found by listing.

    A file is ready when its size and time have not changed for ``still_s``, nor those of the files that belong to it
    by the archive's names and of copies elsewhere; or, with ``done_suffix``, as soon as there is a file with its name
    and that suffix. Hidden files and folders and files without the suffix of an image are ignored, so a file may be
    written as ``name.part`` and renamed. A file that changes after it was returned is returned again. A folder that
    cannot be listed is returned with ``/`` at its end.

    Parameters
    ----------
    uri
        Folder, or URL of a prefix.
    still_s
        How long a file must be unchanged, s.
    done_suffix
        Suffix of files that mark another one as complete; None: `still_s` decides.
    clock
        Function that returns the time, s.

    Raises
    ------
    Misconfigured
        The folder does not exist.
    """

    announced = False
    ready = True

    def __init__(
        self, uri: str, still_s: float, done_suffix: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uri, self._still_s, self._done, self._clock = uri, still_s, done_suffix, clock
        self._fs, self._path = file_system(uri)
        self._seen: dict[str, _Seen] = {}
        self._waiting = 0
        self._listed = False
        if not uri:  # which would be the working folder
            raise Misconfigured("no_such_input", "the folder", "has an empty name.", "name it, or '.' for this one.")
        if "://" not in uri and not self._fs.isdir(self._path):
            raise Misconfigured("no_such_input", uri, "there is no such folder.", "make it, or correct the path.")

    @property
    def waiting(self) -> int:
        """Return the number of images in the last listing that were not taken: ready, or still being written."""
        return self._waiting

    def poll(self, room: int) -> list[str]:
        """List the folder and return the paths or URLs of up to ``room`` images that are ready, by name.

        Raises
        ------
        Retryable
            It cannot be listed.
        Misconfigured
            It cannot be listed for lack of credentials, and never could be (``unreadable_input``).
        """
        files, now = self._files(), self._clock()
        self._seen = {path: self._look(path, signature, now) for path, signature in files.items()}
        unready = self._unready(files, now)
        new = [path for path in sorted(files) if _is_wanted(path) and not self._seen[path].taken]
        if self._done is not None:
            new = [path for path in new if path not in unready]
        ready = self._complete(new, unready)
        taken, self._waiting = ready[:room], len(new) - len(ready[:room])
        for path in taken:
            self._seen[path] = replace(self._seen[path], taken=True)
        return [uri_of(self._fs, path, self._uri) for path in taken]

    def finished(self, uri: str) -> None:
        """Do nothing: the file stays, and the ledger records it."""

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _files(self) -> dict[str, Signature]:
        """Return path -> signature of all files, and of folders that cannot be listed."""
        try:
            self._fs.invalidate_cache()
            found = _found(self._fs, self._path)
        except outside() as error:
            problem = f"cannot be listed: {failure_words(error)}."
            if not self._listed and no_credentials(error):
                remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of another way to log in."
                raise Misconfigured("unreadable_input", self._uri, problem, remedy) from error
            raise Retryable(
                "io_error", self._uri, problem, "check the permissions, the connection and the credentials."
            ) from error
        self._listed = True
        return {path: _signature(entry) for path, entry in found.items()}

    def _look(self, path: str, signature: Signature, now: float) -> _Seen:
        before = self._seen.get(path)
        return before if before is not None and before.signature == signature else _Seen(signature, now)

    def _unready(self, files: dict[str, Signature], now: float) -> set[str]:
        """Return the files that may still be being written."""
        if self._done is not None:
            return {path for path in files if path + self._done not in files and not path.endswith("/")}
        return {path for path, seen in self._seen.items() if not seen.taken and now - seen.since < self._still_s}

    def _complete(self, new: list[str], unready: set[str]) -> list[str]:
        """Return the new images that are complete: no file beside them and no copy elsewhere is still being written.

        Of two copies the planner takes the one with more accompanying files, so it must see both.
        """
        behind = self._behind(unready)
        late = {path for path in new if path in unready or _waits_for(path, behind)}
        copies = {stem for path in late if (stem := stem_of(path)) is not None}
        return [path for path in new if path not in late and stem_of(path) not in copies]

    def _behind(self, unready: set[str]) -> dict[str, Beside]:
        """Return folder -> accompanying files that are still being written; none if a suffix decides."""
        names: dict[str, list[str]] = {}
        for path in unready if self._done is None else ():
            folder, name = posixpath.split(path)
            names.setdefault(folder, []).append(name)
        return {folder: beside(found) for folder, found in names.items()}


def _found(fs: Any, top: str) -> dict[str, Mapping[str, Any]]:
    """Return path -> entry of the files below a folder; the path of a folder that cannot be listed ends in a slash.

    In object stores a single listing covers all folders.

    Raises
    ------
    OSError
        The folder itself cannot be listed.
    """
    if not is_local(fs):
        found: dict[str, Mapping[str, Any]] = fs.find(top, detail=True)
        below = len(top.rstrip("/"))
        return {path: entry for path, entry in found.items() if "/." not in path[below:]}
    there = {"file": "", "special": "", "unlisted": "/"}
    files = {path + there[kind]: entry for path, kind, entry in walk(fs, top) if kind in there}
    if f"{top}/" in files:
        fs.ls(top)  # raises the reason
    return files


def _waits_for(path: str, behind: dict[str, Beside]) -> bool:
    """Return whether an image has an accompanying file that is still being written."""
    folder, name = posixpath.split(path)
    return bool(siblings(name, behind.get(folder, {})))


def _is_wanted(path: str) -> bool:
    """Return whether a path is that of an image, or of a folder that cannot be listed."""
    return path.endswith("/") or (path.lower().endswith(SUFFIXES) and archive_plane(path) in (None, "difference"))


def _signature(entry: Mapping[str, Any]) -> Signature:
    changed = entry.get("mtime") or entry.get("LastModified") or entry.get("last_modified") or entry.get("created")
    return int(entry.get("size") or 0), f"{changed} {entry.get('ETag', '')}"
