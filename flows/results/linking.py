"""Tracklets of a table of detections: read, linked, written."""

import io
import re
from collections.abc import Sequence
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
from pydantic import BaseModel

from flows.results.catalogue_rows import CatalogueRows
from flows.results.exposure_rows import ExposureRows
from flows.results.link_nights import misnamed_words, observatory_codes
from flows.runtime.settings import require_there
from flows.runtime.words import counted
from flows.storage.atomic import write_file
from flows.storage.bucket_path import BucketPath
from flows.storage.layout import is_output, require_output
from kernels.linking.detections import SkyDetections, detections_of, find_stationary, name_of_half, position_error
from kernels.linking.orbits import Link
from kernels.linking.tracklets import Tracklet, find_tracklets
from kernels.orbits.ephemeris import OrbitCatalogue
from kernels.orbits.matching import match_ephemerides, near_radius
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, observatory_of, observer_at
from kernels.sky.positions import sky_position
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured, read_failure
from schemas.night_range import EVERY_NIGHT, NightRange

NEEDED = {
    "id": ("id", "diaSourceId"),
    "mjd": ("mjd", "midpointMjdTai"),
    "ra": ("ra",),
    "dec": ("dec",),
}
"""Columns that a table must have, and the names each may have."""

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
    "obscode": ("obscode",),
    "trailClass": ("trailClass",),
}

_RANGES = {"mjd": (15020.0, 88069.0), "ra": (0.0, 360.0), "dec": (-90.0, 90.0)}  # 1900 to 2100
_PLAUSIBLE = {
    "posErr": (0.0, np.inf), "raErr": (0.0, np.inf), "decErr": (0.0, np.inf), "trailLength": (0.0, 36_000.0),
    "trailAngle": (-360.0, 360.0), "trailLengthErr": (0.0, 36_000.0), "trailAngleErr": (0.0, 180.0),
    "exposureTime": (0.0, 86_400.0), "mag": (-30.0, 40.0),
}  # fmt: skip
"""Columns -> between what values lie; what is beyond, as -999 is, counts as not given."""
_LARGEST_ERROR = 60.0  # arcsec; a position less certain than that leads nowhere
_MATCH_RADIUS, _MATCH_MOST = 2.0, 30.0  # arcsec: of known objects
_TOLD = 5  # rows named for each reason
_UNITS = {"rate": "deg / day", "positionAngle": "deg", "rms": "arcsec", "linkRms": "arcsec", "a": "AU", "i": "deg"}


class LinkSummary(BaseModel):
    """What was linked.

    Attributes
    ----------
    detections
        Rows of the table.
    tracklets, linked
        Tracklets, and the detections in them.
    stationary
        SkyDetections that are seen again at their place.
    left_out
        Rows that were not used, by reason.
    not_given
        Values that were taken for missing, by column; None if there are none.
    known
        Tracklets of known objects; None where no orbits were given.
    links, linked_nights
        Links over nights, and the detections in them; None where none were looked for.
    """

    detections: int
    tracklets: int
    linked: int
    stationary: int
    left_out: dict[str, int]
    not_given: dict[str, int] | None = None
    known: int | None = None
    links: int | None = None
    linked_nights: int | None = None

    @property
    def exit_code(self) -> int:
        """Return 1 if rows could not be used."""
        return int(any(reason != SATELLITE for reason in self.left_out))

    @property
    def words(self) -> str:
        """Return the sentence that a person reads."""
        rest = f"{self.stationary} of {self.detections} are at rest"
        links, linked = counted(self.links or 0, "link"), counted(self.linked_nights or 0, "detection")
        nights = "" if self.links is None else f"; {links} of {linked} over nights"
        known = "" if self.known is None else f", {self.known} of them of known objects"
        return f"{counted(self.tracklets, 'tracklet')} of {counted(self.linked, 'detection')}{known}; {rest}{nights}"

    def with_links(self, links: Sequence[Link]) -> "LinkSummary":
        """Return it with what was linked over nights."""
        return self.model_copy(update={"links": len(links), "linked_nights": sum(len(one.members) for one in links)})


SATELLITE = "a satellite"
"""Why rows are left out that nothing is wrong with."""


class DetectionTable(NamedTuple):
    """Rows of a table that can be used, sorted by time and id, the scale of the times, and why others cannot.

    ``not_given`` counts the values, by column, that were taken for missing; ``notes`` are sentences about columns.
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
    """Read detections: a Parquet or CSV file, a folder of Parquet files, or what an output folder has published.

    Parameters
    ----------
    path
        File or folder.
    obscode
        Observatory of rows that have none. Those of an output folder have that of their instrument, if it is known.
    nights
        Of an output folder.

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
    columns = {name: _column(path, table, name, names) for name, names in (NEEDED | OPTIONAL).items()}
    numbers = {
        name: _numbers(path, name, columns[name]) for name in columns if name not in ("id", "obscode", "trailClass")
    }
    columns["id"] = _ids(path, columns["id"])
    _require_mjd(path, numbers["mjd"])
    numbers, not_given = _plausible(numbers)
    left_out = _unusable(columns["id"], numbers, columns["trailClass"])
    wrong = {row for rows in left_out.values() for row in rows}
    good = np.array([row for row in range(len(table)) if row not in wrong], np.intp)
    ids = columns["id"].take(pa.array(good))
    good = good[np.lexsort((pc.rank(ids, tiebreaker="first").to_numpy(), numbers["mjd"][good]))]
    some = {name: values[good] for name, values in numbers.items()}
    detections = detections_of(some | {"midpointMjdTai": some["mjd"], "magAB": some["mag"]})
    given = [code or obscode for code in observatory_codes(path, columns["obscode"])]
    notes = misnamed_words(table.column_names, (NEEDED | OPTIONAL).values())
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
        _require_commas(path)
        words = dict.fromkeys((*NEEDED["id"], *OPTIONAL["obscode"]), pa.string())  # 0001 is not 1, nor 033 33
        options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, column_types=words)
        return _with_numbers(pyarrow.csv.read_csv(path, convert_options=options))
    except (OSError, ValueError, pa.ArrowException) as error:
        problem = f"cannot be read as Parquet or CSV: {read_failure(error)}."
        raise Misconfigured("unreadable_table", str(path), problem, "give a table in one of these formats.") from error


def _require_commas(path: Path) -> None:
    with pa.input_stream(path) as file:
        first = (file.read(1 << 16).decode("utf-8", "replace").lstrip().splitlines() or [""])[0]
    if "," not in first and len(re.split(r"[;\t| ]+", first)) >= len(NEEDED):
        problem = f"has no commas in its first line, {first[:60]!r}, which should name the columns of a CSV."
        raise Misconfigured("unreadable_table", str(path), problem, "separate names and values by commas.")


def _folder(path: Path) -> pa.Table:
    """Return the rows of all files of a folder, with the columns of each, in a type that holds the values of all."""
    files = pyarrow.dataset.dataset(path, format="parquet").files
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
    """Return a table of text with its ids as integers, if they are and nothing of them is lost."""
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


def _column(path: Path, table: pa.Table, name: str, names: Sequence[str]) -> pa.Array:
    for one in names:
        if table.column_names.count(one) > 1:
            problem = f"has the column {one!r} more than once."
            raise Misconfigured("unreadable_table", str(path), problem, "leave one of them.")
        if one in table.column_names:
            column = table[one].combine_chunks()
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            return column.cast(pa.string()) if pa.types.is_null(column.type) else column
    if name in NEEDED:
        problem = f"has no column {name!r} among {', '.join(table.column_names)}."
        raise Misconfigured("missing_column", str(path), problem, f"name it {' or '.join(names)}.")
    return pa.nulls(len(table), pa.string() if name in ("obscode", "trailClass") else pa.float64())


def _ids(path: Path, ids: pa.Array) -> pa.Array:
    """Return ids, null where a number is none, or a text empty."""
    kind = ids.type
    if pa.types.is_floating(kind):
        exact = 2**24 if kind == pa.float32() else 2**53
        ids = pc.if_else(pc.is_finite(ids.cast(pa.float64())), ids.cast(pa.float64()), None)
        if (pc.max(pc.abs(ids)).as_py() or 0) > exact:
            problem = f"column 'id' holds {kind} above {exact}, which have lost digits."
            raise Misconfigured("bad_id", str(path), problem, "write ids as integers or text.")
        return ids
    if pa.types.is_string_view(kind):
        ids, kind = ids.cast(pa.string()), pa.string()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.if_else(pc.equal(pc.utf8_trim_whitespace(ids), ""), None, ids)
    if not pa.types.is_integer(kind):
        problem = f"column 'id' holds {ids.type}."
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


def _require_mjd(path: Path, mjd: NDArray[np.float64]) -> None:
    """Raise ``no_mjd`` if there are times and none of them can be a Modified Julian Date."""
    told, (low, high) = mjd[np.isfinite(mjd)], _RANGES["mjd"]
    if len(told) and not ((told >= low) & (told <= high)).any():
        problem = f"column 'mjd' holds {float(told[0])!r}, and no time from {low:g} to {high:g}."
        raise Misconfigured("no_mjd", str(path), problem, "give Modified Julian Dates: Julian Dates less 2400000.5.")


def _plausible(numbers: dict[str, NDArray[np.float64]]) -> tuple[dict[str, NDArray[np.float64]], dict[str, int]]:
    """Return numbers, NaN where they cannot be what their column holds, and how many of each are not."""
    kept, count = dict(numbers), dict[str, int]()
    for name, (low, high) in _PLAUSIBLE.items():
        wrong = (numbers[name] < low) | (numbers[name] > high)
        kept[name] = np.where(wrong, np.nan, numbers[name])
        if wrong.any():
            count[name] = int(wrong.sum())
    return kept, count


def _unusable(ids: pa.Array, numbers: dict[str, NDArray[np.float64]], classes: pa.Array) -> dict[str, list[int]]:
    """Return the rows that cannot be used, from 1, by reason; each has one."""
    reasons: dict[str, NDArray[np.bool_]] = {"no id": ids.is_null().to_numpy(zero_copy_only=False)}
    for name, (low, high) in _RANGES.items():
        reasons[f"{name} is not a number from {low:g} to {high:g}"] = ~(
            (numbers[name] >= low) & (numbers[name] <= high)
        )
    uncertain = position_error(numbers) > _LARGEST_ERROR
    for name in ("posErr", "raErr", "decErr"):
        uncertain |= np.isposinf(numbers[name])
    reasons[f"the error of its position is above {_LARGEST_ERROR:g} arcsec"] = uncertain
    first: dict[Any, int] = {}
    again = [first.setdefault(value, row) != row for row, value in enumerate(ids.to_pylist())]
    reasons["the id of an earlier row"] = np.array(again, np.bool_)
    reasons[SATELLITE] = np.array([bool(value) and value == value for value in classes.to_pylist()], np.bool_)
    known: NDArray[np.bool_] = np.zeros(len(ids), np.bool_)
    found = {}
    for reason, wrong in reasons.items():
        rows = np.flatnonzero(wrong & ~known)
        known |= wrong
        if len(rows):
            found[reason] = rows.tolist()
    return found


def link_table(table: DetectionTable) -> tuple[LinkSummary, list[Tracklet], NDArray[np.bool_]]:
    """Link the detections of each observatory, night by night.

    Returns
    -------
    LinkSummary, list of Tracklet, (n,) bool
        Members of tracklets are places in the table, by time; which detections are at rest.
    """
    stationary = np.zeros(len(table.ids), np.bool_)
    tracklets: list[Tracklet] = []
    for code in np.unique(table.obscode):
        here = np.flatnonzero(table.obscode == code)
        own = table.detections.take(here)
        still = find_stationary(own)
        stationary[here] = still
        found = find_tracklets(own, ~still)
        tracklets += [one._replace(members=tuple(int(here[n]) for n in one.members)) for one in found]
    tracklets.sort(key=lambda one: (one.motion.mjd, one.members))
    summary = LinkSummary(
        detections=table.rows,
        tracklets=len(tracklets),
        linked=sum(len(one.members) for one in tracklets),
        stationary=int(stationary.sum()),
        left_out={reason: len(rows) for reason, rows in table.left_out.items()},
        not_given=table.not_given or None,
    )
    return summary, tracklets, stationary


def name_detections(table: DetectionTable, catalogue: OrbitCatalogue) -> list[str]:
    """Return the designation of the known object at each detection; empty where there is none.

    Exposures are told apart by observatory and time. An object is looked for within 2 arcsec, what rounded elements
    leave open and three times the error of the detection, and along its motion as far as its orbit is uncertain, 30
    arcsec at most.
    """
    own, names = table.detections, np.full(len(table.ids), "", object)
    ra, dec = sky_position(own.vectors)
    _, exposure = np.unique(
        np.stack([np.unique(table.obscode, return_inverse=True)[1], own.mjd]), axis=1, return_inverse=True
    )
    for rows in np.split(np.argsort(exposure, kind="stable"), np.cumsum(np.bincount(exposure))[:-1]):
        place = OBSERVATORIES.get(str(table.obscode[rows[0]]), OBSERVATORIES[GEOCENTRE])
        observer = observer_at(float(own.mjd[rows[0]]), place, table.scale)
        middle = own.vectors[rows].mean(axis=0)
        middle /= max(float(np.linalg.norm(middle)), 1e-9)
        radius = np.degrees(np.arccos(np.clip(own.vectors[rows] @ middle, -1, 1)).max()) + _MATCH_MOST / 3600
        index, seen = catalogue.seen(observer, middle, float(radius))
        uncertainty = np.minimum(catalogue.uncertainty(index, observer, seen), _MATCH_MOST)
        known = (seen.ra, seen.dec, seen.angle, uncertainty)
        wide = near_radius(_MATCH_RADIUS, seen.distance, _MATCH_MOST)
        for one in match_ephemerides((ra[rows], dec[rows], own.sigma[rows]), known, wide):
            names[rows[one.detection]] = catalogue.orbits.designation[index[one.known]].decode("ascii")
    return list(names)


def name_tracklets(tracklets: Sequence[Tracklet], names: Sequence[str]) -> list[str]:
    """Return the name that at least half of the detections of each tracklet have; empty where none has."""
    return [name_of_half(names[place] for place in one.members) for one in tracklets]


def members_of(
    table: DetectionTable,
    tracklets: Sequence[Tracklet],
    links: Sequence[Link] | None = None,
    names: Sequence[str] | None = None,
) -> pa.Table:
    """Return a row for each detection of a tracklet; tracklets are numbered from 1, by time.

    Where links were looked for, their detections that are in no tracklet follow, and there are columns of the links:
    their number, also from 1, and their orbits; null in a row that is in none. Names of known objects are those of the
    tracklets; empty where none is known.
    """
    count = [len(one.members) for one in tracklets]
    places = [place for one in tracklets for place in one.members]
    motion = {
        "rate": [one.motion.rate for one in tracklets],
        "positionAngle": [one.motion.angle for one in tracklets],
        "rms": [one.motion.rms for one in tracklets],
        "chance": [one.chance for one in tracklets],
    }
    columns = {
        "trackletId": pa.array(np.repeat(np.arange(1, len(count) + 1), count), pa.int64()),
        "id": table.ids.take(pa.array(places, pa.int64())),
        **{name: pa.array(np.repeat(values, count), pa.float64()) for name, values in motion.items()},
    }
    if names is not None:
        columns["designation"] = pa.array(np.repeat(np.array(names, object), count), pa.string())
    if links is not None:
        alone = sorted({place for one in links for place in one.members} - set(places))
        more = pa.table({"id": table.ids.take(pa.array(alone, pa.int64()))})
        joined = pa.concat_tables([pa.table(columns), more], promote_options="default").combine_chunks()
        columns = dict(zip(joined.column_names, joined.columns, strict=True)) | _of_links([*places, *alone], links)
    fields = [
        pa.field(name, column.type, metadata={"unit": _UNITS[name]} if name in _UNITS else None)
        for name, column in columns.items()
    ]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _of_links(places: Sequence[int], links: Sequence[Link]) -> dict[str, pa.Array]:
    """Return the columns of links, null at places that are in none."""
    number = {place: n for n, one in enumerate(links) for place in one.members}
    of = [number.get(place) for place in places]
    columns = {"linkId": pa.array([n if n is None else n + 1 for n in of], pa.int64())}
    for name, field in {"linkRms": "rms", "a": "a", "e": "e", "i": "i"}.items():
        columns[name] = pa.array([n if n is None else getattr(links[n], field) for n in of], pa.float64())
    return columns


def write_members(path: Path, members: pa.Table) -> None:
    """Write a Parquet file, whole or not at all; errors are those of `flows.storage.atomic.write_file`."""
    content = io.BytesIO()
    pq.write_table(members, content)
    write_file(path, content.getvalue(), path.parent)


def left_out_words(table: DetectionTable) -> list[str]:
    """Return a sentence for each reason why rows were left out, with the first of them, from 1; and for odd values."""
    words = list(table.notes)
    for reason, rows in table.left_out.items():
        shown = ", ".join(str(row + 1) for row in rows[:_TOLD]) + (", ..." if len(rows) > _TOLD else "")
        words.append(f"{counted(len(rows), 'row')} left out: {reason} (rows {shown})")
    for name, count in table.not_given.items():
        low, high = _PLAUSIBLE[name]
        words.append(f"{counted(count, 'value')} of {name} beyond {low:g} to {high:g}: taken as not given")
    return words
