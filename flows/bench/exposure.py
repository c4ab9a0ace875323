"""The simulated exposure that searches are timed on."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.adapters.sources import list_sources
from flows.bench.pixels import Pixels
from flows.ingest import prepare
from flows.simulation.night import Night, simulate_night
from flows.simulation.presets import find_preset
from schemas.exposure import ExposureInfo
from schemas.settings import Settings


@dataclass(frozen=True)
class BenchExposure:
    """An exposure as a worker gets it: read from the archive's own format, checked, its noise measured.

    Attributes
    ----------
    info
        Its metadata.
    difference, mask : (ny, nx) float32 and uint16
        Its pixels.
    """

    info: ExposureInfo
    difference: NDArray[np.float32]
    mask: NDArray[np.uint16]

    @property
    def pixels(self) -> Pixels:
        """What a search is given."""
        return Pixels.of(self.info, self.difference, self.mask)


def bench_exposure(shape: tuple[int, int] | None = None, seed: int = 11, preset: str = "ztf") -> BenchExposure:
    """Simulate one exposure and read it.

    Parameters
    ----------
    shape
        (ny, nx), px; by default the camera's, 3080 x 3072 for ztf.
    seed, preset
        Of the simulation.

    Raises
    ------
    Misconfigured
        The camera has no such size, or there is no such preset.
    """
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as scratch:
        simulate_night(Night(find_preset(preset, shape=shape), seed, 1, 1, Path(scratch), science=False))
        (source,) = list_sources([scratch], settings)
        info, planes = prepare(source, settings)
    return BenchExposure(info, planes["difference"], planes["mask"])
