"""Small timings to compare versions with: ``make bench-suite``. Not part of `make test`."""

from functools import cache, partial

import pytest
from scipy.special import logit

from benchmarks.speed.bench_windows import CELLS, LABELS, TOLERANCE, cell_ways, ways
from benchmarks.speed.exposure_pass import SETTINGS
from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import search_pixels
from flows.training.bench.exposure import bench_exposure, hits_of, shipped_net
from flows.training.bench.search import probability_error, search_variants


@cache
def scene():
    """Return a simulated image of 600 px, every way of searching it, and the threshold."""
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
    given = {"hit": hits_of(reference(), exposure.pixels.grid[1], floor)}
    found = benchmark.pedantic(partial(searched, exposure, given, "streak"), rounds=5, warmup_rounds=1)
    assert len(found["streak"].rows)


def test_measure(benchmark):
    exposure, _, floor = scene()
    given = searched(exposure, {"hit": hits_of(reference(), exposure.pixels.grid[1], floor)}, "streak")
    found = benchmark.pedantic(partial(searched, exposure, given, "dia_source"), rounds=5, warmup_rounds=1)
    assert len(found["dia_source"].rows)


def searched(exposure, given, until):
    """Return what the stages after those that gave ``given`` make of an exposure."""
    models = {"reliability": verdict()}
    return search_pixels(exposure.planes, exposure.info, SETTINGS, until=until, given=given, models=models)


@cache
def verdict():
    """Return the reliability model on candidates of `basic_cnn`."""
    return load_model("reliability", "basic_cnn")


def test_every_search_of_the_command_is_compared():
    exposure, _, floor = scene()
    assert search_variants(exposure.pixels, shipped_net()[0], floor).keys() <= LABELS.keys()
