"""Verification of every published file against the ledger."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.storage.array_store import read_attributes
from flows.storage.atomic import leftovers
from flows.storage.bucket_path import folder_digest
from flows.storage.catalog_store import read_metadata, read_table
from flows.storage.digest import file_digest
from flows.storage.layout import require_output
from flows.storage.lease import holder_of
from flows.storage.ledger import Ledger, load, load_night, load_quality
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import TileStore
from schemas.dataset import TableOf
from schemas.errors import NightstrideError
from schemas.ledger import DatasetRecord, ExposureRecord, NightRecord


@dataclass(frozen=True)
class Problem:
    """Problem found by the verification; the fields are those of `schemas.errors.NightstrideError`."""

    code: str
    where: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Verification:
    """Result of the verification: what was checked, and what is wrong.

    Attributes
    ----------
    exposures, nights, files, tiles
        Ledger records of exposures and of whole nights, published catalogues and tile stores checked.
    quarantined
        Reasons of quarantines; of files without an identifiable exposure nothing else is known.
    running
        Who holds the folder at the moment; None if nobody does. What a run is writing is left out of account.
    problems
        In the order in which they were found.
    """

    exposures: int
    nights: int
    files: int
    tiles: int
    quarantined: int
    running: str | None
    problems: tuple[Problem, ...]

    def summary(self) -> dict[str, Any]:
        """Return everything as JSON-serialisable values."""
        return asdict(self)


def verify_output(out: Path, tables: Mapping[str, TableOf]) -> Verification:
    """Compare every file under ``out`` with the ledger and with its own metadata. Nothing is changed.

    Parameters
    ----------
    out
        Output folder.
    tables
        Declared form of each dataset, by name. A dataset that is not among them is checked without its form.

    Raises
    ------
    Misconfigured
        ``out`` is not an output folder.
    """
    require_output(out)
    quarantined = len(Quarantine(out).list())
    holder = holder_of(out)
    running = f"process {holder.pid} on {holder.host}, since {holder.since}" if holder else None
    problems: list[Problem] = []
    records: list[ExposureRecord] = []
    ledger = Ledger(out)
    ledger_files = ledger.files()
    for file in ledger_files:
        try:
            record = load(file)
        except NightstrideError as error:
            problems.append(_problem(error))
            continue
        records.append(record)
        problems += _check_record(out, file, record, tables)
    nights: list[NightRecord] = []
    for file in ledger.night_files():
        try:
            nights.append(load_night(file))
        except NightstrideError as error:
            problems.append(_problem(error))
            continue
        problems += _check_datasets(out, nights[-1].datasets, tables)
    for file in (ledger.quality_path(night) for night in ledger.quality_nights()):
        try:
            load_quality(file)
        except NightstrideError as error:
            problems.append(_problem(error))
    expected = {entry.path for record in records for entry in record.datasets.values()}
    expected |= {entry.path for record in nights for entry in record.datasets.values()}
    if holder is None:
        problems += _strays(out, expected)
    tiles = sorted((out / "tiles").glob("*/*.zarr"))
    sources = {(record.night, record.name): record for record in records if record.status == "done"}
    for path in tiles:
        problems += _check_tiles(path, sources.get((path.parent.name, path.stem)))
    return Verification(
        len(ledger_files), len(nights), len(expected), len(tiles), quarantined, running, tuple(problems)
    )


def _check_record(out: Path, file: Path, record: ExposureRecord, tables: Mapping[str, TableOf]) -> Iterator[Problem]:
    if (file.parent.name, file.stem) != (record.night, record.name):
        yield Problem(
            "misfiled_record",
            str(file),
            f"is the record of exposure {record.name} of night {record.night}.",
            "remove it and run the night again.",
        )
    yield from _check_datasets(out, record.datasets, tables)


def _check_datasets(
    out: Path, datasets: Mapping[str, DatasetRecord], tables: Mapping[str, TableOf]
) -> Iterator[Problem]:
    for name, entry in datasets.items():
        path = out / entry.path
        try:
            differences = _differences(path, name, entry, tables.get(name))
        except NightstrideError as error:
            yield _problem(error)
            continue
        if differences:
            yield Problem(
                "not_as_recorded",
                str(path),
                f"differs from its ledger record: {'; '.join(differences)}.",
                "run the night again: it is made again.",
            )


def _differences(path: Path, name: str, entry: DatasetRecord, table: TableOf | None) -> list[str]:
    """Return in what a published file differs from its record; raise if it cannot be read."""
    if path.suffix == ".zarr":
        return _of_array(path, name, entry)
    dataset, digest, rows = read_metadata(path)
    if table is not None:
        read_table(path, table)
    return [
        *_compare("dataset", dataset, name),
        *_compare("digest", digest, entry.digest),
        *_compare("rows", rows, entry.rows),
        *_compare("sha256", file_digest(path), entry.sha256),
    ]


def _of_array(path: Path, name: str, entry: DatasetRecord) -> list[str]:
    found = read_attributes(path)
    return [
        *_compare("dataset", found.dataset, name),
        *_compare("digest", found.digest, entry.digest),
        *_compare("rows", found.rows, entry.rows),
        *_compare("sha256", folder_digest(path), entry.sha256),
    ]


def _compare(what: str, found: object, recorded: object) -> list[str]:
    return [] if found == recorded else [f"{what} {found}, recorded {recorded}"]


def _strays(out: Path, expected: set[str]) -> Iterator[Problem]:
    """Yield files in ``catalogs/`` that the ledger does not know, and what killed runs left unpublished."""
    for path in sorted((out / "catalogs").rglob("*")):
        names = {one.relative_to(out).as_posix() for one in (path, *path.parents) if out in one.parents}
        if path.is_file() and not names & expected:
            yield Problem(
                "unknown_file",
                str(path),
                "is not in the ledger.",
                "run the night again; if the file is still unknown then, remove it: nothing refers to it.",
            )
    for path in leftovers(out):
        yield Problem(
            "leftover", str(path), "was left unpublished by a run that was killed.", "run again: it is removed."
        )


def _check_tiles(path: Path, record: ExposureRecord | None) -> Iterator[Problem]:
    """Read every chunk against its checksum, and compare the attributes with the place and the ledger."""
    try:
        store = TileStore.open(path)
        for plane in store.planes:
            store.read_all(plane)
    except NightstrideError as error:
        yield _problem(error)
        return
    info = store.info
    if (path.parent.name, path.stem) != (info.night, info.name):
        yield Problem(
            "misfiled_tiles",
            str(path),
            f"holds exposure {info.name} of night {info.night}.",
            "remove the folder and run the night again.",
        )
    elif record is not None and record.source_sha256 != info.source_sha256:
        yield Problem(
            "stale_tiles",
            str(path),
            f"was made from a source with sha256 {info.source_sha256}, the ledger has {record.source_sha256}.",
            "run the night again: the exposure is done again.",
        )


def _problem(error: NightstrideError) -> Problem:
    return Problem(error.code, error.where, error.problem, error.remedy)
