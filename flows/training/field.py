"""One exposure as a network learns from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.adapters.zarr_tiles import TileStore
from flows.training.candidates import targets_of
from flows.training.examples import Example
from kernels.matching import LEAST_VISIBLE, Targets
from schemas.exposure import ExposureInfo
from schemas.mask import UNUSABLE

_BRIGHT_ENOUGH = 4.2  # S/N: fainter ones teach only doubt


@dataclass(frozen=True)
class Field:
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


def open_field(example: Example) -> Field:
    """Map the pixels of an example; they are unpacked beside its tiles the first time."""
    store = TileStore.open(example.store)
    paths = [example.store.with_suffix(f".{name}.npy") for name in ("pixels", "usable")]
    if not paths[1].exists():
        np.save(paths[0], store.read_all("difference"))
        np.save(paths[1], (store.read_all("mask") & np.uint16(UNUSABLE)) == 0)
    pixels, usable = (np.load(path, mmap_mode="r") for path in paths)
    targets, snr = targets_of(example.truth), example.truth["snr"].to_numpy().astype(np.float64)
    return Field(example.store.stem, store.info, pixels, usable, targets, snr)
