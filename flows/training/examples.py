"""Exposures to learn from, as tiles on disk with their truth."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.inputs.sources import list_sources
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import crowded, find_preset
from flows.storage.zarr_tiles import TileStore, write_exposure
from kernels.statistics.matching import LEAST_VISIBLE, Targets
from schemas.errors import Misconfigured
from schemas.exposure import ExposureInfo
from schemas.pixels import UNUSABLE
from schemas.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")


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


@dataclass(frozen=True)
class Example:
    """One exposure: its tile store and what really is in it."""

    store: Path
    truth: pa.Table


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


def map_in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Apply ``function`` in ``workers`` processes of one thread each; results in the order of the items.

    One worker is this process: a new one takes seconds to import what it needs.
    """
    if workers == 1:
        with single_thread():
            yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(function, items)


@contextmanager
def single_thread() -> Iterator[None]:
    """Keep numba and torch to one thread, and give them theirs back."""
    import numba
    import torch

    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


def _one_thread() -> None:
    import numba
    import torch

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    numba.set_num_threads(1)
    torch.set_num_threads(1)


def _tile(folder: Path, source: Source) -> tuple[Path, int, int]:
    settings = Settings()
    key = probe(source, settings)
    path = folder / f"{key.name}.zarr"
    if not path.exists():
        write_exposure(path, *prepare(source, settings), settings.tiles, "training")
    return path, key.visit, key.detector


def truth_targets(truth: pa.Table) -> Targets:
    """Take what `match_detections` needs from a `TRUTH` table of one exposure."""
    columns = (truth[name].to_numpy().astype(np.float64) for name in ("x", "y", "length_px", "angle_deg", "visible"))
    return Targets(np.array(truth["kind"].to_pylist(), dtype=np.str_), *columns)


_BRIGHT_ENOUGH = 4.2  # S/N: fainter ones teach only doubt


@dataclass(frozen=True)
class TrainingField:
    """Pixels of an exposure, mapped from disk, and what is on it.

    Attributes
    ----------
    name
        Of the exposure.
    info
        Its noise, PSF and gain.
    pixels : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Pixels that count.
    targets, snr
        Sources; their matched-filter S/N, negative for one that is fainter than on the template.
    """

    name: str
    info: ExposureInfo
    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    targets: Targets
    snr: NDArray[np.float64]

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """Sources that the network should find, (sources,)."""
        clear = (self.targets.visible >= LEAST_VISIBLE) & (self.snr >= _BRIGHT_ENOUGH)
        return (self.targets.kind == "streak") & clear

    @property
    def dark(self) -> NDArray[np.bool_]:
        """Sources that are holes in the image: nothing to be found, (sources,)."""
        return self.snr < 0


def open_field(example: Example) -> TrainingField:
    """Map the pixels of an example; they are unpacked beside its tiles the first time."""
    store = TileStore.open(example.store)
    paths = [example.store.with_suffix(f".{name}.npy") for name in ("pixels", "usable")]
    if not paths[1].exists():
        np.save(paths[0], store.read_all("difference"))
        np.save(paths[1], (store.read_all("mask") & np.uint16(UNUSABLE)) == 0)
    pixels, usable = (np.load(path, mmap_mode="r") for path in paths)
    targets, snr = truth_targets(example.truth), example.truth["snr"].to_numpy().astype(np.float64)
    return TrainingField(example.store.stem, store.info, pixels, usable, targets, snr)
