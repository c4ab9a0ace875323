"""Export of rows to one file for other programs: CSV, Parquet, VOTable, FITS table, DS9 regions."""

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.storage.atomic import write_file
from flows.storage.catalog_store import list_rows
from schemas.errors import Misconfigured, choice

SUFFIXES: Mapping[str, str] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".fits": "fits",
    ".fit": "fits",
    ".reg": "region",
    ".hats": "hats",
}
"""Suffix of a file -> format."""


def export_format(path: Path, given: str | None) -> str:
    """Return the format of a file, as given or from its suffix.

    Parameters
    ----------
    path
        File, or folder of a HATS catalogue, whose name may have any suffix if the format is given.
    given
        Format; None: from the suffix.

    Raises
    ------
    Misconfigured
        The suffix is not known (``no_format``), or contradicts the given format (``other_format``).
    """
    found = SUFFIXES.get(path.suffix.lower())
    if given is not None and found not in (None, given):
        remedy = f"name a file that ends in {_endings(given)}, or leave --format out."
        raise Misconfigured("other_format", f"--to {path}", f"is {found} by its ending, not {given}.", remedy)
    if given is None and found is None:
        remedy = f"end it in {', '.join(SUFFIXES)}, or give --format."
        raise Misconfigured("no_format", f"--to {path}", "does not say in which format.", remedy)
    return given or found or ""


def file_format(path: Path) -> str:
    """Return the format of one file, from its suffix.

    Raises
    ------
    Misconfigured
        The suffix is not known, or is that of a HATS catalogue, which is a folder of all rows (``no_format``).
    """
    found = SUFFIXES.get(path.suffix.lower(), "")
    if found in _WRITERS:
        return found
    endings = ", ".join(suffix for suffix, name in SUFFIXES.items() if name in _WRITERS)
    if found:
        remedy = f"run `nightstride export OUT --dataset NAME --to {path.name}`, or end it in {endings}."
        raise Misconfigured("no_format", f"path {path}", f"is {found}, a folder of a whole dataset.", remedy)
    raise Misconfigured("no_format", f"path {path}", "does not say in which format.", f"end it in {endings}.")


def _endings(form: str) -> str:
    return " or ".join(suffix for suffix, name in SUFFIXES.items() if name == form)


def write_rows(path: Path, form: str, name: str, table: pa.Table) -> int:
    """Write rows as one file, in one step; return the number of rows written.

    Parameters
    ----------
    path, form
        File, and one of the formats of `SUFFIXES` except hats.
    name, table
        Name of the dataset, and rows whose fields have ``unit``, ``doc`` and ``ucd``. The functions of the formats
        document which of these, and which nulls, a format can hold.

    Raises
    ------
    Misconfigured
        There is a folder of that name (``not_a_file``), no such format, or no row with a position for regions.
    Retryable, Misconfigured
        The file cannot be written; see `flows.storage.atomic.write_file`.
    """
    if form not in _WRITERS:
        raise Misconfigured("no_format", str(path), f"{form!r} is not a format of one file.", choice(form, _WRITERS))
    if path.is_dir():
        raise Misconfigured("not_a_file", str(path), f"is a folder; {form} is one file.", "name a file.")
    content, rows = _WRITERS[form](name, table)
    write_file(path, content, path.absolute().parent)
    return rows


def csv_content(name: str, table: pa.Table) -> tuple[bytes, int]:
    """Return rows as CSV, with column names first, empty nulls, and a separate column for each number of a list.

    CSV cannot hold units; the other formats and docs/reference/columns.md have them.
    """
    columns: dict[str, Any] = {}
    for field, values in zip(table.schema, table.columns, strict=True):
        if pa.types.is_fixed_size_list(field.type):
            numbers = list_rows(values.combine_chunks())
            parts = {f"{field.name}_{n}": pa.array(part, from_pandas=True) for n, part in enumerate(numbers.T)}
            columns |= parts
        else:
            columns[field.name] = values
    sink = BytesIO()
    pyarrow.csv.write_csv(pa.table(columns), sink)
    return sink.getvalue(), len(table)


def parquet_content(name: str, table: pa.Table) -> tuple[bytes, int]:
    """Return rows as Parquet, with unit, meaning and UCD in the metadata of each field."""
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue(), len(table)


_UNITS = {"mag(AB)": "mag", "pix": "pixel", "arcsec/pix": "arcsec/pixel", "pixel_unit": "", "pixel_unit**2": ""}
"""Units that the VOUnits standard and FITS spell differently, or do not have."""

_SHORTEST = 2
"""Minimum width of a text column, characters: erratum 3 to VOTable 1.3 abolished arrays of one."""


def votable_content(name: str, table: pa.Table) -> tuple[bytes, int]:
    """Return rows as a VOTable (1.4, BINARY2), with units, UCDs and descriptions of its columns.

    Nulls are NaN in floating-point columns and marked as null in others. ``mag(AB)`` becomes ``mag``; the description
    gives the kind of magnitude.
    """
    from astropy import units
    from astropy.io.votable import from_table
    from astropy.table import Table

    rows = Table({field.name: _values(table[field.name]) for field in table.schema})
    document = from_table(rows, table_id=name)
    document.version = "1.4"
    resource = document.resources[0].tables[0]
    resource.name = name
    for field, column in zip(table.schema, resource.fields, strict=True):
        said = _said(field)
        # As text, "day" would be read as a decayear.
        column.unit = units.Unit(said["unit"]) if said["unit"] else None
        column.ucd, column.description = said["ucd"] or None, said["doc"]
    content = BytesIO()
    document.to_xml(content, tabledata_format="binary2")
    return content.getvalue(), len(table)


def fits_content(name: str, table: pa.Table) -> tuple[bytes, int]:
    """Return rows as a binary table of FITS, with units (TUNIT), meanings (TCOMM) and UCDs (TUCD).

    Nulls are NaN in floating-point columns, TNULL (the least number) in columns of whole numbers, and empty in columns
    of text. A logical column with nulls becomes one of whole numbers. Signs beyond ASCII are escaped.
    """
    from astropy import units
    from astropy.io import fits
    from astropy.table import MaskedColumn, Table

    columns = Table()
    for field in table.schema:
        values = _values(table[field.name])
        if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "ib":
            whole = values.astype(np.int16) if values.dtype.kind == "b" else values
            columns[field.name] = MaskedColumn(whole, fill_value=np.iinfo(whole.dtype).min)
        elif values.dtype.kind == "U":
            columns[field.name] = np.char.encode(np.ma.getdata(values), "ascii", "backslashreplace")
        else:
            columns[field.name] = values
    hdu = fits.table_to_hdu(columns)
    hdu.name = name.upper()
    for number, field in enumerate(table.schema, start=1):
        said = _said(field)
        unit = units.Unit(said["unit"]).to_string("fits")
        for keyword, text in (("TUNIT", unit), ("TCOMM", said["doc"]), ("TUCD", said["ucd"])):
            if text:
                hdu.header[f"{keyword}{number}"] = text.encode("ascii", "replace").decode()
    sink = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(sink)
    return sink.getvalue(), len(table)


POINT_ARCSEC = 3.0
"""Radius of the circle that marks a point."""


_TRAIL = ("trailRa", "trailDec", "trailLength", "trailLengthErr", "trailAngle")
_TRAIL_PX = ("trailLengthPx", "trailLengthPxErr", "trailAnglePx", "trailAnglePxErr")


def region_content(name: str, table: pa.Table) -> tuple[bytes, int]:
    """Return rows as DS9 regions (ICRS): a line along each trail, a circle around other detections.

    A trail has a length and an angle by the rule of the night page (`flows.results.page.cards.has_angle`). Rows without
    a position are left out; the number returned is that of regions. The text of each region is the id. Without rows
    there is only a header.

    Raises
    ------
    Misconfigured
        There are no columns ra and dec, or there are rows and none has a position (``no_position``).
    """
    if not {"ra", "dec"} <= set(table.schema.names) or (len(table) and not table["ra"].drop_null()):
        raise Misconfigured("no_position", name, "has no row with a position on the sky.", "choose another format.")
    names = [one for one in ("ra", "dec", *_TRAIL, *_TRAIL_PX) if one in table.schema.names]
    identity = next((one for one in table.schema.names if one.endswith("Id")), None)
    found = table.select([*names, *([identity] if identity else [])]).filter(table["ra"].is_valid())
    lines = ["# Region file format: DS9 version 4.1", f"# {name}, nightstride", "icrs"]
    lines += [_region(row, None if identity is None else row[identity]) for row in found.to_pylist()]
    return ("\n".join(lines) + "\n").encode(), len(found)


def _region(row: Mapping[str, Any], identity: Any) -> str:
    text = "" if identity is None else f" # text={{{identity}}}"
    length, angle = row.get("trailLength"), row.get("trailAngle")
    if not length or angle is None or not _is_trail(row):
        return f'circle({row["ra"]:.7f},{row["dec"]:.7f},{POINT_ARCSEC}"){text}'
    ra, dec = row.get("trailRa"), row.get("trailDec")
    if ra is None or dec is None:
        ra, dec = row["ra"], row["dec"]
    ends = ",".join(f"{value:.7f}" for end in _ends(ra, dec, length / 3600, angle) for value in end)
    return f"line({ends}){text}"


def _is_trail(row: Mapping[str, Any]) -> bool:
    """Return whether a row has a trail; a row without columns in pixels has one if its length is significant."""
    from flows.results.page.cards import has_angle
    from flows.results.page.found import CERTAIN

    if row.keys() >= {*_TRAIL_PX}:
        return has_angle(row)
    return bool(row["trailLength"] >= CERTAIN * (row.get("trailLengthErr") or 0.0))


def _ends(ra: float, dec: float, length: float, angle: float) -> Iterator[tuple[float, float]]:
    """Yield both ends of a trail centred on a position, in degrees."""
    from astropy import units
    from astropy.coordinates import offset_by

    for toward in (angle, angle + 180):
        found = offset_by(ra * units.deg, dec * units.deg, toward * units.deg, length / 2 * units.deg)
        yield float(found[0].to_value("deg")), float(found[1].to_value("deg"))


_WRITERS: Mapping[str, Callable[[str, pa.Table], tuple[bytes, int]]] = {
    "csv": csv_content,
    "parquet": parquet_content,
    "votable": votable_content,
    "fits": fits_content,
    "region": region_content,
}


def _said(field: pa.Field) -> dict[str, str]:
    said = {key: (field.metadata or {}).get(key.encode(), b"").decode() for key in ("unit", "ucd", "doc")}
    return said | {"unit": _UNITS.get(said["unit"], said["unit"])}


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    values = column.combine_chunks()
    if pa.types.is_fixed_size_list(values.type):
        return list_rows(values)
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        texts = values.fill_null("").to_pylist()
        widths = (len(one.encode("utf-16-le")) // 2 for one in texts)  # VOTable counts signs beyond 16 bits twice
        return np.ma.array(texts, dtype=f"U{max((_SHORTEST, *widths))}")
    plain = values.fill_null(False if pa.types.is_boolean(values.type) else 0).to_numpy(zero_copy_only=False)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    return np.ma.array(plain, mask=missing) if missing.any() else plain
