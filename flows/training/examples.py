"""Exposures to learn from, as tiles on disk with their truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.storage.zarr_tiles import TileStore
from kernels.statistics.matching import LEAST_VISIBLE, Targets
from schemas.exposure import ExposureInfo
from schemas.pixels import UNUSABLE


@dataclass(frozen=True)
class Example:
    """One exposure: its tile store and what really is in it."""

    store: Path
    truth: pa.Table


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


def pixels(example: Example) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Return image, usable pixels and background of an example."""
    store = TileStore.open(example.store)
    usable = (store.read_all("mask") & np.uint16(UNUSABLE)) == 0
    return store.read_all("difference"), usable, store.info.background
