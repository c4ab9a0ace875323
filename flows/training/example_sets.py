"""Sets of simulated exposures to learn from."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq

from flows.inputs.sources import list_sources
from flows.pipeline.lineage import INGEST_VERSION
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import crowded, find_preset
from flows.storage.writing import writing
from flows.training.examples import WORK_IS_FULL, Example, Wanted, as_tiles
from schemas.errors import Misconfigured
from schemas.settings import Settings


def make_examples(folder: Path, wanted: Wanted, seed: int, workers: int) -> list[Example]:
    """Simulate exposures of different fields in the archive's file format, and cut them into tiles.

    Parameters
    ----------
    folder
        Folder for them; complete ones are reused.
    wanted
        Kind and number of exposures. They are detectors of one visit, so fields do not repeat.
    seed
        Seed of the simulation.
    workers
        Number of processes.

    Raises
    ------
    Misconfigured
        The folder was made, even in part, for another plan or by an earlier version.
    """
    raw, begun, done = folder / "raw", folder / "begun", folder / "done"
    asked = json.dumps(asdict(wanted) | {"seed": seed, "ingest": INGEST_VERSION})
    if any(one.exists() and one.read_text() != asked for one in (begun, done)):
        raise Misconfigured(
            "other_exposures",
            str(folder),
            f"holds other exposures than {asked}, or some that an earlier version made.",
            "remove it, or name another --work folder.",
        )
    if not done.exists():
        with writing(folder, WORK_IS_FULL):
            folder.mkdir(parents=True, exist_ok=True)
            begun.write_text(asked)  # so an interrupted simulation is known to be of this plan
        preset = crowded(
            find_preset(wanted.preset, wanted.streaks, wanted.shape, subtract=wanted.subtract), wanted.crowding
        )
        own = {name: getattr(wanted, name) for name in ("lengths", "smoothing", "islands")}
        preset = replace(preset, **{name: value for name, value in own.items() if value is not None})
        simulate_night(SimulatedNight(preset, seed, visits=1, detectors=wanted.count, folder=raw), workers)
    truth = pq.read_table(raw / "truth.parquet")
    sources = list_sources([str(raw)], Settings())
    examples = as_tiles(folder, sources, truth, workers, wanted.sky)
    with writing(folder, WORK_IS_FULL):
        done.write_text(asked)
    return examples


def make_sets(
    folder: Path, wanted: Sequence[Wanted], seed: int, workers: int, say: Callable[[str], None]
) -> list[Example]:
    """Make the exposures of several presets, each with its own folder and seed, and report each preset."""
    found = []
    for n, part in enumerate(wanted):
        say(f"{folder.name}: {part.count} exposures like {part.sky}")
        found += make_examples(folder / f"{n}-{part.sky}", part, seed + n, workers)
    return found
