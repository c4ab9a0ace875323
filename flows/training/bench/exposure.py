"""Exposure on which searches are timed."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
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
from flows.training.bench.ways import Pixels
from kernels.nets.basic_cnn import BasicCnn
from kernels.search.detector import WindowScorer
from schemas.dia_source import DIA_SOURCE, HIT, SearchCounts
from schemas.exposure import ExposureInfo
from schemas.model_card import ModelCard
from schemas.pixels import SearchGrid
from schemas.settings import DetectSettings, Settings
from schemas.stage import Result


@dataclass(frozen=True)
class BenchExposure:
    """Exposure as seen by a worker: read from the archive's format and checked, with its noise measured.

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
        """Return its planes by name, as given to stages."""
        return {"difference": self.difference, "mask": self.mask}

    @property
    def pixels(self) -> Pixels:
        """Return the input of a search."""
        return Pixels.of(self.info, self.difference, self.mask)


def bench_exposure(shape: tuple[int, int] | None = None, seed: int = 11) -> BenchExposure:
    """Simulate one exposure and read it.

    Parameters
    ----------
    shape
        (ny, nx), px; None: the camera's, 3080 x 3072 for ztf.
    seed
        Seed of the simulation.

    Raises
    ------
    Misconfigured
        The camera does not have this size.
    """
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="nightstride-bench-") as scratch:
        simulate_night(SimulatedNight(find_preset("ztf", shape=shape), seed, 1, 1, Path(scratch), science=False))
        (source,) = list_sources([scratch], settings)
        info, planes = prepare(source, settings)
    return BenchExposure(info, planes["difference"], planes["mask"])


def catalogue_from_logits(exposure: BenchExposure, logits: NDArray[np.float32], threshold: float) -> pa.Table:
    """Merge and measure windows above a threshold, with default settings and the reliability model of `basic_cnn`.

    Parameters
    ----------
    exposure
        Searched exposure.
    logits : (windows,) float32
        Log odds in the order of its grid.
    threshold
        Log odds from which on a window is a hit.

    Returns
    -------
    pyarrow.Table
        `dia_source`.
    """
    settings = Settings(detect=DetectSettings(model="basic_cnn"))
    hits = hits_of(logits, exposure.pixels.grid[1], threshold)
    return search_pixels(exposure.planes, exposure.info, settings, given={"hit": hits})[DIA_SOURCE.name].rows


def hits_of(logits: NDArray[np.float32], columns: int, threshold: float) -> Result:
    """Return the windows that reach a threshold as `HIT` rows, with their `SearchCounts`."""
    hit = np.flatnonzero(logits >= threshold)
    row, column = np.divmod(hit, columns)
    columns_of_hit = {"row": row.astype(np.int32), "column": column.astype(np.int32), "logit": logits[hit]}
    return Result(pa.table(columns_of_hit, schema=HIT.schema), SearchCounts(len(logits), 0, SearchGrid()))


def shipped_net() -> tuple[BasicCnn, ModelCard]:
    """Return the shipped network, in evaluation mode on the CPU, and its card."""
    scorer = load_model("detect", "basic_cnn")
    assert isinstance(scorer, WindowScorer)
    assert isinstance(scorer.net, BasicCnn)
    return scorer.net, scorer.card


def use_threads(wanted: int) -> int:
    """Set torch and numba to ``wanted`` threads, at most the number numba was started with; return the number."""
    used = min(wanted, int(numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(used)
    numba.set_num_threads(used)
    return used
