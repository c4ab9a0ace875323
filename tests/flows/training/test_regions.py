from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from flows.pipeline.models import load_model
from flows.pipeline.stage_run import search_grid
from flows.pipeline.weights import read_card
from flows.storage.zarr_tiles import TileStore
from flows.training import regions
from flows.training.examples import open_field
from flows.training.region_crops import CropShares, true_boxes
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


def test_defaults_of_the_plan():
    assert RegionPlan() == RegionPlan(
        0.7, RegionFit(2000), RegionFit(2000, rate=1e-3), 30, CropShares(0.4, 0.5), -3.0, -2.0, 50.0
    )


def test_which_exposures_are_held_is_decided_by_the_seed(examples):
    ten = [replace(examples[0], store=examples[0].store.with_name(f"{n}.zarr")) for n in range(10)]
    _, held = split_exposures({"a": ten, "b": ten}, 0.7, 5)
    found = {name: [int(one.store.stem) for one in group] for name, group in held.items()}
    rng = np.random.default_rng([5, 0])
    assert found == {name: rng.permutation(10)[7:].tolist() for name in "ab"}


def test_what_reaches_a_level_is_found_and_fits_are_told_in_quantiles():
    rng = np.random.default_rng(1)
    count = 30
    one = judged_of(np.linspace(9, 3, count), range(count), [0] * count, np.linspace(30, 7, count))
    shared, apart = rng.uniform(0.2, 1, count), rng.uniform(0, 3, count)
    shared[3] = 0.5
    one = replace(one, shared=shared, apart=apart)
    other = judged_of([4.0, 3.5], [-1, -1], [1, 1], [7.0, 10.0])
    level = np.nextafter(3.5, 9)
    found = one.score >= level
    figures = region_figures({"ztf": [one, other]})["ztf"]
    assert figures["exposures"] == 2
    at = figures["at_0.5_false_per_image"]
    assert at["log_odds"] == round(np.nextafter(3.5, 9), 3)
    bright = found & (one.snr >= 10)
    assert (at["snr_10"]["found"], at["snr_10"]["present"]) == (bright.sum(), (one.snr >= 10).sum() + 1)
    assert at["snr_10"]["completeness"] == round(bright.sum() / ((one.snr >= 10).sum() + 1), 4)
    assert at["snr_10"]["interval"] == [
        round(edge, 4) for edge in binomial_interval(bright.sum(), (one.snr >= 10).sum() + 1)
    ]
    assert at["snr_7"]["present"] == count + 2
    boxes = figures["boxes"]  # at one false box per image: all are found
    assert boxes["found"] == count
    for name, values in (("overlap", shared), ("centre_error_px", apart)):
        quantiles = np.quantile(values, (0.1, 0.5, 0.9))
        assert boxes[name] == {f"p{n}": round(q, 4) for n, q in zip((10, 50, 90), quantiles, strict=True)}
    assert boxes["overlap_above_0.5"] == round(np.mean(shared > 0.5), 4)


def test_a_level_is_no_lower_than_any_false_box():
    assert region_level(GROUP, 9.0) == 0.0
    low = [judged_of([-1.0, -2.0], [-1, -1], [1, 1], []), judged_of([5.0], [-1], [1], [])]
    assert region_level(low, 9.0) == -2.0


def test_boxes_are_matched_by_their_middles(examples):
    field = open_field(examples[0])
    n = int(np.flatnonzero(field.targets.counted)[0])
    x, y = field.targets.x[n], field.targets.y[n]
    box = np.array([[x - 4, y - 3, x + 6, y + 3]])  # its middle is 1 px beside
    judged = judge_boxes(RegionHits(box, np.array([2.0], np.float32)), examples[0])
    assert judged.target.tolist() == [n]
    assert judged.apart == pytest.approx([1.0])


def test_the_second_fit_is_shown_the_false_alarms_of_the_first(examples, tmp_path, monkeypatch):
    fits, shown, cards, lines = [], [], [], []
    monkeypatch.setattr(regions, "fit_regions", lambda net, draw, fit, seed, say: fits.append((fit, seed)))
    monkeypatch.setattr(regions, "write_model", lambda out, arrays, card: cards.append(card))
    ten = [replace(examples[0], store=examples[0].store.with_name(f"{n}.zarr")) for n in range(10)]

    class Draw:
        def __init__(self, chosen, seed):
            self.show = lambda *given: shown.append(given)

    monkeypatch.setattr(regions, "CropDraw", Draw)
    found = RegionHits(np.array([[0.0, 0, 10, 20], [30, 30, 40, 50], [60, 60, 70, 80]]), np.array([3.0, -2.0, -1.0]))
    monkeypatch.setattr(regions, "cached_detector", lambda folder: folder)
    monkeypatch.setattr(regions, "find_boxes", lambda search, example: found)
    judged = judged_of([3.0, -2.0, -1.0], [0, -1, -1], [0, 1, 1], [20.0])
    monkeypatch.setattr(regions, "judge_boxes", lambda hits, example: judged)
    plan = replace(PLAN, mined=3, hard=-2.0, floor=-3.0, false_per_image=1.0)
    figures = train_region(tmp_path, {"ztf": ten, "llnl": ten[:4]}, plan, ABOUT, 4, 1, lines.append)
    assert fits == [(plan.first, 4), (plan.later, 5)]
    ((hard, shares),) = shown
    assert shares == plan.shares
    learn, _ = split_exposures({"ztf": ten, "llnl": ten[:4]}, 0.5, 4)
    chosen = [*learn["ztf"], *learn["llnl"]]
    expected = [chosen[n].store.stem for n in np.random.default_rng([4, 2]).permutation(7)[:3]]
    assert list(hard) == list(dict.fromkeys(expected))
    for places in hard.values():
        np.testing.assert_array_equal(places, [[65, 70]])  # -2 itself is not above it
    assert [card["threshold"] for card in cards[:2]] == [0.5, 0.5]
    assert cards[2]["threshold"] == pytest.approx(expit(np.nextafter(-2.0, 9)))
    assert (cards[2]["metrics"], cards[2]["input"]["floor"]) == (figures, -3.0)
    assert (figures["ztf"]["exposures"], figures["llnl"]["exposures"]) == (5, 2)
    assert cards[2]["false_alarm_rate"] == "1 false boxes per image of those that report"
    assert lines[1] == f"regions: {len(hard)} false boxes on {len(hard)} exposures"
