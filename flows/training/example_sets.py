"""Sets of simulated exposures to learn from."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.inputs.sources import list_sources
from flows.runtime.parallel import map_in_processes
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import crowded, find_preset
from flows.storage.zarr_tiles import write_exposure
from flows.training.examples import Example
from schemas.errors import Misconfigured
from schemas.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """Exposures to simulate.

    Attributes
    ----------
    preset, count
        What they are like, and how many.
    streaks, shape
        If not the preset's: streaks on each, and (ny, nx), px.
    crowding
        How many times the preset's stars, cosmic rays and defects they have.
    """

    preset: str
    count: int
    streaks: int | None = None
    shape: tuple[int, int] | None = None
    crowding: float = 1.0


def make_examples(folder: Path, wanted: Wanted, seed: int, workers: int) -> list[Example]:
    """Simulate exposures of different fields and cut them into tiles, through the archive's file format.

    Parameters
    ----------
    folder
        Where to put them. What is complete there already is used as it is.
    wanted
        How many of what. They are detectors of one visit: fields do not repeat.
    seed
        Of the simulation.
    workers
        Processes.

    Raises
    ------
    Misconfigured
        What is there was made for another plan or by an earlier version.
    """
    raw, done = folder / "raw", folder / "done"
    asked = json.dumps(asdict(wanted) | {"seed": seed})
    if done.exists():
        if done.read_text() != asked:
            raise Misconfigured(
                "other_exposures",
                str(folder),
                f"holds other exposures than {asked}, or some that an earlier version made.",
                "remove it, or name another --work folder.",
            )
    else:
        preset = crowded(find_preset(wanted.preset, wanted.streaks, wanted.shape), wanted.crowding)
        simulate_night(SimulatedNight(preset, seed, visits=1, detectors=wanted.count, folder=raw), workers)
    truth = pq.read_table(raw / "truth.parquet")
    sources = list_sources([str(raw)], Settings())
    examples = as_tiles(folder, sources, truth, workers)
    done.write_text(asked)
    return examples


def as_tiles(folder: Path, sources: Iterable[Source], truth: pa.Table, workers: int) -> list[Example]:
    """Cut exposures into tiles, kept where they are there already, and give each its part of the truth."""
    stores = map_in_processes(partial(_tile, folder), sources, workers)
    return [
        Example(path, truth.filter((pc.field("visit") == visit) & (pc.field("detector") == detector)))
        for path, visit, detector in stores
    ]


def make_sets(
    folder: Path, wanted: Sequence[Wanted], seed: int, workers: int, say: Callable[[str], None]
) -> list[Example]:
    """Make the exposures of several presets, each in a folder and with a seed of its own; tell of each preset."""
    found = []
    for n, part in enumerate(wanted):
        say(f"{folder.name}: {part.count} exposures like {part.preset}")
        found += make_examples(folder / f"{n}-{part.preset}", part, seed + n, workers)
    return found


def _tile(folder: Path, source: Source) -> tuple[Path, int, int]:
    settings = Settings()
    key = probe(source, settings)
    path = folder / f"{key.name}.zarr"
    if not path.exists():
        write_exposure(path, *prepare(source, settings), settings.tiles, "training")
    return path, key.visit, key.detector
