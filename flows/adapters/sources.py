"""Which exposures the inputs of a command hold."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fsspec.core import split_protocol

from flows.adapters.archive_names import is_sibling, siblings
from flows.adapters.files import file_system
from flows.adapters.manifest import MANIFEST, read_manifest
from flows.adapters.npz_llnl import image_count, is_truth
from schemas.errors import Misconfigured, NightstrideError
from schemas.settings import Settings

_SUFFIXES = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fit.gz", ".fts", ".fz", ".npz")
_MAGIC = b"SIMPLE  ="
_GLOB = ("*", "?", "[")


@dataclass(frozen=True)
class Source:
    """Files of one exposure.

    Attributes
    ----------
    uri
        Of the difference image: local path or fsspec URL.
    siblings
        (plane, uri) of ``science``, ``template``, ``mask``, ``variance`` and ``psf`` in files of their own.
    index
        Which image of an npz stack; None for other files.
    overrides
        (field, value) from a manifest, in place of what the header says: ``visit``, ``detector``, ``band``, ...
    """

    uri: str
    siblings: tuple[tuple[str, str], ...] = ()
    index: int | None = None
    overrides: tuple[tuple[str, str], ...] = ()


def list_sources(inputs: Sequence[str], settings: Settings) -> list[Source]:
    """List the exposures in files, folders, globs, fsspec URLs and manifests; no pixel is read.

    Parameters
    ----------
    inputs
        Each a file; a folder, searched with all below it for images, unless it holds an ``exposures.csv``; a
        pattern with ``*``, ``?`` or ``[``; or a manifest ``*.csv``. Local, or URLs (``s3://``, ``memory://``, ...).
    settings
        Of the run.

    Returns
    -------
    list of Source
        In the order of ``inputs``, sorted within each, each exposure once. Science, mask, PSF and reference images
        that the ZTF archive's names tie to a difference image go with it, and are no exposures of their own.

    Raises
    ------
    Misconfigured
        ``no_such_input``, ``unreadable_folder``, ``bad_manifest``, or ``no_exposures``: nothing was found.
    """
    found: dict[Source, None] = {}
    beside = cache(_names)  # one listing a folder, however many of its files are named
    for given in inputs:
        for source in _sources(given):
            found[_with_siblings(source, beside)] = None
    if not found:
        raise Misconfigured(
            "no_exposures",
            ", ".join(inputs) or "the command line",
            "there is no image.",
            "name FITS or npz files, a folder with some, a pattern, or a manifest.",
        )
    return list(found)


def _sources(given: str) -> Iterator[Source]:
    """Exposures of one input."""
    fs, path = _located(given)
    try:
        if fs.isdir(path):
            yield from _folder(fs, path, given)
        elif fs.isfile(path):
            yield from _file(fs, path, given)
        elif any(sign in path for sign in _GLOB) and (matches := sorted(fs.glob(path))):
            for match in matches:
                yield from _sources(_uri(fs, match, given))
        else:
            raise Misconfigured(
                "no_such_input", given, "there is no such file or folder, or it may not be read.", "correct the path."
            )
    except OSError as error:
        raise Misconfigured(
            "unreadable_folder",
            given,
            f"cannot be listed: {type(error).__name__}: {error}.",
            "check the permissions, the connection and the credentials.",
        ) from error


def _located(given: str) -> tuple[Any, str]:
    try:
        return file_system(given)
    except (ValueError, ImportError) as error:
        raise Misconfigured(
            "no_such_input", given, f"is no path or URL that can be read: {error}.", "use s3://, memory:// or a path."
        ) from error


def _folder(fs: Any, path: str, given: str) -> Iterator[Source]:
    manifest = posixpath.join(path, MANIFEST)
    if fs.isfile(manifest):
        yield from _file(fs, manifest, given)
        return
    for file in _walk(fs, path):
        name = posixpath.basename(file)
        if not name.startswith(".") and (name.lower().endswith(_SUFFIXES) or _begins_like_fits(fs, file)):
            yield from _file(fs, file, given)


def _walk(fs: Any, folder: str) -> Iterator[str]:
    """Files of a folder and of those below it, in order.

    fsspec's own find and walk pass over folders below the first that they may not read; a night that lacks exposures
    in silence is worse than none.
    """
    entries = sorted(fs.ls(folder, detail=True), key=lambda entry: entry["name"].rstrip("/"))
    yield from (entry["name"] for entry in entries if entry["type"] != "directory")
    for entry in entries:
        if entry["type"] == "directory" and entry["name"].rstrip("/") != folder.rstrip("/"):
            yield from _walk(fs, entry["name"].rstrip("/"))


def _file(fs: Any, path: str, given: str) -> Iterator[Source]:
    uri = _uri(fs, path, given)
    if path.lower().endswith(".csv"):
        yield from (Source(row.difference, row.siblings, None, row.overrides) for row in read_manifest(uri))
    elif path.lower().endswith(".npz"):
        yield from _stack(uri)
    elif not is_sibling(path):
        yield Source(uri)


def _stack(uri: str) -> Iterator[Source]:
    if is_truth(uri):
        return
    try:
        yield from (Source(uri, index=index) for index in range(image_count(uri)))
    except NightstrideError:
        # Listed all the same, so that reading it quarantines it with the reason.
        yield Source(uri)


def _with_siblings(source: Source, beside: Any) -> Source:
    if source.siblings or source.index is not None:
        return source
    folder, name = posixpath.split(source.uri)
    return replace(
        source,
        siblings=tuple((plane, posixpath.join(folder, other)) for plane, other in siblings(name, beside(folder))),
    )


def _names(folder: str) -> tuple[str, ...]:
    fs, path = file_system(folder)
    return tuple(sorted(posixpath.basename(one) for one in fs.ls(path, detail=False)))


def _begins_like_fits(fs: Any, path: str) -> bool:
    try:
        return bytes(fs.cat_file(path, 0, 9)).startswith(_MAGIC)
    except OSError:
        return False


def _uri(fs: Any, path: str, given: str) -> str:
    """Write a path of ``fs`` as it can be opened again: local ones plain, others with their protocol."""
    if split_protocol(given)[0] in (None, "file", "local"):
        return path
    url = str(fs.unstrip_protocol(path))
    # fsspec writes memory:///x for memory://x.
    return url if ":///" in given else url.replace(":///", "://", 1)
