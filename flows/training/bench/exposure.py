"""What searches are timed on, and how."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from flows.inputs.ingest import prepare
from flows.inputs.sources import list_sources
from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import search_pixels
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from kernels.nets.basic_cnn import BasicCnn
from kernels.search.detector import WindowScorer
from schemas.dia_source import DIA_SOURCE, HIT
from schemas.exposure import ExposureInfo
from schemas.model_card import ModelCard
from schemas.pixels import UNUSABLE, Tiling
from schemas.settings import DetectSettings, Settings


@dataclass(frozen=True)
class Pixels:
    """An image to be searched.

    Attributes
    ----------
    image : (bands, ny, nx) float32
        Finite.
    usable : (ny, nx) bool
        Pixels that count.
    background
        What stands in for those that do not.
    side, stride
        Of the windows, px.
    """

    image: NDArray[np.float32]
    usable: NDArray[np.bool_]
    background: float
    side: int = 26
    stride: int = 7

    @classmethod
    def of(cls, info: ExposureInfo, image: NDArray[np.float32], mask: NDArray[np.uint16]) -> "Pixels":
        """Return the pixels of an exposure with one band."""
        usable = np.ascontiguousarray((mask & np.uint16(UNUSABLE)) == 0)
        return cls(np.ascontiguousarray(image[None]), usable, info.background)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        return Tiling(self.usable.shape, self.stride, self.side, self.stride).grid


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
    def planes(self) -> dict[str, NDArray[Any]]:
        """Its pixels by name, as stages get them."""
        return {"difference": self.difference, "mask": self.mask}

    @property
    def pixels(self) -> Pixels:
        """What a search is given."""
        return Pixels.of(self.info, self.difference, self.mask)


def bench_exposure(shape: tuple[int, int] | None = None, seed: int = 11) -> BenchExposure:
    """Simulate one exposure and read it.

    Parameters
    ----------
    shape
        (ny, nx), px; by default the camera's, 3080 x 3072 for ztf.
    seed
        Of the simulation.

    Raises
    ------
    Misconfigured
        The camera has no such size.
    """
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as scratch:
        simulate_night(SimulatedNight(find_preset("ztf", shape=shape), seed, 1, 1, Path(scratch), science=False))
        (source,) = list_sources([scratch], settings)
        info, planes = prepare(source, settings)
    return BenchExposure(info, planes["difference"], planes["mask"])


def catalogue_of(exposure: BenchExposure, logits: NDArray[np.float32], threshold: float) -> pa.Table:
    """Merge and measure the windows that reach a threshold, with the settings' defaults and the verdict of `basic_cnn`.

    Parameters
    ----------
    exposure
        What was searched.
    logits : (windows,) float32
        In order of its grid.
    threshold
        Log odds from which a window is a hit.

    Returns
    -------
    pyarrow.Table
        `dia_source`.
    """
    settings = Settings(detect=DetectSettings(model="basic_cnn"))
    hits = hits_of(logits, exposure.pixels.grid[1], threshold)
    return search_pixels(exposure.planes, exposure.info, settings, given={"hit": hits})[DIA_SOURCE.name]


def hits_of(logits: NDArray[np.float32], columns: int, threshold: float) -> pa.Table:
    """Return the windows that reach a threshold as a table of `HIT`."""
    hit = np.flatnonzero(logits >= threshold)
    row, column = np.divmod(hit, columns)
    return pa.table(
        {"row": row.astype(np.int32), "column": column.astype(np.int32), "logit": logits[hit]}, schema=HIT.schema
    )


def shipped_net() -> tuple[BasicCnn, ModelCard]:
    """Return the network, in evaluation mode on the processor, and its card."""
    scorer = load_model("detect", "basic_cnn")
    assert isinstance(scorer, WindowScorer)
    assert isinstance(scorer.net, BasicCnn)
    return scorer.net, scorer.card


def use_threads(wanted: int) -> int:
    """Let torch and numba use ``wanted`` threads, as far as numba was started with so many; give the number used."""
    used = min(wanted, int(numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(used)
    numba.set_num_threads(used)
    return used


@dataclass(frozen=True)
class Timed:
    """Seconds of each round, by name, and what the last round gave."""

    rounds: Mapping[str, tuple[float, ...]]
    results: Mapping[str, Any]

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds by name."""
        return {name: median(seconds) for name, seconds in self.rounds.items()}

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds of how many times longer ``slow`` took."""
        return median(a / b for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True))


def interleaved(
    variants: Mapping[str, Callable[[], Any]], repeats: int, clock: Callable[[], float] = perf_counter
) -> Timed:
    """Run each variant once per round, so that what disturbs the machine disturbs all alike.

    Parameters
    ----------
    variants
        What to run, by name; run them once before, or the first round pays for compilation.
    repeats
        Rounds, 1 or more.
    clock
        Gives seconds.
    """
    rounds: dict[str, list[float]] = {name: [] for name in variants}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for name, variant in variants.items():
            start = clock()
            results[name] = variant()
            rounds[name].append(clock() - start)
    return Timed({name: tuple(seconds) for name, seconds in rounds.items()}, results)
