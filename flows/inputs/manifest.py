"""Manifests: tables of which files make an exposure."""

import csv
import io
import posixpath
from typing import NamedTuple

from flows.inputs.files import read_bytes
from schemas.errors import BadInput, Misconfigured

MANIFEST = "exposures.csv"
"""Name by which a folder's manifest is found."""

PLANES = ("science", "template", "mask", "variance", "psf")
FIELDS = ("visit", "detector", "band", "zero_point", "gain", "saturation", "psf_fwhm_px")
"""Columns beside the planes; they take the place of what the header says."""


class Row(NamedTuple):
    """One exposure: uri of the difference image, (plane, uri) of others, (field, value)."""

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
