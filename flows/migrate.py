"""Bringing an output folder that an older version wrote to the formats of this one, without its pixels."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flows.adapters.catalog_store import CatalogStore, read_metadata, read_stored
from flows.adapters.ledger import Ledger, load, load_night, load_quality
from flows.adapters.output_parts import require_output
from flows.adapters.zarr_tiles import TileStore
from flows.catalogue_forms import adapted
from flows.digest import file_digest
from schemas.dataset import TableOf
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.ledger import LEDGER_VERSION, DatasetRecord, ExposureRecord, NightRecord

Record = TypeVar("Record", ExposureRecord, NightRecord)

FUTURE = "future_schema"
"""Code of what a later version wrote."""


@dataclass(frozen=True)
class Step:
    """A file, relative to the output folder, and what is done to it."""

    path: str
    what: str


@dataclass
class Migration:
    """What is brought up to date, and what cannot be without a new search: files, and why."""

    steps: list[Step] = field(default_factory=list)
    search_again: list[Step] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """Everything, as values that JSON knows."""
        return asdict(self)


def migrate(out: Path, tables: Mapping[str, TableOf], *, dry: bool) -> Migration:
    """Bring ledger records and catalogues to the formats of this version.

    Each file is replaced in one step, the record of an exposure after its catalogues: killed at any moment, it goes on
    where it was. A digest, which says what a result was made from, stays as it is; so the next run searches again what
    this version would make otherwise.

    Parameters
    ----------
    out
        Output folder; the caller holds its lease.
    tables
        Declared form of each dataset.
    dry
        Whether to say only what would be done.

    Raises
    ------
    Misconfigured
        It is no output folder, or a later version wrote something in it: nothing is changed then.
    """
    require_output(out)
    refuse_newer(out)
    done = Migration()
    ledger = Ledger(out)
    _bring(load, ledger.files(), ledger.put, out, tables, done, dry)
    _bring(load_night, ledger.night_files(), ledger.put_night, out, tables, done, dry)
    return done


def _bring(
    load: Callable[[Path], Record],
    files: Iterable[Path],
    put: Callable[[Record], None],
    out: Path,
    tables: Mapping[str, TableOf],
    done: Migration,
    dry: bool,
) -> None:
    """Bring the records of ``files``, and the catalogues that they name, up to date."""
    for file in files:
        record = _readable(load, file, out, done)
        if record is not None:
            datasets = _datasets(out, record, tables, done, dry)
            if datasets != record.datasets or record.schema_version < LEDGER_VERSION:
                done.steps.append(_record_step(out, file, record))
                if not dry:
                    put(record.model_copy(update=_new(datasets)))


def refuse_newer(out: Path) -> None:
    """Raise `Misconfigured` if a later version wrote a record, catalogue or tile store of ``out``."""
    for read, files in (
        (load, Ledger(out).files()),
        (load_night, Ledger(out).night_files()),
        (load_quality, [Ledger(out).quality_path(night) for night in Ledger(out).quality_nights()]),
        (read_metadata, sorted((out / "catalogs").glob("*/*/*.parquet"))),
        (TileStore.open, sorted((out / "tiles").glob("*/*.zarr"))),
    ):
        for file in files:
            try:
                read(file)
            except NightstrideError as error:
                if error.code == FUTURE:
                    raise Misconfigured(error.code, error.where, error.problem, error.remedy) from error


def _readable(read: Callable[[Path], Record], file: Path, out: Path, done: Migration) -> Record | None:
    try:
        return read(file)
    except BadInput as error:
        done.search_again.append(Step(_relative(file, out), f"{error.problem} The night has to be run again."))
        return None


def _datasets(
    out: Path, record: ExposureRecord | NightRecord, tables: Mapping[str, TableOf], done: Migration, dry: bool
) -> dict[str, DatasetRecord]:
    """Bring the catalogues of a record to their declared form; give what the record has to say of them."""
    found = {}
    for name, entry in record.datasets.items():
        found[name] = entry
        if name in tables and entry.path.endswith(".parquet"):
            try:
                found[name] = _catalogue(out, record, entry, tables[name], done, dry)
            except BadInput as error:
                done.search_again.append(Step(entry.path, error.problem))
    return found


def _catalogue(
    out: Path,
    record: ExposureRecord | NightRecord,
    entry: DatasetRecord,
    dataset: TableOf,
    done: Migration,
    dry: bool,
) -> DatasetRecord:
    path, store = out / entry.path, CatalogStore(out)
    table, whole = read_stored(path), file_digest(path) == entry.sha256
    if table.schema.equals(dataset.schema):
        # Of another SHA-256 than recorded, it is what a migration left that was killed before it wrote the record.
        left = not whole and record.schema_version < LEDGER_VERSION and store.record(path).digest == entry.digest
        return store.record(path) if left else entry
    made = adapted(table, dataset) if whole else None
    if made is None:
        why = "its columns are those of another version" if whole else "it is not the file that was published"
        done.search_again.append(Step(entry.path, f"{why}: it has to be made anew."))
        return entry
    done.steps.append(Step(entry.path, f"add {', '.join(made.added)}"))
    done.search_again.append(Step(entry.path, f"not known without a new search: {', '.join(made.added)}."))
    if dry:
        return entry
    key = record.key if isinstance(record, ExposureRecord) else record.night
    return store.record(store.publish(dataset, key, made.table, entry.digest))


def _new(datasets: Mapping[str, DatasetRecord]) -> dict[str, Any]:
    return {"datasets": dict(datasets), "schema_version": LEDGER_VERSION}


def _record_step(out: Path, file: Path, record: ExposureRecord | NightRecord) -> Step:
    return Step(_relative(file, out), f"version {record.schema_version} to {LEDGER_VERSION}")


def _relative(file: Path, out: Path) -> str:
    return file.relative_to(out).as_posix()
