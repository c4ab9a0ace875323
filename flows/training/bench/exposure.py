"""Exposure that searches are timed on."""

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
    """Exposure as a worker gets it: read from the archive's own format, checked, its noise measured.

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
        """Return its pixels by name, as stages get them."""
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


def catalogue_from_logits(exposure: BenchExposure, logits: NDArray[np.float32], threshold: float) -> pa.Table:
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
    return search_pixels(exposure.planes, exposure.info, settings, given={"hit": hits})[DIA_SOURCE.name].rows


def hits_of(logits: NDArray[np.float32], columns: int, threshold: float) -> Result:
    """Return the windows that reach a threshold as `HIT` rows, with their `SearchCounts`."""
    hit = np.flatnonzero(logits >= threshold)
    row, column = np.divmod(hit, columns)
    columns_of_hit = {"row": row.astype(np.int32), "column": column.astype(np.int32), "logit": logits[hit]}
    return Result(pa.table(columns_of_hit, schema=HIT.schema), SearchCounts(len(logits), 0, SearchGrid()))


def shipped_net() -> tuple[BasicCnn, ModelCard]:
    """Return the network, in evaluation mode on the processor, and its card."""
    scorer = load_model("detect", "basic_cnn")
    assert isinstance(scorer, WindowScorer)
    assert isinstance(scorer.net, BasicCnn)
    return scorer.net, scorer.card


def use_threads(wanted: int) -> int:
    """Set the threads of torch and numba to ``wanted``, at most those numba was started with; return their number."""
    used = min(wanted, int(numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(used)
    numba.set_num_threads(used)
    return used
