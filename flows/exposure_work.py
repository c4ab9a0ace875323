"""All that one exposure takes, on one worker: the way through a cluster with the fewest messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.adapters.sources import Source
from flows.admission import Admission, require_running
from flows.exposure_tasks import Published, Searched, Stored, finish, search, store, tile_path
from flows.graph import Graph
from flows.outcome import total_seconds
from flows.search_grid import search_grid
from flows.up_to_date import remaining, up_to_date
from schemas.cause_count import CauseCount
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.ledger import DatasetRecord, ExposureRecord
from schemas.settings import Settings
from schemas.tiles import Tile


@dataclass(frozen=True)
class Left:
    """What is left to do of a stored exposure.

    Attributes
    ----------
    kept
        Published files that stay as they are.
    graph
        Stages that have to run.
    tiles
        To be searched: all of the exposure's, or none.
    """

    kept: Mapping[str, DatasetRecord]
    graph: Graph
    tiles: tuple[Tile, ...]

    @property
    def windows(self) -> int:
        """Windows of the tiles."""
        return sum(tile.rows * tile.columns for tile in self.tiles)


@dataclass(frozen=True)
class Worked:
    """An exposure that is done, and what that took.

    Attributes
    ----------
    stored, datasets
        Its tiles, and its published files.
    windows, unscored
        Windows searched now, and those of them that could not be scored.
    searched
        Whether there was anything to search for: what was found before may have been kept.
    causes
        Known cause of false streaks -> candidates that had it.
    seconds
        Stage -> worker time, s.
    not_run
        Stage -> why it had nothing to work on.
    """

    stored: Stored
    datasets: Mapping[str, DatasetRecord]
    windows: int
    unscored: int
    searched: bool
    causes: Mapping[str, CauseCount]
    seconds: Mapping[str, float]
    not_run: Mapping[str, str]


def work(
    source: Source,
    key: ExposureKey,
    sha256: str | None,
    record: ExposureRecord | None,
    out: Path,
    settings: Settings,
    terms: Admission | None = None,
) -> Worked:
    """Store an exposure, search its tiles, measure and publish.

    Parameters
    ----------
    source, key, sha256
        As of `flows.exposure_tasks.store`.
    record
        What the ledger holds of it.
    out, settings
        Of the run.
    terms
        Of the run, if its workers may outlive it: nothing is published once it is over.

    Raises
    ------
    BadInput, Retryable
        As the tasks of `flows.exposure_tasks` do; Retryable: the run is over.
    """
    stored = store(source, key, sha256, out, settings)
    left = left_of(stored, record, out, settings)
    path = tile_path(out, key)
    searched = [search(path, left.tiles, settings)] if left.tiles else []
    if terms is not None:
        require_running(terms)
    published = finish(path, searched, stored.lineage, out, settings, left.kept, ())
    return worked(stored, record, left, searched, [published])


def left_of(stored: Stored, record: ExposureRecord | None, out: Path, settings: Settings) -> Left:
    """Say what is left to do, given what the ledger holds of an exposure."""
    kept = up_to_date(record, stored.lineage, out)
    graph = remaining(("difference", "mask", *stored.info.planes), kept)
    tiling = search_grid(settings.detect).tiling(stored.info.shape, settings.tiles.tile)
    return Left(kept, graph, tiling.tiles() if graph.at("tile") else ())


def worked(
    stored: Stored, record: ExposureRecord | None, left: Left, searched: Sequence[Searched], steps: Sequence[Published]
) -> Worked:
    """Add up what was done of an exposure: the last step of publishing knows all files, the first the causes."""
    kept = record is not None and DIA_SOURCE.name in left.kept
    return Worked(
        stored,
        steps[-1].datasets,
        windows=sum(one.windows for one in searched),
        unscored=sum(one.unscored for one in searched),
        searched=bool(left.graph.at("tile")),
        causes=record.causes if record is not None and kept else steps[0].causes,
        seconds=total_seconds([stored.seconds, *(one.seconds for one in searched), *(one.seconds for one in steps)]),
        not_run=dict(left.graph.not_run),
    )
