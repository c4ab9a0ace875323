from dataclasses import replace

import numpy as np
import pytest
import torch

from flows.adapters.weights import load_model, read_card
from flows.adapters.zarr_tiles import TileStore
from flows.search_grid import search_grid
from flows.training.region_fit import RegionFit
from flows.training.region_report import find_boxes
from flows.training.region_train import RegionPlan, split_exposures, train_region
from kernels.region_search import RegionSearch
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
        table = DETECT(planes, Context(store.info, tile, settings, {"detect": model}))
        assert table.schema.metadata[b"claim"] == b"16"
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
