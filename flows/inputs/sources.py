"""Listing of the exposures in the inputs of a command."""

import csv
import gzip
import io
import os
import posixpath
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from flows.inputs.butler_repository import butler_exposures, is_repository
from flows.inputs.files import content_kind, failure_words, file_system, open_part, outside, read_bytes
from flows.inputs.folder_walk import SUFFIXES, is_hidden, walk
from flows.inputs.npz_llnl import MOST_IMAGES, image_count, is_truth
from flows.inputs.siblings import Beside, archive_plane, beside, siblings
from flows.inputs.source import Source, uri_of
from flows.runtime.secrets import refuse_credentials, without_credentials
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.settings import Settings

MANIFEST = "exposures.csv"
"""File name of a folder's manifest."""

PLANES = ("science", "template", "mask", "variance", "psf")

FIELDS = ("visit", "detector", "band", "zero_point", "gain", "saturation", "psf_fwhm_px")
"""Columns other than planes; their values replace those of the header."""

_START = 9  # first bytes, enough to recognise the kind of a file
_GLOB = ("*", "?", "[")


def list_sources(inputs: Sequence[str], settings: Settings, template: str | None = None) -> list[Source]:
    """List the exposures in files, folders, globs, fsspec URLs and manifests without reading pixels.

    Parameters
    ----------
    inputs
        Files; folders, searched with all below them for images unless they hold an ``exposures.csv``; patterns with
        ``*``, ``?`` or ``[``; manifests ``*.csv``; all local or URLs (``s3://``, ``memory://``, ...). Or
        ``butler:REPO``.
    settings
        Settings of the run.
    template
        File or folder of templates; the inputs are then science images to subtract them from.

    Returns
    -------
    list of Source
        In the order of ``inputs``, sorted within each, each exposure once. Science, mask, PSF and reference images that
        belong to a difference image by the ZTF archive's names are attached to it, and are not exposures themselves.
        What cannot be read is a source as well, so that it is quarantined while the night goes on: folders that cannot
        be listed, pipes and folders without images that are named like an image, names that are not text. Links to
        folders are followed; each folder is searched once.

    Raises
    ------
    Misconfigured
        ``no_such_input``, ``unreadable_input``, ``bad_manifest``; ``no_exposures``: nothing was found; or as for
        `butler_exposures`.
    """
    found: dict[Source, None] = {}
    listed = cache(_beside)  # one listing per folder, however many of its files are given
    wanted = "difference" if template is None else "science"
    for given in inputs:
        if is_repository(given):
            found |= dict.fromkeys(Source(*files) for files in butler_exposures(given, settings.butler))
            continue
        for source in _sources(given, wanted):
            found[_with_siblings(_without_secrets(source), listed)] = None
    if not found:
        raise Misconfigured(
            "no_exposures",
            ", ".join(inputs) or "the command line",
            "there is no image.",
            "name FITS or npz files, a folder with some, a pattern, or a manifest.",
        )
    if template is None:
        return list(found)
    from flows.inputs.template_choice import attach_templates  # few nights have templates

    images = [*_sources(template, "difference"), *_sources(template, "template")]
    return attach_templates(list(found), sorted({one.uri for one in images}), settings)


def _sources(given: str, wanted: str) -> Iterator[Source]:
    """Yield the exposures in one input."""
    fs, path = _located(given)
    try:
        if fs.isdir(path):
            yield from _folder(fs, path, given, wanted)
        elif fs.isfile(path):
            yield from _file(fs, path, given, wanted)
        elif any(sign in path for sign in _GLOB) and (matches := _matches(fs, path)):
            for match in matches:
                yield from _sources(uri_of(fs, match, given), wanted)
        else:
            raise Misconfigured(
                "no_such_input", given, "there is no such file or folder, or it may not be read.", "correct the path."
            )
    except outside() as error:
        raise Misconfigured(
            "unreadable_input",
            given,
            f"cannot be looked at: {failure_words(error)}.",
            "check the permissions, the connection and the credentials.",
        ) from error


def files_of(given: str) -> Iterator[str]:
    """Yield the files in an input of any kind: itself, those in and below a folder, or those matching a pattern.

    Hidden files are left out; a folder that cannot be listed is yielded with ``/`` at its end. For an input that does
    not exist, or is not accessible, nothing is yielded.
    """
    fs, path = _located(given)
    try:
        if fs.isdir(path):
            if not fs.isfile(posixpath.join(path, MANIFEST)):
                for file, kind, _ in walk(fs, path):
                    if kind in ("file", "unlisted") and _is_text(file):
                        yield uri_of(fs, file, given) + ("/" if kind == "unlisted" else "")
        elif fs.isfile(path):
            yield uri_of(fs, path, given)
        elif any(sign in path for sign in _GLOB):
            for match in _matches(fs, path):
                yield from files_of(uri_of(fs, match, given))
    except outside():
        return


def _matches(fs: Any, pattern: str) -> list[str]:
    """Return the sorted matches of a pattern: as in a shell, without hidden files unless it begins with a dot."""
    return [path for path in sorted(fs.glob(pattern)) if is_hidden(pattern) or not is_hidden(path)]


def _located(given: str) -> tuple[Any, str]:
    if not given:  # which would be the working folder
        raise Misconfigured(
            "no_such_input", "an input", "is empty, as from an unset variable.", "name it, or '.' for this folder."
        )
    if "://" in given:
        refuse_credentials(given, "the URL of an input")
    try:
        return file_system(given)
    except (ValueError, ImportError) as error:
        raise Misconfigured(
            "no_such_input",
            given,
            f"is not a path or URL that can be read: {error}.",
            "use s3://, memory:// or a path.",
        ) from error


def _folder(fs: Any, path: str, given: str, wanted: str) -> Iterator[Source]:
    manifest = posixpath.join(path, MANIFEST)
    if fs.isfile(manifest):
        yield from _file(fs, manifest, given, wanted)
        return
    for file, kind, _ in walk(fs, path):
        if kind == "unlisted":
            yield Source(f"{uri_of(fs, file, given)}/") if _is_text(file) else _unnameable(file)
        elif kind == "hollow" and _is_text(file) and archive_plane(file) in (None, wanted):
            yield _hollow(uri_of(fs, file, given))
        elif file.lower().endswith(SUFFIXES) or (kind == "file" and _holds_images(uri_of(fs, file, given))):
            yield from _file(fs, file, given, wanted)


def _is_text(path: str) -> bool:
    """Return whether a path is UTF-8: Python represents other bytes as lone surrogates, which cannot be written."""
    return path.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in path)


def _hollow(uri: str) -> Source:
    remedy = "put the image in its place, or name the folder otherwise."
    return Source(uri, refusal=BadInput("not_a_file", uri, "is a folder, and no image is in it.", remedy))


def _unnameable(path: str) -> Source:
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    problem = BadInput("bad_name", shown, "the bytes of its name are not UTF-8.", "rename the file.")
    return Source(shown, refusal=problem)


def _file(fs: Any, path: str, given: str, wanted: str) -> Iterator[Source]:
    uri = uri_of(fs, path, given)
    if not _is_text(path):
        yield _unnameable(path)
    elif path.lower().endswith(".csv"):
        yield from (Source(row.difference, row.siblings, None, row.overrides) for row in read_manifest(uri))
    elif (plane := archive_plane(path)) is not None:  # by its name alone: a night has tens of thousands of files
        yield from [Source(uri)] if plane == wanted else []
    else:
        yield from _stack(uri) if _kind(uri) == "zip" else [Source(uri)]


def _stack(uri: str) -> Iterator[Source]:
    if is_truth(uri):
        return
    try:
        # One image more than can be numbered stands for all others, and is refused.
        yield from (Source(uri, index=index) for index in range(min(image_count(uri), MOST_IMAGES + 1)))
    except NightstrideError:
        # Listed all the same, so that reading it quarantines it with the reason.
        yield Source(uri)


def _with_siblings(source: Source, listed: Callable[[str], Beside]) -> Source:
    if source.siblings or source.index is not None or source.is_folder or source.refusal is not None:
        return source
    folder, name = posixpath.split(source.uri)
    found = siblings(name, listed(folder))
    return replace(source, siblings=tuple((plane, posixpath.join(folder, other)) for plane, other in found))


def _without_secrets(source: Source) -> Source:
    """Return a source; if its name has a password or signature, a refused one without them."""
    try:
        for uri in (source.uri, *(uri for _, uri in source.siblings)):
            if "://" in uri:
                refuse_credentials(uri, without_credentials(uri))
    except Misconfigured as error:
        refusal = BadInput(error.code, error.where, error.problem, error.remedy)
        return Source(without_credentials(source.uri), refusal=refusal)
    return source


def _beside(folder: str) -> Beside:
    fs, path = file_system(folder)
    try:
        return beside(posixpath.basename(one) for one in fs.ls(path, detail=False))
    except outside():  # a file may be readable although its folder is not
        return {}


def _kind(uri: str) -> str | None:
    """Return the kind of a file from its first bytes; None if unknown or unreadable."""
    try:
        with open_part(uri) as file:
            return content_kind(file.read(_START), uri)
    except NightstrideError:
        return None


def _holds_images(uri: str) -> bool:
    """Return whether a file without a telling name holds images; of gzip and zip files, only those with images count.

    FITS files with tables only, as left by astrometric solvers, do not count; damaged files do.
    """
    kind = _kind(uri)
    try:
        if kind == "gzip":
            with open_part(uri) as file, gzip.GzipFile(fileobj=file) as plain:
                return content_kind(plain.read(_START), uri) == "fits"
        return (kind == "fits" and not _is_table(uri)) or (kind == "zip" and image_count(uri) > 0)
    except (NightstrideError, EOFError, zlib.error):
        return False


def _is_table(uri: str) -> bool:
    from flows.inputs.fits_damage import damage  # few nights have such files
    from flows.inputs.fits_header import is_image
    from flows.inputs.fits_io import read_headers

    try:
        with damage(uri), open_part(uri) as file:
            return not any(map(is_image, read_headers(file, uri)))
    except NightstrideError:
        return False


class Row(NamedTuple):
    """Row of a manifest: URI of the difference image, (plane, uri) of other planes, (field, value)."""

    difference: str
    siblings: tuple[tuple[str, str], ...]
    overrides: tuple[tuple[str, str], ...]


def read_manifest(uri: str) -> list[Row]:
    """Read a CSV file with the column ``difference`` and any of `PLANES` and `FIELDS`.

    Paths are relative to the manifest; cells may be empty.

    Raises
    ------
    Misconfigured
        ``bad_manifest``: it is unreadable, has an unknown or repeated column, or a row has no difference image or more
        cells than there are columns.
    Retryable
        Reading failed, perhaps temporarily.
    """
    try:
        text = read_bytes(uri).decode("utf-8-sig")
    except (BadInput, UnicodeDecodeError) as error:
        raise _bad(uri, f"cannot be read: {error}") from error
    lines = csv.reader(io.StringIO(text, newline=None), skipinitialspace=True)
    try:
        rows = [(lines.line_num, cells) for cells in lines if cells]
    except csv.Error as error:
        raise _bad(uri, f"cannot be read: line {lines.line_num}: {error}") from error
    columns = [name.strip() for name in (rows[0][1] if rows else ())]
    known = {"difference", *PLANES, *FIELDS}
    if "difference" not in columns or not known.issuperset(columns):
        raise _bad(
            uri, f"has the columns {columns}, must have 'difference' and may have {sorted(known - {'difference'})}"
        )
    if len(set(columns)) < len(columns):
        raise _bad(uri, f"has the columns {columns}, some of them more than once")
    return [_row(uri, line, columns, cells) for line, cells in rows[1:]]


def _row(uri: str, line: int, columns: Sequence[str], cells: Sequence[str]) -> Row:
    if any(map(str.strip, cells[len(columns) :])):
        raise _bad(uri, f"line {line} has {len(cells)} cells for {len(columns)} columns: quote a name with a comma")
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()}
    if "difference" not in given:
        raise _bad(uri, f"line {line} names no difference image")
    folder = posixpath.dirname(uri)

    def located(path: str) -> str:
        return path if "://" in path or path.startswith("/") else posixpath.join(folder, path)

    return Row(
        located(given["difference"]),
        tuple((plane, located(given[plane])) for plane in sorted(PLANES) if plane in given),
        tuple((name, given[name]) for name in FIELDS if name in given),
    )


def _bad(uri: str, problem: str) -> Misconfigured:
    return Misconfigured("bad_manifest", uri, f"{problem}.", "correct the manifest; docs/use/input.md describes it.")
