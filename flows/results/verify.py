"""Verification of every published file against the ledger."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.runtime.words import counted
from flows.storage.array_store import read_attributes
from flows.storage.atomic import leftovers
from flows.storage.bucket_path import folder_digest
from flows.storage.catalog_parts import Held, entries, is_part
from flows.storage.catalog_store import Inspected, inspect, read_content
from flows.storage.hats import METADATA
from flows.storage.layout import catalogs_folder, dataset_folder, require_output, tiles_folder
from flows.storage.lease import holder_of
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import require_whole
from schemas.dataset import TableOf
from schemas.errors import Misconfigured, NightstrideError
from schemas.ledger import DatasetRecord, ExposureRecord, NightRecord, PatchRecord
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.received_alert import RECEIVED_ALERT
from schemas.summary import Trouble

OURS = version("nightstride")
"""Version of this code."""


@dataclass(frozen=True)
class Problem:
    """Problem found by the verification; fields and text are those of `schemas.errors.NightstrideError`."""

    code: str
    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return str(NightstrideError(self.code, self.where, self.problem, self.remedy))


@dataclass(frozen=True)
class FormerObject:
    """Id in ``forced_source`` that no object has now; this is not a problem.

    Attributes
    ----------
    diaObjectId
        Id, as in the names of the rows.
    rows, nights
        Number of rows, and their nights.
    why
        Reason why no object has the id now.
    """

    diaObjectId: int  # noqa: N815
    rows: int
    nights: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        named = self.nights[0] if len(self.nights) == 1 else f"{self.nights[0]} to {self.nights[-1]}"
        return f"{counted(self.rows, 'row')} of forced photometry, {named}, of {self.diaObjectId}, which {self.why}"


@dataclass(frozen=True)
class Verification:
    """Result of the verification: numbers of checked items, and problems.

    Attributes
    ----------
    exposures, nights, files, tiles
        Numbers of checked ledger records of exposures and of whole nights, published catalogues, and tile stores.
    quarantined
        Number of quarantine reasons; for files without an identifiable exposure nothing else is known.
    running
        Process that holds the folder; None if there is none. Files that a run is writing are not checked.
    problems
        Problems in the order in which they were found.
    former
        Former objects that still have rows of forced photometry.
    notes
        Other information that is not a problem.
    """

    exposures: int
    nights: int
    files: int
    tiles: int
    quarantined: int
    running: str | None
    problems: tuple[Problem, ...]
    former: tuple[FormerObject, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return all fields as JSON-serialisable values."""
        return asdict(self)


def verify_output(out: Path, tables: Mapping[str, TableOf], nights: NightRange = EVERY_NIGHT) -> Verification:
    """Compare every file under ``out`` with the ledger and with its own metadata. Nothing is changed.

    Parameters
    ----------
    out
        Output folder.
    tables
        Declared schema of each dataset, by name. Other datasets are checked without a schema.
    nights
        Range of nights.

    Raises
    ------
    Misconfigured
        ``out`` is not an output folder, or holds none of these nights.
    """
    require_output(out)
    ledger, holder = Ledger(out), holder_of(out)
    # Only if no process is writing: the check reads whole files and holds their lock meanwhile.
    known = {*ledger.nights(), *ledger.named_nights(), *ledger.quality_nights(), *_nights_of_files(out)}
    labels = nights.among(known, str(out))
    damage = (error for label in (labels if nights else (None,)) for error in ledger.damage(label))
    found = _Found(problems=[_problem(error) for error in (damage if holder is None else ())])
    for label in labels:
        try:
            _check_night(out, label, ledger, tables, found, look_for_strays=holder is None)
        except Misconfigured as error:  # its file is damaged: the others are checked
            if error.where not in {problem.where for problem in found.problems}:
                found.problems.append(_problem(error))
    if holder is None:
        found.problems += [_stray(path) for path in _outside(out)] if not nights else []
        found.problems += map(_leftover, leftovers(out))
    running = f"process {holder.pid} on {holder.host}, since {holder.since}" if holder else None
    quarantined = sum(not nights or (one.key is not None and one.key.night in nights) for one in Quarantine(out).list())
    return Verification(
        found.exposures,
        found.nights,
        found.files,
        found.tiles,
        quarantined,
        running,
        tuple(dict.fromkeys(found.problems)),
    )


@dataclass
class _Found:
    """Intermediate result of the verification; fields as in `Verification`."""

    problems: list[Problem]
    exposures: int = 0
    nights: int = 0
    files: int = 0
    tiles: int = 0


def _nights_of_files(out: Path) -> set[str]:
    named = {path.name.removeprefix("night=") for path in catalogs_folder(out).glob("*/night=*")}
    return named | {path.name for path in tiles_folder(out).glob("*")}


def _check_night(
    out: Path, night: str, ledger: Ledger, tables: Mapping[str, TableOf], found: _Found, *, look_for_strays: bool
) -> None:
    """Check the published files of a night, keeping only names and digests of its records."""
    listed = {
        folder: frozenset(path.name for path in folder.iterdir())
        for folder in sorted(catalogs_folder(out).glob(f"*/night={night}"))
    }
    expected, sources, joined = set[str](), dict[str, str](), _in_parts(out, listed)
    for record in ledger.entries(night):
        found.exposures += 1
        if isinstance(record, NightstrideError):
            found.problems.append(_problem(record))
            continue
        expected |= {entry.path for entry in record.datasets.values()}
        found.problems += _check_datasets(out, record, tables, joined)
        if record.status == "done":
            sources[record.name] = record.source_sha256
    for whole in (*ledger.whole_nights((night,)), *ledger.patches(night)):
        if isinstance(whole, NightstrideError):
            found.problems.append(_problem(whole))
            continue
        if isinstance(whole, NightRecord):
            found.nights += 1
            found.problems += map(_failed, whole.failed)
        expected |= {entry.path for entry in whole.datasets.values()}
        found.problems += _check_datasets(out, whole, tables, {})
    found.problems += [_problem(one) for one in ledger.qualities((night,)) if isinstance(one, NightstrideError)]
    for path in sorted(dataset_folder(out, RECEIVED_ALERT.name, night).glob("*.parquet")):
        expected.add(path.relative_to(out).as_posix())  # from a stream of alerts, which has no record
        try:
            if isinstance(content := read_content(path), bytes):
                inspect(path, content, RECEIVED_ALERT)
        except NightstrideError as error:
            found.problems.append(_problem(error))
    found.files += len(expected)
    if look_for_strays:
        for folder, names in listed.items():
            known = _parts(folder, names)
            found.problems += _unknown_rows(out, known, names, expected)
            found.problems += [_stray(path) for path in _unknown(out, folder, names, expected) if path not in known]
    for path in sorted((tiles_folder(out) / night).glob("*.zarr")):
        found.tiles += 1
        found.problems += _check_tiles(path, sources.get(path.stem))


def _parts(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in sorted(names) if is_part(name)]


def _in_parts(out: Path, listed: Mapping[Path, Collection[str]]) -> dict[str, Held]:
    """Return the catalogues that exist only in parts, by the path that their own file would have under ``out``."""
    found = dict[str, Held]()
    for folder, names in listed.items():
        within = folder.relative_to(out).as_posix()
        for part in _parts(folder, names):
            with suppress(NightstrideError):  # a damaged part is reported with the files without a record
                for name, one in entries(part).items():
                    if f"{name}.parquet" not in names:
                        found[f"{within}/{name}.parquet"] = one
    return found


def _check_datasets(
    out: Path,
    record: ExposureRecord | NightRecord | PatchRecord,
    tables: Mapping[str, TableOf],
    joined: Mapping[str, Held],
) -> Iterator[Problem]:
    # Files published by this version had the declared schema, so unchanged bytes still have it.
    formed = record.software == OURS
    for name, entry in record.datasets.items():
        path = out / entry.path
        if (one := joined.get(entry.path)) is not None and not _of_held(one, name, entry):
            continue
        try:
            differences = _differences(path, name, entry, tables.get(name), formed=formed)
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


def _differences(path: Path, name: str, entry: DatasetRecord, table: TableOf | None, *, formed: bool) -> list[str]:
    """Return the differences between a published file and its record; raise if the file cannot be read."""
    if path.suffix == ".zarr":
        found = read_attributes(path)
        return _of_catalogue(Inspected(found.dataset, found.digest, found.rows), folder_digest(path), name, entry)
    content = read_content(path)
    if isinstance(content, Held):
        return _of_held(content, name, entry)
    digest = sha256(content).hexdigest()
    if formed and digest == entry.sha256:
        return []
    return _of_catalogue(inspect(path, content, table), digest, name, entry)


def _of_held(one: Held, name: str, entry: DatasetRecord) -> list[str]:
    # Its part has already been compared with the digest in its name.
    return _of_catalogue(Inspected(one.dataset, one.digest, one.rows), one.sha256, name, entry)


def _of_catalogue(found: Inspected, digest: str, name: str, entry: DatasetRecord) -> list[str]:
    return [
        *_compare("dataset", found.dataset, name),
        *_compare("digest", found.digest, entry.digest),
        *_compare("rows", found.rows, entry.rows),
        *_compare("sha256", digest, entry.sha256),
    ]


def _compare(what: str, found: object, recorded: object) -> list[str]:
    return [] if found == recorded else [f"{what} {found}, recorded {recorded}"]


def _unknown_rows(out: Path, joined: Sequence[Path], names: Collection[str], expected: set[str]) -> Iterator[Problem]:
    """Yield parts that are damaged, or hold exposures that are not in the ledger or have their own files."""
    for part in joined:
        try:
            held = sorted(entries(part))
        except NightstrideError as error:
            yield _problem(error)
            continue
        own = [part.with_name(f"{name}.parquet") for name in held]
        extra = [path.stem for path in own if path.name in names or path.relative_to(out).as_posix() not in expected]
        if extra:
            yield Problem(
                "unknown_rows",
                str(part),
                f"holds {len(extra)} exposures that are not in the ledger, or have files of their own: {extra[0]} ...",
                "run the night again: it is joined again.",
            )


def _unknown(out: Path, folder: Path, names: Collection[str], expected: set[str]) -> Iterator[Path]:
    """Yield files in a folder of catalogues that are not in the ledger; entries of the ledger may be folders."""
    inside = (*folder.glob("dataset/_*"), *folder.glob("dataset/Norder=*/Dir=*/*"))
    for path in sorted((*(folder / name for name in names), *inside)):
        if path.relative_to(out).as_posix() in expected or path.relative_to(folder).as_posix() in {
            *METADATA,
            "dataset",
        }:
            continue
        yield from _files(path)


def _outside(out: Path) -> Iterator[Path]:
    """Yield files in ``catalogs/`` that do not lie in the folder of a night."""
    for dataset in sorted(catalogs_folder(out).glob("*")):
        for path in sorted(dataset.iterdir()) if dataset.is_dir() else (dataset,):
            if not path.name.startswith("night="):
                yield from _files(path)


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _stray(path: Path) -> Problem:
    return Problem(
        "unknown_file",
        str(path),
        "is not in the ledger.",
        "run the night again; if the file is still unknown then, remove it: nothing refers to it.",
    )


def _leftover(path: Path) -> Problem:
    return Problem("leftover", str(path), "was left unpublished by a run that was killed.", "run again: it is removed.")


def _check_tiles(path: Path, source_sha256: str | None) -> Iterator[Problem]:
    """Check every chunk against its checksum, and the attributes against the path and the ledger."""
    try:
        info = require_whole(path)
    except NightstrideError as error:
        yield _problem(error)
        return
    if (path.parent.name, path.stem) != (info.night, info.name):
        yield Problem(
            "misfiled_tiles",
            str(path),
            f"holds exposure {info.name} of night {info.night}.",
            "remove the folder and run the night again.",
        )
    elif source_sha256 not in (None, info.source_sha256):
        yield Problem(
            "stale_tiles",
            str(path),
            f"was made from a source with sha256 {info.source_sha256}, the ledger has {source_sha256}.",
            "run the exposure again with --tiles.",
        )


def _failed(trouble: Trouble) -> Problem:
    """Return the problem of a failed dataset of a night, which is missing or out of date."""
    problem, _, remedy = trouble.message.removeprefix(f"{trouble.uri}, ").partition(" To fix, ")
    return Problem(trouble.code, trouble.uri, problem, remedy or "run the night again; if it fails again, report this.")


def _problem(error: NightstrideError) -> Problem:
    return Problem(error.code, error.where, error.problem, error.remedy)
