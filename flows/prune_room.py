"""How much room it makes to remove something from an output folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.adapters.bucket_path import file_sizes
from flows.adapters.ledger import load, load_night
from flows.exposure_tasks import tile_path
from flows.prune import Removal


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
