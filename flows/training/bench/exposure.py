"""The exposure that searches are timed on."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from flows.inputs.prepare import prepare
from flows.inputs.sources import list_sources
from flows.pipeline.models import load_model
from flows.pipeline.stage_run import search_grid
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.training.bench.ways import Pixels
from kernels.nets.basic_cnn import BasicCnn
from kernels.search.detector import WindowScorer
from schemas.dia_source import HIT, SearchCounts
from schemas.exposure import ExposureInfo
from schemas.model_card import ModelCard
from schemas.settings import Settings
from schemas.stage import Context
from stages.measure import STAGE as MEASURE
from stages.merge import STAGE as MERGE


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
        simulate_night(SimulatedNight(find_preset(preset, shape=shape), seed, 1, 1, Path(scratch), science=False))
        (source,) = list_sources([scratch], settings)
        info, planes = prepare(source, settings)
    return BenchExposure(info, planes["difference"], planes["mask"])


def catalogue_of(exposure: BenchExposure, logits: NDArray[np.float32], threshold: float) -> pa.Table:
    """Merge and measure the windows that reach a threshold, with the settings' defaults.

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
    settings, pixels = Settings(), exposure.pixels
    planes = {"difference": exposure.difference, "mask": exposure.mask}
    hits = hits_of(logits, pixels.grid[1], threshold)
    numbers = {
        "hit": SearchCounts(len(logits), 0, search_grid(settings.detect.model_copy(update={"model": "basic_cnn"})))
    }
    streaks = MERGE({"hit": hits, **planes}, Context(exposure.info, None, settings.merge, numbers=numbers)).rows
    models = {"reliability": load_model("reliability", "basic_cnn")}
    return MEASURE({"streak": streaks, **planes}, Context(exposure.info, None, settings.measure, models)).rows


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
