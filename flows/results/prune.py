"""Pruning of an output folder, and the space that it frees."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from flows.inputs.source_state import source_state
from flows.publish.outbox import opened_outbox
from flows.runtime.words import counted
from flows.storage.atomic import leftovers, remove
from flows.storage.bucket_path import BucketPath, file_sizes
from flows.storage.catalog_parts import withdraw
from flows.storage.folder import writable_folder
from flows.storage.hats import METADATA, remove_hats
from flows.storage.layout import (
    catalogs_folder,
    outbox_path,
    patch_folders,
    patch_paths,
    refuse_release,
    reports_folder,
    require_output,
    tile_path,
    tiles_folder,
)
from flows.storage.lease import require_free
from flows.storage.ledger import Ledger, unpublish
from flows.storage.night_sums import drop_provenance
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import TileStore
from schemas.errors import BadInput
from schemas.exposure import ExposureKey, key_of
from schemas.ledger import ExposureRecord, PatchRecord, QuarantineRecord
from schemas.settings import PruneSettings, Settings


@dataclass(frozen=True)
class Removal:
    """Item that may be removed.

    Attributes
    ----------
    path
        Relative to the output folder; for an exposure and a night, the location in the ledger.
    night
        Night that it belongs to; empty for leftovers.
    kind
        tiles, leftover, quarantine (the reason, which is reproducible if the file no longer exists); and, not
        reproducible: exposure (its catalogues, tiles and record), night (the published datasets of a whole night),
        report and memory (the content of its sources, and its quality).
    reproducible
        Whether it can be made again from existing files.
    why
        For tiles: whether their source still exists.
    """

    path: str
    night: str
    kind: Literal["tiles", "leftover", "exposure", "night", "quarantine", "report", "memory"]
    reproducible: bool
    why: str


def require_prunable(out: Path) -> None:
    """Raise `Misconfigured` unless ``out`` is not a release, is held by no process, and is writable."""
    refuse_release(out)
    require_free(out)
    if not isinstance(out, BucketPath):
        writable_folder(out)


def nights_to_prune(out: Path, keep: int | None, older_than: int | None, today: date) -> tuple[str, ...]:
    """Return all nights except the latest ``keep``, limited to those more than ``older_than`` days ago.

    Raises
    ------
    Misconfigured
        The folder is not an output folder.
    """
    require_output(out)
    ledger = Ledger(out)
    unusable = {one.key.night for one in Quarantine(out).list() if one.key is not None}
    nights = sorted({*ledger.remembered_nights(), *unusable, *(path.name for path in _folders(tiles_folder(out)))})
    if keep is not None:
        nights = nights[: max(0, len(nights) - keep)]
    if older_than is not None:
        oldest = today - timedelta(days=older_than)
        nights = [night for night in nights if (day := _day(night)) is not None and day < oldest]
    return tuple(nights)


def _day(night: str) -> date | None:
    try:
        return datetime.strptime(night, "%Y%m%d").date()
    except ValueError:  # not a night label
        return None


def prune_by_policy(out: Path, settings: Settings, today: date) -> "Room":
    """Remove what the settings do not keep, if it can be made again; the caller must hold the lease.

    Parameters
    ----------
    out, settings
        Output folder and settings of the run.
    today
        Date from which nights are counted back.

    Returns
    -------
    Room
        Freed files and bytes.

    Raises
    ------
    Misconfigured, Retryable
        A file cannot be removed.
    """
    policy = settings.prune
    if not policy.wanted:
        return Room()
    chosen = set[str]()
    if policy.keep_nights is not None or policy.older_than_days is not None:
        chosen |= set(nights_to_prune(out, policy.keep_nights, policy.older_than_days, today))
    chosen |= _beyond(out, policy)
    freed, ledger = Room(), Ledger(out)
    for night in sorted(chosen & {path.name for path in _folders(tiles_folder(out))}):
        for path in _folders(tiles_folder(out) / night):
            one = _tiles(path, ledger, out, settings)
            if one.reproducible:
                freed = total((freed, room_of(out, one)))
                take_out(out, [one])
    drop_provenance(ledger)
    return freed


def _beyond(out: Path, policy: PruneSettings) -> set[str]:
    """Return the earliest nights whose tiles must go to meet the limits."""
    if policy.max_gib is None and policy.max_files is None:
        return set()
    bytes_left = inf if policy.max_gib is None else policy.max_gib * 2**30
    files_left = inf if policy.max_files is None else policy.max_files
    for folder in reversed(_folders(tiles_folder(out))):
        sizes = file_sizes(folder)
        bytes_left, files_left = bytes_left - sum(sizes), files_left - len(sizes)
        if min(bytes_left, files_left) < 0:
            return {one.name for one in _folders(tiles_folder(out)) if one.name <= folder.name}
    return set()


def removals(out: Path, nights: Collection[str], settings: Settings, irreplaceable: bool) -> list[Removal]:
    """Return the items of nights that may be removed. Nothing is changed.

    Parameters
    ----------
    out, nights
        Output folder and nights.
    settings
        Settings for reading files.
    irreplaceable
        Whether to include items that cannot be made again.
    """
    found = [Removal(_relative(path, out), "", "leftover", True, "left by a killed run") for path in leftovers(out)]
    ledger, quarantine = Ledger(out), Quarantine(out)
    for put in quarantine.gone():
        path, why = _relative(quarantine.path(put.source_uri), out), f"{put.source_uri} is not there any more"
        found.append(Removal(path, put.key.night if put.key else "", "quarantine", True, why))
    for night in sorted(nights):
        tiles = [_tiles(path, ledger, out, settings) for path in _folders(tiles_folder(out) / night)]
        if irreplaceable:
            records = list(ledger.records(night))
            listed = {one.path for one in found}
            found += (one for one in _all_of(out, night, records) if one.path not in listed)
            covered = {_relative(tile_path(out, record.key), out) for record in records}
            tiles = [one for one in tiles if one.path not in covered]
        found += [one for one in tiles if one.reproducible or irreplaceable]
    return found


def kept_tiles(out: Path, nights: Collection[str], settings: Settings) -> list[Removal]:
    """Return the tiles of nights that cannot be made again."""
    found, ledger = [], Ledger(out)
    for night in sorted(nights):
        found += [_tiles(path, ledger, out, settings) for path in _folders(tiles_folder(out) / night)]
    return [one for one in found if not one.reproducible]


def take_out(out: Path, chosen: Sequence[Removal]) -> None:
    """Remove the listed items; the caller must hold the lease, which has already removed the leftovers.

    Items are removed one after another, each in one step or with its record last. So a killed prune leaves a
    consistent folder, and the next prune finishes the work.
    """
    ledger = Ledger(out)
    # Removed together, so that a part with several of them is rewritten once.
    keys = (_key(one) for one in chosen if one.kind == "exposure")
    records = (record for key in keys if (record := ledger.get(key)) is not None)
    withdraw(out / entry.path for record in records for entry in record.datasets.values())
    for one in chosen:
        if one.kind == "exposure":
            if (record := ledger.get(_key(one))) is not None:
                unpublish(record, out)
        elif one.kind == "night":
            whole = ledger.night(one.night)
            for entry in whole.datasets.values() if whole is not None else ():
                remove(out / entry.path)
            for folder in patch_folders(out, one.night):
                remove(folder)
                remove_hats(folder.parent)
            for patch in [found for found in ledger.patches(one.night) if isinstance(found, PatchRecord)]:
                ledger.remove_patch(patch.key)
            ledger.remove_night(one.night)
        elif one.kind == "memory":
            ledger.remove_quality(one.night)
            ledger.forget(one.night)
            _forget_alerts(out, one.night)
            _remove_empty(out, one.night)
        elif one.kind == "quarantine":
            _remove_reason(out / one.path, ledger)
        elif one.kind in ("tiles", "report"):
            remove(out / one.path)
    for night in {one.night for one in chosen if one.kind == "tiles"}:
        _remove_empty(out, night)
    if any(one.kind in ("exposure", "night", "memory", "quarantine") for one in chosen):
        drop_provenance(ledger)


def _remove_reason(path: Path, ledger: Ledger) -> None:
    """Remove the verdict of a quarantine in the ledger, and then its reason."""
    with suppress(FileNotFoundError, ValidationError):
        put = QuarantineRecord.model_validate_json(path.read_bytes())
        record = None if put.key is None else ledger.get(put.key)
        if record is not None and (record.status, record.source_uri) == ("quarantined", put.source_uri):
            ledger.remove(record.key)
    remove(path)


def _forget_alerts(out: Path, night: str) -> None:
    """Remove the records of sent alerts of a night, which cannot be made again."""
    path = outbox_path(out)
    if not isinstance(path, BucketPath) and path.is_file():
        with opened_outbox(out) as outbox:
            outbox.forget(night)


def _remove_empty(out: Path, night: str) -> None:
    """Remove the empty folders of a night."""
    if not isinstance(out, BucketPath):
        for folder in (tiles_folder(out) / night, *catalogs_folder(out).glob(f"*/night={night}")):
            with suppress(OSError):
                folder.rmdir()


def _all_of(out: Path, night: str, records: Sequence[ExposureRecord]) -> Iterator[Removal]:
    ledger, quarantine = Ledger(out), Quarantine(out)
    if ledger.night(night) is not None:
        yield Removal(f"ledger/{night}", night, "night", False, "published of the whole night")
    for record in records:
        tiles = ", with its tiles" if tile_path(out, record.key).exists() else ""
        why = f"{'published' if record.datasets else 'the record'} of {record.source_uri}{tiles}"
        yield Removal(f"ledger/{night}/{record.name}", night, "exposure", False, why)
    for put in quarantine.list():
        if put.key is not None and put.key.night == night:
            path = _relative(quarantine.path(put.source_uri), out)
            yield Removal(path, night, "quarantine", False, f"reason why {put.source_uri} cannot be used")
    if (reports_folder(out) / night).is_dir():
        yield Removal(f"reports/{night}", night, "report", False, "the night page")
    if night in ledger.remembered_nights():
        yield Removal(f"ledger/{night}/memory", night, "memory", False, "what its sources held, and its quality")


def _tiles(path: Path, ledger: Ledger, out: Path, settings: Settings) -> Removal:
    """Return the removal of a tile store, which is reproducible if its source file still has the same bytes."""
    record = None
    with suppress(ValueError):  # not the name of an exposure
        record = ledger.get(key_of(path.parent.name, path.stem))
    if record is not None and record.status == "done":
        state = source_state(record.source_uri, record.source_sha256, settings, record.source_stat, record.source_files)
        why = f"{record.source_uri} is {state}"
    else:
        try:
            info = TileStore.open(path).info
            state = source_state(info.source_uri, info.source_sha256, settings)
            why = f"{info.source_uri} is {state}"
        except BadInput:
            state, why = "unreachable", "says not what it was made from"
    return Removal(_relative(path, out), path.parent.name, "tiles", state == "unchanged", why)


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if not one.name.startswith(".")) if path.is_dir() else []


def _relative(path: Path, out: Path) -> str:
    return path.relative_to(out).as_posix()


@dataclass(frozen=True)
class Room:
    """Numbers of files and bytes."""

    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{counted(self.files, 'file')}, {self.bytes / 1e6:,.1f} MB"


def room_of(out: Path, removal: Removal) -> Room:
    """Return the numbers of files and bytes of a removal. Nothing is changed."""
    sizes = [size for path in _paths(out, removal) for size in file_sizes(path)]
    return Room(len(sizes), sum(sizes))


def total(rooms: Iterable[Room]) -> Room:
    """Return the sum."""
    listed = list(rooms)
    return Room(sum(room.files for room in listed), sum(room.bytes for room in listed))


def _paths(out: Path, removal: Removal) -> Iterator[Path]:
    ledger = Ledger(out)
    if removal.kind == "exposure":
        if (record := ledger.get(_key(removal))) is not None:
            yield from (out / one.path for one in record.datasets.values())
            yield tile_path(out, record.key)
    elif removal.kind == "night":
        if (night := ledger.night(removal.night)) is not None:
            yield from (out / one.path for one in night.datasets.values())
            yield from patch_paths(out, removal.night)
            yield from (folder.parent / name for folder in patch_folders(out, removal.night) for name in METADATA)
    else:
        yield out / removal.path


def _key(removal: Removal) -> ExposureKey:
    return key_of(removal.night, removal.path.rsplit("/", 1)[1])
