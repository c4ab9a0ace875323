"""Walk through a folder and all below it, also behind links; what cannot be listed is reported, not skipped."""

import os
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flows.inputs.files import outside

_FOREIGN = (".fits.bz2", ".fits.z", ".fits.xz", ".fits.zst")
SUFFIXES = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fit.gz", ".fts", ".fz", ".npz", *_FOREIGN)
"""Suffixes of image files; those compressed in ways that cannot be read here are included, to be refused."""


class Found(NamedTuple):
    """Entry of a folder: its path, its kind, and its entry in the listing.

    A special file is a pipe, socket or device; a hollow folder is named like an image and holds none. Folders that
    cannot be listed and hollow ones have no entry.
    """

    path: str
    kind: Literal["file", "special", "unlisted", "hollow"]
    entry: Mapping[str, Any]


def walk(fs: Any, folder: str) -> Iterator[Found]:
    """Yield the contents of a folder and those below it, in order; then those behind links to other folders.

    Hidden files and folders are skipped, as are waste baskets, and ``lost+found`` if it may not be listed. fsspec's own
    find and walk also skip subfolders that they may not read and links to folders, but a night must not lack exposures
    unnoticed. Each folder is entered once, so that links cannot form a loop. A folder that has disappeared since the
    one above it was listed is ignored.

    Parameters
    ----------
    fs, folder
        File system, and the path of a folder in it.
    """
    top = folder.rstrip("/") or "/"
    entered: set[str] = set()
    left = [top]
    while left:
        links: list[str] = []
        for one in left:
            yield from _below(fs, one, entered, links, one == top)
        left = links


def is_local(fs: Any) -> bool:
    """Return whether a file system is local."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def is_hidden(path: str) -> bool:
    """Return whether the name of a file or folder begins with a dot."""
    return posixpath.basename(path).startswith(".")


def _below(fs: Any, folder: str, entered: set[str], links: list[str], first: bool = False) -> Iterator[Found]:
    real = os.path.realpath(folder) if is_local(fs) else folder
    if real in entered:
        return
    entered.add(real)
    try:
        entries = sorted(fs.ls(folder, detail=True), key=lambda entry: entry["name"].rstrip("/"))
    except outside() as error:
        if first or not (isinstance(error, FileNotFoundError) or posixpath.basename(folder) == "lost+found"):
            yield Found(folder, "unlisted", {})
        return
    images = not folder.lower().endswith(SUFFIXES)
    for found in _within(fs, folder, entries, entered, links):
        images = images or found.path.lower().endswith(SUFFIXES)
        yield found
    if not images:
        yield Found(folder, "hollow", {})


def _within(
    fs: Any, folder: str, entries: list[dict[str, Any]], entered: set[str], links: list[str]
) -> Iterator[Found]:
    """Yield the files of a folder, then the contents of folders within; collect links to folders in ``links``."""
    folders = []
    for entry in entries:
        path = entry["name"].rstrip("/")
        if is_hidden(path):
            continue
        if entry["type"] == "directory":
            folders += [path] if path != folder else []
        elif entry.get("islink") and Path(path).is_dir():
            links.append(path)
        else:
            yield Found(path, "special" if _is_special(entry, path) else "file", entry)
    for path in folders:
        yield from _below(fs, path, entered, links)


def _is_special(entry: Mapping[str, Any], path: str) -> bool:
    """Return whether an entry is a pipe, socket or device, or a link to one: opening it may block forever."""
    return entry["type"] == "other" and Path(path).exists() and not Path(path).is_file()
