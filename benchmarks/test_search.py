"""Small timings to compare versions with: ``make bench-suite``. Not part of `make test`."""

from functools import cache

import pytest
from scipy.special import logit

from benchmarks.bench_windows import CELLS, LABELS, TOLERANCE, cell_ways, ways
from benchmarks.exposure_pass import SETTINGS
from flows.pipeline.models import load_model
from flows.training.bench.exposure import bench_exposure, hits_of, shipped_net
from flows.training.bench.search import probability_error, search_variants
from schemas.stage import Context
from stages.measure import STAGE as MEASURE
from stages.merge import STAGE as MERGE


@cache
def scene():
    """A simulated image of 600 px, every way of searching it, and the threshold."""
    exposure, (net, card) = bench_exposure((600, 600)), shipped_net()
    floor = float(logit(card.threshold))
    return exposure, ways(exposure.pixels, net, floor), floor


@cache
def reference():
    """Log odds the plain way."""
    return scene()[1]["plain"]()


@pytest.mark.parametrize("name", LABELS)
def test_search(benchmark, name):
    found = benchmark.pedantic(scene()[1][name], rounds=5, warmup_rounds=1)
    allowed = 1.0 if name == "fused_bf16" else TOLERANCE
    assert probability_error(found, reference()).max() <= allowed


@pytest.mark.parametrize("name", CELLS)
def test_search_of_cells(benchmark, name):
    found = benchmark.pedantic(cell_ways(scene()[0])[name], rounds=5, warmup_rounds=1)
    assert len(found) == 150 * 150


def test_merge(benchmark):
    exposure, _, floor = scene()
    inputs = {"hit": hits_of(reference(), exposure.pixels.grid[1], floor), **planes(exposure)}
    context = Context(exposure.info, None, SETTINGS.merge)
    assert len(benchmark.pedantic(MERGE, (inputs, context), rounds=5, warmup_rounds=1))


def test_measure(benchmark):
    exposure, _, floor = scene()
    hits = hits_of(reference(), exposure.pixels.grid[1], floor)
    streaks = MERGE({"hit": hits, **planes(exposure)}, Context(exposure.info, None, SETTINGS.merge)).rows
    context = Context(exposure.info, None, SETTINGS.measure, {"reliability": load_model("reliability", "basic_cnn")})
    inputs = {"streak": streaks, **planes(exposure)}
    assert len(benchmark.pedantic(MEASURE, (inputs, context), rounds=5, warmup_rounds=1))


def planes(exposure):
    """Pixels as stages get them."""
    return {"difference": exposure.difference, "mask": exposure.mask}


def test_every_search_of_the_command_is_compared():
    exposure, _, floor = scene()
    assert search_variants(exposure.pixels, shipped_net()[0], floor).keys() <= LABELS.keys()
