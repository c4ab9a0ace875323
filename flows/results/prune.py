"""Pruning of an output folder, and the space that it frees."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from flows.inputs.source_state import source_state
from flows.storage.atomic import leftovers, remove
from flows.storage.bucket_path import file_sizes
from flows.storage.layout import require_output, tile_path
from flows.storage.ledger import Ledger, load, load_night, unpublish
from flows.storage.quarantine import Quarantine
from flows.storage.zarr_tiles import TileStore
from schemas.errors import BadInput
from schemas.ledger import ExposureRecord
from schemas.settings import Settings


@dataclass(frozen=True)
class Removal:
    """Item that may be removed.

    Attributes
    ----------
    path
        Relative to the output folder.
    night
        Night that it belongs to; empty for leftovers.
    kind
        tiles, leftover; and of those that cannot be made again exposure (its catalogues, tiles and record), night (what
        is published of a whole night), quarantine and report.
    reproducible
        Whether it can be made again from what is there.
    why
        Of tiles: whether their source is still there.
    """

    path: str
    night: str
    kind: Literal["tiles", "leftover", "exposure", "night", "quarantine", "report"]
    reproducible: bool
    why: str


def nights_to_prune(out: Path, keep: int | None, older_than: int | None, today: date) -> tuple[str, ...]:
    """Choose nights: all but the latest ``keep``, and of these those that are more than ``older_than`` days ago.

    Raises
    ------
    Misconfigured
        It is not an output folder.
    """
    require_output(out)
    labels = {path.parent.name for path in Ledger(out).files()}
    labels |= {path.stem for path in Ledger(out).night_files()} | {path.name for path in _folders(out / "tiles")}
    nights = sorted(labels)
    if keep is not None:
        nights = nights[: max(0, len(nights) - keep)]
    if older_than is not None:
        oldest = today - timedelta(days=older_than)
        nights = [night for night in nights if datetime.strptime(night, "%Y%m%d").date() < oldest]
    return tuple(nights)


def removals(out: Path, nights: Collection[str], settings: Settings, irreplaceable: bool) -> list[Removal]:
    """List what may be removed of some nights. Nothing is changed.

    Parameters
    ----------
    out, nights
        Output folder, and which nights.
    settings
        With which files are read.
    irreplaceable
        Whether to list what cannot be made again, too.
    """
    found = [Removal(_relative(path, out), "", "leftover", True, "left by a killed run") for path in leftovers(out)]
    for night in sorted(nights):
        records = Ledger(out).records(night)
        tiles = [_tiles(path, records, out, settings) for path in _folders(out / "tiles" / night)]
        if irreplaceable:
            found += _all_of(out, night, records)
            covered = {_relative(tile_path(out, record.key), out) for record in records}
            tiles = [one for one in tiles if one.path not in covered]
        found += [one for one in tiles if one.reproducible or irreplaceable]
    return found


def kept_tiles(out: Path, nights: Collection[str], settings: Settings) -> list[Removal]:
    """List the tiles of some nights that cannot be made again."""
    found = []
    for night in sorted(nights):
        records = Ledger(out).records(night)
        found += [_tiles(path, records, out, settings) for path in _folders(out / "tiles" / night)]
    return [one for one in found if not one.reproducible]


def take_out(out: Path, chosen: Sequence[Removal]) -> None:
    """Remove what was listed; the caller holds the lease, which has removed the leftovers.

    One thing after the other, each in one step or with its record last: a killed prune leaves a folder that is true,
    and is finished by the next.
    """
    ledger, quarantine = Ledger(out), Quarantine(out)
    for one in chosen:
        if one.kind == "exposure":
            for record in ledger.records(one.night):
                if _relative(ledger.path(record.key), out) == one.path:
                    unpublish(record, out)
        elif one.kind == "night":
            whole = ledger.night(one.night)
            for entry in whole.datasets.values() if whole is not None else ():
                remove(out / entry.path)
            ledger.remove_night(one.night)
        elif one.kind == "quarantine":
            for put in quarantine.list():
                if put.key is not None and _relative(quarantine.path(put.source_uri), out) == one.path:
                    quarantine.clear(put.source_uri)
        elif one.kind in ("tiles", "report"):
            remove(out / one.path)


def _all_of(out: Path, night: str, records: Sequence[ExposureRecord]) -> Iterator[Removal]:
    ledger, quarantine = Ledger(out), Quarantine(out)
    if ledger.night(night) is not None:
        path = _relative(ledger.night_path(night), out)
        yield Removal(path, night, "night", False, "published of the whole night")
    for record in records:
        path = _relative(ledger.path(record.key), out)
        yield Removal(path, night, "exposure", False, f"published of {record.source_uri}, with its tiles")
    for put in quarantine.list():
        if put.key is not None and put.key.night == night:
            path = _relative(quarantine.path(put.source_uri), out)
            yield Removal(path, night, "quarantine", False, f"reason why {put.source_uri} cannot be used")
    if (out / "reports" / night).is_dir():
        yield Removal(f"reports/{night}", night, "report", False, "the night page")


def _tiles(path: Path, records: Sequence[ExposureRecord], out: Path, settings: Settings) -> Removal:
    """Judge a tile store: it is reproducible if the file that it was made from still has the same bytes."""
    record = next((one for one in records if one.name == path.stem and one.status == "done"), None)
    if record is not None:
        state = source_state(record.source_uri, record.source_sha256, settings, record.source_stat)
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
    """Files, and the bytes in them."""

    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.files:,} files, {self.bytes / 1e6:,.1f} MB"


def room_of(out: Path, removal: Removal) -> Room:
    """Count the files that go with a removal, and their bytes. Nothing is changed."""
    sizes = [size for path in _paths(out, removal) for size in file_sizes(path)]
    return Room(len(sizes), sum(sizes))


def total(rooms: Iterable[Room]) -> Room:
    """Add up."""
    listed = list(rooms)
    return Room(sum(room.files for room in listed), sum(room.bytes for room in listed))


def _paths(out: Path, removal: Removal) -> Iterator[Path]:
    path = out / removal.path
    yield path
    if removal.kind == "exposure":
        record = load(path)
        yield from (out / one.path for one in record.datasets.values())
        yield tile_path(out, record.key)
    elif removal.kind == "night":
        yield from (out / one.path for one in load_night(path).datasets.values())
