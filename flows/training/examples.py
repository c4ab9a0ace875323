"""Exposures to learn from, as tiles on disk with their truth."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.runtime.parallel import map_in_processes
from flows.storage.writing import replacing, writing
from flows.storage.zarr_tiles import TileStore, write_exposure
from kernels.image.variation import evened
from kernels.statistics.matching import LEAST_VISIBLE, Targets
from schemas.exposure import ExposureInfo
from schemas.pixels import UNUSABLE
from schemas.settings import Settings


@dataclass(frozen=True)
class Example:
    """Exposure: its tile store, its true sources, and the name of its sky (`Wanted.sky`)."""

    store: Path
    truth: pa.Table
    sky: str = ""


def truth_targets(truth: pa.Table) -> Targets:
    """Return the targets for `match_detections` from a `TRUTH` table of one exposure."""
    columns = (truth[name].to_numpy().astype(np.float64) for name in ("x", "y", "length_px", "angle_deg", "visible"))
    return Targets(np.array(truth["kind"].to_pylist(), dtype=np.str_), *columns)


WORK_IS_FULL = "free space there or choose another --work, and run again: it goes on where it stopped."
"""Remedy if the disk with simulated exposures is full."""

BRIGHT_ENOUGH = 4.2
"""Minimum S/N of sources to learn from: fainter ones only teach doubt."""


@dataclass(frozen=True)
class TrainingField:
    """Pixels of an exposure, mapped from disk, and its sources.

    Attributes
    ----------
    name
        Name of the exposure.
    info
        Its metadata: noise, PSF, gain.
    pixels : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Usable pixels.
    targets, snr
        Sources; their matched-filter S/N, negative for a source fainter than on the template.
    """

    name: str
    info: ExposureInfo
    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    targets: Targets
    snr: NDArray[np.float64]

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """Return which sources the network should find, (sources,)."""
        clear = (self.targets.visible >= LEAST_VISIBLE) & (self.snr >= BRIGHT_ENOUGH)
        return (self.targets.kind == "streak") & clear

    @property
    def dark(self) -> NDArray[np.bool_]:
        """Return which sources are dark in the image and not to be found, (sources,)."""
        return self.snr < 0


def open_field(example: Example) -> TrainingField:
    """Map the pixels of an example, which are unpacked beside its tiles on first use."""
    store = TileStore.open(example.store)
    paths = [example.store.with_suffix(f".{name}.npy") for name in ("pixels", "usable")]
    if not paths[1].exists():
        with writing(example.store, WORK_IS_FULL):
            _save(paths[0], _searched(store))
            _save(paths[1], (store.read_all("mask") & np.uint16(UNUSABLE)) == 0)
    pixels, usable = (np.load(path, mmap_mode="r") for path in paths)
    targets, snr = truth_targets(example.truth), example.truth["snr"].to_numpy().astype(np.float64)
    return TrainingField(example.store.stem, store.info, pixels, usable, targets, snr)


def _save(path: Path, plane: NDArray[np.generic]) -> None:
    """Write a plane completely or not at all, so that a full disk leaves no partial file."""
    with replacing(path) as staged, staged.open("wb") as file:
        np.save(file, plane)


def pixels(example: Example) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Return image, usable pixels and background of an example."""
    store = TileStore.open(example.store)
    usable = (store.read_all("mask") & np.uint16(UNUSABLE)) == 0
    return _searched(store), usable, store.info.background


def _searched(store: TileStore) -> NDArray[np.float32]:
    """Return the image as the search sees it."""
    return evened(store.read_all("difference"), store.info.background, store.info.noise_variation)


@dataclass(frozen=True)
class Wanted:
    """Exposures to simulate.

    Attributes
    ----------
    preset, count
        Preset, and number of exposures.
    streaks, shape
        Streaks per image, and (ny, nx), px, if not the preset's.
    crowding
        Factor on the preset's stars, cosmic rays and defects.
    subtract
        How difference images are made: one of `flows.simulation.presets.SUBTRACTIONS`.
    lengths, smoothing
        Ranges, if not the preset's, of the trail lengths, px, log-uniform; and of the side tap of the kernel that
        smooths the noise, or makes neighbours negatively correlated if it is negative.
    islands
        Side of unmasked squares, px, like the stamps of alerts; None: whole images.
    """

    preset: str
    count: int
    streaks: int | None = None
    shape: tuple[int, int] | None = None
    crowding: float = 1.0
    subtract: str = "none"
    lengths: tuple[float, float] | None = None
    smoothing: tuple[float, float] | None = None
    islands: int | None = None

    @property
    def sky(self) -> str:
        """Return the name of their sky: preset and subtraction."""
        return self.preset if self.subtract == "none" else f"{self.preset}-{self.subtract}"


def as_tiles(folder: Path, sources: Iterable[Source], truth: pa.Table, workers: int, sky: str) -> list[Example]:
    """Cut exposures into tiles, keeping existing ones, and give each its part of the truth."""
    stores = map_in_processes(partial(_tile, folder), sources, workers)
    return [
        Example(path, truth.filter((pc.field("visit") == visit) & (pc.field("detector") == detector)), sky)
        for path, visit, detector in stores
    ]


def _tile(folder: Path, source: Source) -> tuple[Path, int, int]:
    settings = Settings()
    key = probe(source, settings)
    path = folder / f"{key.name}.zarr"
    if not path.exists():
        write_exposure(path, *prepare(source, settings), settings.tiles, "training")
    return path, key.visit, key.detector
