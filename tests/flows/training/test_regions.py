from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.pipeline.stage_run import search_grid
from flows.pipeline.weights import read_card
from flows.storage.zarr_tiles import TileStore
from flows.training.examples import open_field
from flows.training.region_crops import true_boxes
from flows.training.region_fit import RegionFit
from flows.training.regions import (
    Judged,
    RegionPlan,
    find_boxes,
    judge_boxes,
    region_figures,
    region_level,
    split_exposures,
    train_region,
)
from kernels.search.region_search import RegionHits, RegionSearch
from kernels.statistics.completeness import binomial_interval
from kernels.statistics.matching import Targets
from schemas.settings import DetectSettings
from schemas.stage import Context
from stages.detect import STAGE as DETECT

PLAN = RegionPlan(share=0.5, first=RegionFit(2, batch=2), later=RegionFit(2, batch=2), mined=1, floor=-9.0, hard=-9.0)

ABOUT = {"split": "by exposure", "command": "this test"}


@pytest.fixture(scope="module")
def trained(examples, tmp_path_factory):
    out, said = tmp_path_factory.mktemp("regions"), []
    return out, train_region(out, {"ztf": examples}, PLAN, ABOUT, 1, 1, said.append), said


def test_exposures_are_split_whole(examples):
    ten = [replace(examples[0], store=examples[0].store.with_name(f"{n}.zarr")) for n in range(10)]
    learn, held = split_exposures({"a": ten, "b": ten[:4]}, 0.7, 5)
    assert {name: (len(learn[name]), len(held[name])) for name in "ab"} == {"a": (7, 3), "b": (3, 1)}
    assert {one.store for one in learn["a"]} | {one.store for one in held["a"]} == {one.store for one in ten}
    assert split_exposures({"a": ten}, 0.7, 6)[1]["a"] != held["a"]


def test_card_tells_how_it_was_made_and_what_it_does(trained, examples):
    out, figures, said = trained
    card = read_card("detect", str(out))
    assert card.name == "region_proposal"
    assert card.metrics == figures
    assert figures["ztf"]["exposures"] == 1
    assert card.training["command"] == ABOUT["command"]
    assert card.training["split"].startswith("by exposure; of those to learn from, by preset, 50% fit")
    assert 0 < card.threshold < 1
    assert any("false boxes on 1 exposures" in line for line in said)
    assert (out / "detect.safetensors").stat().st_size < 2 * 2**20


def test_tiles_say_what_the_whole_exposure_says(trained, examples):
    out = trained[0]
    settings = DetectSettings(model=str(out), threshold=1e-6)
    model = load_model("detect", str(out))
    assert isinstance(model, RegionSearch)
    assert search_grid(settings) == model.grid
    store = TileStore.open(examples[0].store)
    hits = {}
    for tile in model.grid.tiling(store.info.shape, 252).tiles():
        planes = {name: store.read(name, tile.y0, tile.x0, tile.y1, tile.x1) for name in ("difference", "mask")}
        table, counts = DETECT(planes, Context(store.info, tile, settings, {"detect": model}))
        assert counts.grid.claim == 16
        columns = (table[name].to_pylist() for name in ("row", "column", "logit"))
        hits |= {(row, column): logit for row, column, logit in zip(*columns, strict=True)}
    found = find_boxes(model, examples[0])
    middle = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    column, row = ((middle + 0.5) // 4).astype(int).T
    rows, columns = model.grid.tiling(store.info.shape, 252).grid
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    best = {}
    for place, logit in zip(
        zip(row[inside].tolist(), column[inside].tolist(), strict=True), found.logits[inside], strict=True
    ):
        best[place] = max(best.get(place, -np.inf), float(logit))
    assert len(hits) > 10
    assert hits.items() <= best.items()
    hidden = len(best) - len(hits)
    assert hidden < 0.1 * len(best)  # middles on pixels that do not count


def test_the_same_seed_gives_the_same_weights(trained, examples, tmp_path):
    before = torch.get_num_threads()
    train_region(tmp_path, {"ztf": examples}, PLAN, ABOUT, 1, 1, lambda _: None)
    assert read_card("detect", str(tmp_path)).sha256 == read_card("detect", str(trained[0])).sha256
    assert torch.get_num_threads() == before


def judged_of(score, target, false, snr):
    count = len(snr)
    zeros = np.zeros(count)
    targets = Targets(np.array(["streak"] * count), zeros, zeros, zeros, zeros, np.ones(count))
    score, target = np.array(score, float), np.array(target, np.int64)
    shared = np.where(target >= 0, 0.8, np.nan)
    return Judged(score, target, np.array(false, bool), shared, shared / 2, targets, np.array(snr, float))


GROUP = [
    judged_of([9, 8, 7, 1], [0, 1, -1, 2], [0, 0, 1, 0], [20, 8, 12, 5]),
    judged_of([6, 5, 4], [-1, 0, -1], [1, 0, 1], [30, 9]),
]


@pytest.mark.parametrize(("false", "left"), [(0, 0), (0.5, 1), (1, 2), (1.5, 3), (9, 3)])
def test_levels_leave_as_many_false_boxes_as_they_may(false, left):
    level = region_level(GROUP, false)
    assert sum((one.score[one.false] >= level).sum() for one in GROUP) == left


def test_figures_are_counted_at_their_levels():
    figures = region_figures({"ztf": GROUP, "none": []})
    assert set(figures) == {"ztf"}
    half, one = (figures["ztf"][f"at_{level}_false_per_image"] for level in ("0.5", "1"))
    # One false box is let through at 7, two at 6: the trail found at 5 comes with neither, nor that at 1.
    assert (half["snr_7"]["found"], half["snr_7"]["present"]) == (2, 5)
    assert (one["snr_7"]["found"], one["snr_10"]["found"], one["snr_10"]["present"]) == (3, 2, 3)
    assert one["snr_10"]["interval"] == pytest.approx(binomial_interval(2, 3), abs=1e-4)
    boxes = figures["ztf"]["boxes"]
    assert boxes["found"] == 3
    assert boxes["overlap"]["p50"] == pytest.approx(0.8)
    assert boxes["centre_error_px"]["p90"] == pytest.approx(0.4)


def test_nothing_false_and_nothing_found():
    alone = judged_of([], [], [], [9])
    assert region_level([alone], 1.0) == 0.0
    figures = region_figures({"x": [alone]})["x"]
    assert figures["boxes"] == {"found": 0}
    assert figures["at_1_false_per_image"]["snr_7"]["completeness"] == 0


def test_boxes_are_judged_by_what_is_there(examples):
    field = open_field(examples[0])
    true = true_boxes(examples[0].truth)
    counted = np.flatnonzero(field.targets.counted)
    moved = true[counted] + np.array([1.0, 0, 1, 0])
    nowhere = np.array([[0.0, 0, 9, 9]])
    odds = np.linspace(5, 1, len(counted) + 1).astype(np.float32)
    judged = judge_boxes(RegionHits(np.concatenate([moved, nowhere]), odds), examples[0])
    assert judged.false.tolist() == [False] * len(counted) + [True]
    assert set(judged.target[:-1].tolist()) == set(counted.tolist())
    assert np.isnan(judged.shared[-1])
    near = judged.target[:-1] == counted
    assert near.mean() > 0.8  # trails that lie on each other may change places
    wide = (true[counted, 2] - true[counted, 0])[near]
    np.testing.assert_allclose(judged.shared[:-1][near], (wide - 1) / (wide + 1))
    assert (judged.apart[:-1][near] < 2.5).mean() > 0.8
