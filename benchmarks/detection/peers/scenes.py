"""Simulated exposures with their truth, the same for every peer."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.inputs.ingest import prepare
from flows.inputs.sources import list_sources
from flows.results.evaluation.evaluate import Truth
from flows.results.evaluation.truth_table import read_truth
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.training.bench.exposure import BenchExposure
from schemas.settings import Settings


@dataclass(frozen=True)
class TrueScene:
    """Exposure with the truth about it."""

    exposure: BenchExposure
    truth: Truth


def true_scenes(preset, count, seed, shape=None):
    """Simulate ``count`` exposures of a preset: different detectors of one visit."""
    settings = Settings()
    with TemporaryDirectory(prefix="nightstride-bench-") as scratch:
        folder = Path(scratch)
        simulate_night(SimulatedNight(find_preset(preset, shape=shape), seed, 1, count, folder))
        truth = read_truth([folder / "truth.parquet"])
        scenes = []
        for source in list_sources([scratch], settings):
            info, planes = prepare(source, settings)
            exposure = BenchExposure(info, planes["difference"], planes["mask"])
            scenes.append(TrueScene(exposure, truth.on(info.visit, info.detector)))
    return scenes
