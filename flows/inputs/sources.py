"""Listing of the exposures among the inputs of a command."""

import csv
import gzip
import io
import posixpath
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from flows.inputs.butler_repository import butler_exposures, is_repository
from flows.inputs.files import content_kind, file_system, open_part, outside, read_bytes
from flows.inputs.npz_llnl import image_count, is_truth
from flows.inputs.source import Source, uri_of
from flows.runtime.secrets import refuse_credentials
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.settings import Settings

MANIFEST = "exposures.csv"
"""Name by which a folder's manifest is found."""

PLANES = ("science", "template", "mask", "variance", "psf")

FIELDS = ("visit", "detector", "band", "zero_point", "gain", "saturation", "psf_fwhm_px")
"""Columns beside the planes; they take the place of what the header says."""

_ZTF_PLANES = {"sciimg": "science", "mskimg": "mask", "diffimgpsf": "psf", "refimg": "template"}
_ZTF = re.compile(
    r"(?P<stem>ztf_.+)_(?P<product>scimrefdiffimg|sciimg|mskimg|diffimgpsf|refimg|[a-z]+cat|sciimgdaopsfcent|refcov|refunc)"
    r"\.fits(\.fz|\.gz)?"
)
_ZTF_STEM = re.compile(r"ztf_\d{14}_(?P<field>\d{6})_(?P<band>z\w)_c(?P<ccd>\d\d)_\w_q(?P<quadrant>\d)")
_RUBIN = re.compile(r"(?P<product>difference|science|template)Exp_(?P<stem>.+)\.fits(\.fz|\.gz)?")


def is_sibling(path: str) -> bool:
    """Return whether a file name is that of a product which goes with a difference image."""
    name = PurePosixPath(path).name
    if ztf := _ZTF.fullmatch(name):
        return ztf["product"] != "scimrefdiffimg"
    rubin = _RUBIN.fullmatch(name)
    return rubin is not None and rubin["product"] != "difference"


def siblings(name: str, beside: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Find the files that go with a difference image.

    Parameters
    ----------
    name
        Of the difference image: ``ztf_<time>_<field>_<filter>_c<ccd>_o_q<quadrant>_scimrefdiffimg.fits.fz``, or
        ``differenceExp_<camera>_<band>_<visit>_<detector>.fits``.
    beside
        Names in the same folder.

    Returns
    -------
    tuple of (plane, name)
        ZTF's science, mask and PSF share the name's stem; the reference image has that of its field, filter, CCD and
        quadrant (https://irsa.ipac.caltech.edu/docs/program_interface/ztf_metadata.html). Rubin's are
        ``scienceExp_...`` and ``templateExp_...``.
    """
    planes = {}
    for other in sorted(beside, reverse=True):
        if plane := _ztf_plane(name, other) or _rubin_plane(name, other):
            planes[plane] = other
    return tuple(sorted(planes.items()))


def _ztf_plane(name: str, other: str) -> str | None:
    ours, theirs = _ZTF.fullmatch(name), _ZTF.fullmatch(other)
    if not ours or not theirs or ours["product"] != "scimrefdiffimg":
        return None
    stems = {ours["stem"]}
    if parts := _ZTF_STEM.fullmatch(ours["stem"]):
        stems.add(f"ztf_{parts['field']}_{parts['band']}_c{parts['ccd']}_q{parts['quadrant']}")
    return _ZTF_PLANES.get(theirs["product"]) if theirs["stem"] in stems else None


def _rubin_plane(name: str, other: str) -> str | None:
    ours, theirs = _RUBIN.fullmatch(name), _RUBIN.fullmatch(other)
    if not ours or not theirs or ours["product"] != "difference" or theirs["product"] == "difference":
        return None
    return theirs["product"] if ours["stem"] == theirs["stem"] else None


SUFFIXES = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fit.gz", ".fts", ".fz", ".npz")
"""Endings of the names of image files."""
_START = 9  # bytes that identify the kind of a file
_GLOB = ("*", "?", "[")


def list_sources(inputs: Sequence[str], settings: Settings) -> list[Source]:
    """List the exposures in files, folders, globs, fsspec URLs and manifests; no pixel is read.

    Parameters
    ----------
    inputs
        Each a file; a folder, searched with all below it for images, unless it holds an ``exposures.csv``; a
        pattern with ``*``, ``?`` or ``[``; or a manifest ``*.csv``. Local, or URLs (``s3://``, ``memory://``, ...).
        Or ``butler:REPO``.
    settings
        Of the run.

    Returns
    -------
    list of Source
        In the order of ``inputs``, sorted within each, each exposure once. Science, mask, PSF and reference images
        that the ZTF archive's names tie to a difference image go with it, and are not exposures of their own. A folder
        that cannot be listed is a source too, so that it is quarantined while the night goes on.

    Raises
    ------
    Misconfigured
        ``no_such_input``, ``unreadable_input``, ``bad_manifest``, or ``no_exposures``: nothing was found. Those of
        `butler_exposures`.
    """
    found: dict[Source, None] = {}
    beside = cache(_names)  # one listing a folder, however many of its files are named
    for given in inputs:
        if is_repository(given):
            found |= dict.fromkeys(Source(*files) for files in butler_exposures(given, settings.butler))
            continue
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
    """Yield the exposures of one input."""
    fs, path = _located(given)
    try:
        if fs.isdir(path):
            yield from _folder(fs, path, given)
        elif fs.isfile(path):
            yield from _file(fs, path, given)
        elif any(sign in path for sign in _GLOB) and (matches := sorted(fs.glob(path))):
            for match in matches:
                yield from _sources(uri_of(fs, match, given))
        else:
            raise Misconfigured(
                "no_such_input", given, "there is no such file or folder, or it may not be read.", "correct the path."
            )
    except outside() as error:
        raise Misconfigured(
            "unreadable_input",
            given,
            f"cannot be looked at: {type(error).__name__}: {error}.",
            "check the permissions, the connection and the credentials.",
        ) from error


def _located(given: str) -> tuple[Any, str]:
    if "://" in given:
        refuse_credentials(given, "the URL of an input")
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
    for file, listed in _walk(fs, path):
        name = posixpath.basename(file)
        if not listed:
            yield Source(f"{uri_of(fs, file, given)}/")
        elif not name.startswith(".") and (name.lower().endswith(SUFFIXES) or _holds_images(fs, file, given)):
            yield from _file(fs, file, given)


def _walk(fs: Any, folder: str) -> Iterator[tuple[str, bool]]:
    """Yield files of a folder and those below it, in order, with True; and folders that cannot be listed, with False.

    fsspec's own find and walk pass over folders below the first that they may not read; a night must not lack
    exposures without notice.
    """
    try:
        entries = sorted(fs.ls(folder, detail=True), key=lambda entry: entry["name"].rstrip("/"))
    except outside():
        yield folder.rstrip("/"), False
        return
    yield from ((entry["name"], True) for entry in entries if entry["type"] != "directory")
    for entry in entries:
        if entry["type"] == "directory" and entry["name"].rstrip("/") != folder.rstrip("/"):
            yield from _walk(fs, entry["name"].rstrip("/"))


def _file(fs: Any, path: str, given: str) -> Iterator[Source]:
    uri = uri_of(fs, path, given)
    if path.lower().endswith(".csv"):
        yield from (Source(row.difference, row.siblings, None, row.overrides) for row in read_manifest(uri))
    elif _kind(fs, path) == "zip":
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
    if source.siblings or source.index is not None or source.is_folder:
        return source
    folder, name = posixpath.split(source.uri)
    return replace(
        source,
        siblings=tuple((plane, posixpath.join(folder, other)) for plane, other in siblings(name, beside(folder))),
    )


def _names(folder: str) -> tuple[str, ...]:
    fs, path = file_system(folder)
    try:
        return tuple(sorted(posixpath.basename(one) for one in fs.ls(path, detail=False)))
    except outside():  # a file may be read by its name where the folder may not be
        return ()


def _kind(fs: Any, path: str) -> str | None:
    """Return the kind of a file, from its first bytes; None if they do not say, or cannot be read."""
    try:
        return content_kind(bytes(fs.cat_file(path, 0, _START)), path)
    except BadInput:
        return None
    except outside():
        return None


def _holds_images(fs: Any, path: str, given: str) -> bool:
    """Return whether a file whose name says nothing holds images; other gzip and zip files are left alone."""
    kind, uri = _kind(fs, path), uri_of(fs, path, given)
    try:
        if kind == "gzip":
            with open_part(uri) as file, gzip.GzipFile(fileobj=file) as plain:
                return content_kind(plain.read(_START), uri) == "fits"
        return kind == "fits" or (kind == "zip" and image_count(uri) > 0)
    except (NightstrideError, EOFError, zlib.error):
        return False


class Row(NamedTuple):
    """Row of a manifest: uri of the difference image, (plane, uri) of others, (field, value)."""

    difference: str
    siblings: tuple[tuple[str, str], ...]
    overrides: tuple[tuple[str, str], ...]


def read_manifest(uri: str) -> list[Row]:
    """Read a CSV file with the column ``difference`` and any of `PLANES` and `FIELDS`.

    Paths are relative to the manifest; cells may be empty.

    Raises
    ------
    Misconfigured
        ``bad_manifest``: unreadable, an unknown column, or a row without a difference image.
    Retryable
        Reading failed in a way that may pass.
    """
    try:
        text = read_bytes(uri).decode("utf-8-sig")
    except (BadInput, UnicodeDecodeError) as error:
        raise _bad(uri, f"cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    known = {"difference", *PLANES, *FIELDS}
    if "difference" not in columns or not known.issuperset(columns):
        raise _bad(
            uri, f"has the columns {columns}, must have 'difference' and may have {sorted(known - {'difference'})}"
        )
    return [_row(uri, line, dict(zip(columns, cells.values(), strict=False))) for line, cells in enumerate(reader, 2)]


def _row(uri: str, line: int, cells: dict[str, str | None]) -> Row:
    given = {name: cell.strip() for name, cell in cells.items() if cell and cell.strip()}
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
