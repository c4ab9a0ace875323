"""Reading of a table of detections, with the reasons why rows cannot be used."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.inputs.files import csv_separator
from flows.results.catalogue_rows import CatalogueRows
from flows.results.exposure_rows import ExposureRows
from flows.runtime.settings import require_there
from flows.runtime.words import counted
from flows.storage.bucket_path import BucketPath
from flows.storage.layout import is_output, require_output
from kernels.linking.detections import SkyDetections, detections_of, position_error
from kernels.sky.observatories import GEOCENTRE, known_code, observatory_of
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured, read_failure
from schemas.night_range import EVERY_NIGHT, NightRange

NEEDED = {
    "id": ("id", "diaSourceId"),
    "mjd": ("mjd", "midpointMjdTai"),
    "ra": ("ra",),
    "dec": ("dec",),
}
"""Required columns, and the names that each may have."""

OPTIONAL = {
    "posErr": ("posErr",),
    "raErr": ("raErr",),
    "decErr": ("decErr",),
    "trailLength": ("trailLength",),
    "trailAngle": ("trailAngle",),
    "trailLengthErr": ("trailLengthErr",),
    "trailAngleErr": ("trailAngleErr",),
    "exposureTime": ("exposureTime", "exptime"),
    "mag": ("mag", "magAB"),
    "band": ("band",),
    "obscode": ("obscode",),
    "trailClass": ("trailClass",),
}

_TEXTS = ("obscode", "trailClass", "band")
_RANGES = {"mjd": (15020.0, 88069.0), "ra": (0.0, 360.0), "dec": (-90.0, 90.0)}  # 1900 to 2100
_PLAUSIBLE = {
    "posErr": (0.0, np.inf), "raErr": (0.0, np.inf), "decErr": (0.0, np.inf), "trailLength": (0.0, 36_000.0),
    "trailAngle": (-360.0, 360.0), "trailLengthErr": (0.0, 36_000.0), "trailAngleErr": (0.0, 180.0),
    "exposureTime": (0.0, 86_400.0), "mag": (-30.0, 40.0),
}  # fmt: skip
"""Column -> limits of valid values; a value beyond, e.g. -999, counts as missing."""
_LARGEST_ERROR = 60.0  # arcsec; a less certain position is useless
_TOLD = 5  # rows named for each reason
_SEVERAL, _PLAIN_STEP = 3, 1 / 32  # minimum number of times to judge precision; d: multiples of this are exact
_COARSE = 0.01  # d

SATELLITE = "a satellite"
"""Reason for leaving out rows that are not faulty."""


class DetectionTable(NamedTuple):
    """Usable rows of a table, sorted by time and id, the scale of the times, and reasons why others are unusable.

    ``not_given`` counts, by column, the values taken as missing; ``notes`` are sentences about columns.
    """

    ids: pa.Array
    detections: SkyDetections
    obscode: NDArray[np.str_]
    scale: Literal["utc", "tai"]
    rows: int
    left_out: dict[str, list[int]]
    not_given: dict[str, int]
    notes: Sequence[str] = ()


def read_detections(path: Path, obscode: str = "", nights: NightRange = EVERY_NIGHT) -> DetectionTable:
    """Return detections from a Parquet or CSV file, a folder of Parquet files, or an output folder.

    Parameters
    ----------
    path
        File or folder.
    obscode
        Observatory of rows without one. Rows of an output folder have that of their instrument, if it is known.
    nights
        Nights of an output folder.

    Raises
    ------
    BadInput
        A published file cannot be read.
    Misconfigured
        There is no such table, it cannot be read, lacks a column or has one twice, a column holds no numbers, ids that
        are neither text nor numbers (``bad_id``) or times in single precision (``imprecise_times``); nights are asked
        of a table, or it is in a bucket (``no_output``); none of the nights is there (``no_night``).
    """
    require_there(path, "another table of detections.")
    if nights or isinstance(path, BucketPath) or is_output(path):
        require_output(path)
        table = _published(path, nights)
    else:
        table = _table(path)
    own = _own_names(path, table)
    columns = {name: _column(table, name, own[name]) for name in own}
    numbers = {name: _numbers(path, own[name], columns[name]) for name in columns if name not in ("id", *_TEXTS)}
    columns["id"] = _ids(path, own["id"], columns["id"])
    _require_mjd(path, own["mjd"], numbers["mjd"])
    numbers, not_given = _plausible(numbers, own)
    left_out = _unusable(columns["id"], numbers, columns["trailClass"], own)
    wrong = {row for rows in left_out.values() for row in rows}
    good = np.array([row for row in range(len(table)) if row not in wrong], np.intp)
    ids = columns["id"].take(pa.array(good))
    good = good[np.lexsort((pc.rank(ids, tiebreaker="first").to_numpy(), numbers["mjd"][good]))]
    some = {name: values[good] for name, values in numbers.items()}
    bands = _texts(path, own["band"], columns["band"].take(pa.array(good)))
    detections = detections_of(some | {"midpointMjdTai": some["mjd"], "magAB": some["mag"]}, bands)
    given = [known_code(code or obscode) for code in _codes(path, columns["obscode"])]
    notes = _misnamed_words(table.column_names, (NEEDED | OPTIONAL).values())
    notes += _imprecise_words(own["mjd"], numbers["mjd"])
    if any(given) and (none := given.count("")):
        notes.append(
            f"{counted(none, 'row')} without an obscode: linked apart from the others; --obscode CODE gives one"
        )
    scale: Literal["utc", "tai"] = "utc" if "mjd" in table.column_names else "tai"
    return DetectionTable(
        columns["id"].take(pa.array(good)),
        detections,
        np.array([given[row] for row in good], np.str_),
        scale,
        len(table),
        left_out,
        not_given,
        notes,
    )


def _table(path: Path) -> pa.Table:
    try:
        for one in path.rglob("*") if path.is_dir() else ():
            hidden = any(part.startswith((".", "_")) for part in one.relative_to(path).parts)
            if one.is_file() and not hidden and not _is_parquet(one):
                problem = "is not Parquet, as all files of the folder have to be."
                raise Misconfigured("unreadable_table", str(one), problem, "take it away, or mend it.")
        if path.is_dir():
            return _folder(path)
        if _is_parquet(path):
            return pyarrow.dataset.dataset(path, format="parquet").to_table()
        parse = pyarrow.csv.ParseOptions(delimiter=_separator(path))
        words = dict.fromkeys((*NEEDED["id"], *OPTIONAL["obscode"]), pa.string())  # 0001 is not 1, nor 033 33
        options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, column_types=words)
        return _with_numbers(pyarrow.csv.read_csv(path, parse_options=parse, convert_options=options))
    except (OSError, ValueError, pa.ArrowException) as error:
        problem = f"cannot be read as Parquet or CSV: {read_failure(error)}."
        raise Misconfigured("unreadable_table", str(path), problem, "give a table in one of these formats.") from error


def _separator(path: Path) -> str:
    """Return the separator of a CSV: comma, semicolon or tab; refuse others."""
    with pa.input_stream(path) as file:
        first = (file.read(1 << 16).decode("utf-8", "replace").lstrip().splitlines() or [""])[0]
    found = csv_separator(first)
    if found not in first and len(re.split(r"[| ]+", first)) >= len(NEEDED):
        problem = f"has no commas, semicolons or tabs in its first line, {first[:60]!r}, which should name the columns."
        raise Misconfigured("unreadable_table", str(path), problem, "separate names and values by one of them.")
    return found


def _folder(path: Path) -> pa.Table:
    """Return the rows of all files of a folder, with all columns, in types that hold the values of every file."""
    files = pyarrow.dataset.dataset(path, format="parquet").files
    if not files:
        raise Misconfigured("unreadable_table", str(path), "holds no Parquet file.", "name a folder with some.")
    schemas = {file: pq.read_schema(file) for file in files}
    kinds: dict[str, set[pa.DataType]] = {}
    for file, schema in schemas.items():
        for field in schema:
            kinds.setdefault(field.name, set()).add(field.type)
            _require_double(file, field.name, field.type)
    used = {name for names in (NEEDED | OPTIONAL).values() for name in names}
    odd = {name for name, some in kinds.items() if len(some) > 1 and name not in used}
    own = [pa.schema([field for field in schema if field.name not in odd]) for schema in schemas.values()]
    schema = pa.unify_schemas(own, promote_options="permissive")
    return pyarrow.dataset.dataset(files, schema=schema, format="parquet").to_table()


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _with_numbers(table: pa.Table) -> pa.Table:
    """Return a table of text with its ids as integers, if that loses nothing."""
    for place, (name, text) in enumerate(zip(table.column_names, table.columns, strict=True)):
        for kind in (pa.uint64(), pa.int64()) if name in NEEDED["id"] else ():
            with suppress(pa.ArrowInvalid):
                numbers = text.cast(kind)
                if numbers.cast(pa.string()).equals(text):
                    table = table.set_column(place, name, numbers)
    return table


def _published(out: Path, nights: NightRange) -> pa.Table:
    """Return detections of some nights of an output folder with the code of each observatory, null if not known."""
    rows = CatalogueRows(out, DIA_SOURCE)
    if nights:
        rows = rows.of(nights.among(rows.nights, str(out)))
    wanted = {name for names in (NEEDED | OPTIONAL).values() for name in names}
    keys = ("night", "visit", "detector")
    table = rows.read([name for name in rows.schema.names if name in wanted or name in keys], None)
    told = ExposureRows(out, rows.nights).read([*keys, "instrument"], None).to_pylist()
    codes = {tuple(one[name] for name in keys): observatory_of(one["instrument"] or "") for one in told}
    of = [codes.get(one) for one in zip(*(table[name].to_pylist() for name in keys), strict=True)]
    known = [None if code == GEOCENTRE else code for code in of]
    return table.drop_columns(["night"]).append_column("obscode", pa.array(known, pa.string()))


def _own_names(path: Path, table: pa.Table) -> dict[str, str]:
    """Return the name of each column in the table, or the first of its known names if the table does not have it."""
    own = {}
    for name, names in (NEEDED | OPTIONAL).items():
        own[name] = next((one for one in names if one in table.column_names), name)
        if table.column_names.count(own[name]) > 1:
            problem = f"has the column {own[name]!r} more than once."
            raise Misconfigured("unreadable_table", str(path), problem, "leave one of them.")
        if name in NEEDED and own[name] not in table.column_names:
            problem = f"has no column {name!r} among {', '.join(table.column_names)}."
            raise Misconfigured("missing_column", str(path), problem, f"name it {' or '.join(names)}.")
    return own


def _column(table: pa.Table, name: str, own: str) -> pa.Array:
    if own not in table.column_names:
        return pa.nulls(len(table), pa.string() if name in _TEXTS else pa.float64())
    column = table[own].combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _ids(path: Path, name: str, ids: pa.Array) -> pa.Array:
    """Return the ids; null for NaN or an empty string."""
    kind = ids.type
    if pa.types.is_floating(kind):
        exact = 2**24 if kind == pa.float32() else 2**53
        ids = pc.if_else(pc.is_finite(ids.cast(pa.float64())), ids.cast(pa.float64()), None)
        if (pc.max(pc.abs(ids)).as_py() or 0) > exact:
            problem = f"column {name!r} holds {kind} above {exact}, which have lost digits."
            raise Misconfigured("bad_id", str(path), problem, "write ids as integers or text.")
        return ids
    if pa.types.is_string_view(kind):
        ids, kind = ids.cast(pa.string()), pa.string()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.if_else(pc.equal(pc.utf8_trim_whitespace(ids), ""), None, ids)
    if not pa.types.is_integer(kind):
        problem = f"column {name!r} holds {ids.type}."
        raise Misconfigured("bad_id", str(path), problem, "give text or a number that names the detection.")
    return ids


def _numbers(path: Path, name: str, column: pa.Array) -> NDArray[np.float64]:
    _require_double(str(path), name, column.type)
    try:
        return np.asarray(column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False), np.float64)
    except pa.ArrowException as error:
        problem = f"column {name!r} holds {column.type}: {error}."
        raise Misconfigured("not_a_number", str(path), problem, "give numbers there.") from error


def _require_double(path: str, name: str, kind: pa.DataType) -> None:
    if name in NEEDED["mjd"] and kind in (pa.float32(), pa.float16()):
        problem = f"column {name!r} is in single precision, which tells a time to six minutes."
        raise Misconfigured("imprecise_times", path, problem, "write it in double precision (float64).")


def _require_mjd(path: Path, name: str, mjd: NDArray[np.float64]) -> None:
    """Raise ``no_mjd`` if there are times and none of them can be a Modified Julian Date."""
    told, (low, high) = mjd[np.isfinite(mjd)], _RANGES["mjd"]
    if len(told) and not ((told >= low) & (told <= high)).any():
        problem = f"column {name!r} holds {float(told[0])!r}, and no time from {low:g} to {high:g}."
        raise Misconfigured("no_mjd", str(path), problem, "give Modified Julian Dates: Julian Dates less 2400000.5.")


def _imprecise_words(name: str, mjd: NDArray[np.float64]) -> list[str]:
    """Return a sentence if times are whole days, or three or more have at most two decimals or fit single precision.

    Times at multiples of 45 min also fit single precision, and are not reported for it.
    """
    low, high = _RANGES["mjd"]
    times = np.unique(mjd[(mjd >= low) & (mjd <= high)])
    if len(times) < _SEVERAL:
        whole = f"all times of {name!r} are whole days: nothing that moves is linked; give the middle of each exposure"
        return [whole] if len(times) and not (times % 1).any() else []
    if np.allclose(times / _COARSE, np.round(times / _COARSE), rtol=0, atol=1e-6):
        told = f"all {len(times)} times of {name!r} are multiples of {_COARSE} d, which tells a time to 14 minutes"
        return [f"{told}: hardly anything that moves is linked; unless they are right, give five decimals or more"]
    if (times == times.astype(np.float32)).all() and (times % _PLAIN_STEP).any():
        return [f"all {len(times)} times of {name!r} are such as single precision has, to six minutes: are they right?"]
    return []


def _plausible(
    numbers: dict[str, NDArray[np.float64]], own: dict[str, str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, int]]:
    """Return numbers, with NaN for impossible values of their column, and counts of these by the table's names."""
    kept, count = dict(numbers), dict[str, int]()
    for name, (low, high) in _PLAUSIBLE.items():
        wrong = (numbers[name] < low) | (numbers[name] > high)
        kept[name] = np.where(wrong, np.nan, numbers[name])
        if wrong.any():
            count[own[name]] = int(wrong.sum())
    return kept, count


def _unusable(
    ids: pa.Array, numbers: dict[str, NDArray[np.float64]], classes: pa.Array, own: dict[str, str]
) -> dict[str, list[int]]:
    """Return the unusable rows, counted from 0, by reason; each row has one reason."""
    reasons: dict[str, NDArray[np.bool_]] = {f"no {own['id']}": ids.is_null().to_numpy(zero_copy_only=False)}
    for name, (low, high) in _RANGES.items():
        reasons[f"{own[name]} is not a number from {low:g} to {high:g}"] = ~(
            (numbers[name] >= low) & (numbers[name] <= high)
        )
    uncertain = position_error(numbers) > _LARGEST_ERROR
    for name in ("posErr", "raErr", "decErr"):
        uncertain |= np.isposinf(numbers[name])
    reasons[f"the error of its position is above {_LARGEST_ERROR:g} arcsec"] = uncertain
    first: dict[Any, int] = {}
    again = [first.setdefault(value, row) != row for row, value in enumerate(ids.to_pylist())]
    reasons[f"the {own['id']} of an earlier row"] = np.array(again, np.bool_)
    reasons[SATELLITE] = np.array([bool(value) and value == value for value in classes.to_pylist()], np.bool_)
    known: NDArray[np.bool_] = np.zeros(len(ids), np.bool_)
    found = {}
    for reason, wrong in reasons.items():
        rows = np.flatnonzero(wrong & ~known)
        known |= wrong
        if len(rows):
            found[reason] = rows.tolist()
    return found


def left_out_words(table: DetectionTable) -> list[str]:
    """Return a sentence for each reason why rows were left out, with the first rows from 1, and for odd values."""
    words = list(table.notes)
    for reason, rows in table.left_out.items():
        shown = ", ".join(str(row + 1) for row in rows[:_TOLD]) + (", ..." if len(rows) > _TOLD else "")
        words.append(f"{counted(len(rows), 'row')} left out: {reason} (rows {shown})")
    for name, count in table.not_given.items():
        low, high = next(_PLAUSIBLE[one] for one, names in OPTIONAL.items() if name in names)
        words.append(f"{counted(count, 'value')} of {name} beyond {low:g} to {high:g}: taken as not given")
    return words


def _codes(path: Path, column: pa.Array) -> list[str]:
    """Return the codes of a column, empty if missing; whole numbers get three digits."""
    kind = column.type
    number = r"\d+(\.0*)?" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else r"\d+\.0*"
    codes = ["" if text.lower() == "nan" else text for text in _texts(path, "obscode", column)]
    return [code.split(".")[0].zfill(3) if re.fullmatch(number, code) else code for code in codes]


def _texts(path: Path, name: str, column: pa.Array) -> list[str]:
    """Return the texts of a column without blanks around them, empty if missing.

    Raises
    ------
    Misconfigured
        The column cannot be text (``no_text``).
    """
    try:
        texts = column.cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        problem = f"column {name!r} holds {column.type}: {error}."
        raise Misconfigured("no_text", str(path), problem, "give text there.") from error
    return [(text or "").strip() for text in texts]


def _misnamed_words(columns: Sequence[str], known: Iterable[Sequence[str]]) -> list[str]:
    """Return a sentence for each column whose name differs from a known one only in case and underscores."""
    words = []
    for names in known:
        alike = {name.lower() for name in names}
        for column in columns if not set(names) & set(columns) else ():
            if column.lower().replace("_", "") in alike:
                meant = next(name for name in names if name.lower() == column.lower().replace("_", ""))
                words.append(f"column {column!r} is not used: name it {meant!r}, if it is that")
    return words
