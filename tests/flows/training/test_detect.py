import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.special import logit

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card, read_weights, write_model
from flows.simulation.night import SimulatedNight, simulate_night
from flows.simulation.presets import find_preset
from flows.training import detect
from flows.training.cell_fit import CellFit
from flows.training.cells import CellPlan
from flows.training.challenge import CHALLENGE
from flows.training.detect import TrainPlan, quick_search_plan, subtracted_plan, train_detect, write_matched_filter
from flows.training.examples import Example, Wanted
from flows.training.fits import TreeFit
from flows.training.region_fit import RegionFit
from flows.training.regions import RegionPlan
from flows.training.reliability import ReliabilityPlan
from flows.training.reliability_fit import ReliabilityFit
from flows.training.window_fit import FitPlan
from flows.training.windows import WindowPlan
from kernels.subtraction import sfft
from schemas.errors import Misconfigured
from schemas.pixels import SearchGrid
from schemas.settings import NOISE_ALONE

TWO, SMALL = ((Wanted("ztf", count, 15, (300, 330), crowding=3),) for count in (2, 1))
WINDOWS = FitPlan(epochs=1, device="cpu")
PLAN = TrainPlan(
    TWO, TWO, SMALL, SMALL,
    CellPlan(channels=8, dilations=(1, 1), first=CellFit(30, rate=1e-2), later=CellFit(5), rounds=1),
    WindowPlan(rounds=1, most=500, first=WINDOWS, later=WINDOWS),
    RegionPlan(0.5, RegionFit(5, batch=4), RegionFit(5, batch=4), mined=1),
    ReliabilityPlan(ReliabilityFit(networks=2, epochs=2, batch=16), TreeFit(trees=5, least=5)),
)  # fmt: skip
NAMES = ("train", "validation", "verdict", "test")
EXPOSURES = {"train": 2, "validation": 1, "verdict": 2, "test": 1}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


def cards(folder, model, exposures, options=""):
    """Cards of a search that was trained, which load."""
    found = [read_card(stage, str(folder)) for stage in ("detect", "reliability")]
    assert found[1].input["detector_sha256"] == found[0].sha256
    for card in found:
        assert card.name == model
        if card.stage == "reliability" or model != "matched_filter":  # which learns nothing
            assert card.training["exposures"] == exposures
            assert card.training["command"] == f"nightstride train detect --model {model}{options}"
            assert "no real data" in card.training["data"]
        assert load_model(card.stage, str(folder)).card == card
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "pictures"),
    [
        ("streak_net", {"training_reliability.png"}),
        ("basic_cnn", {"training_reliability.png", "training_windows.png"}),
        ("region_proposal", {"training_reliability.png"}),
        ("matched_filter", {"training_reliability.png"}),
    ],
)
def test_trains_a_search_from_nothing(tmp_path, work, model, pictures):
    figures = train_detect(tmp_path, work, model, PLAN, 1, lambda line: None)
    cards(tmp_path, model, EXPOSURES)
    assert figures["detections"]["ztf"]["c10"]["present"] > 0
    assert figures["detector"] or model == "matched_filter"
    json.dumps(figures)
    assert {path.name for path in tmp_path.glob("*.png")} == pictures
    fields = {path.name for name in NAMES for path in (work / name).rglob("*.fz")}
    assert len(fields) == 6, "the four sets must not share an exposure"


@pytest.mark.slow
def test_calibrates_what_is_shipped(tmp_path, work):
    train_detect(tmp_path, work, "streak_net", PLAN, 1, lambda line: None, part="calibration")
    shipped, again = read_card("reliability", "streak_net"), read_card("reliability", str(tmp_path))
    assert again.sha256 == shipped.sha256
    assert again.training["calibrated"]["command"] == "nightstride train detect --model streak_net --calibrate"
    assert not (tmp_path / "detect.json").exists()


@pytest.mark.slow
def test_learns_from_the_challenges_own_exposures(tmp_path, work):
    stacks = tmp_path / "stacks"
    simulate_night(SimulatedNight(find_preset("llnl", 12, (300, 330)), 5, 1, 3, stacks, form="npz"))
    stack = Wanted("llnl", 1, 15, (300, 330))
    both = (*SMALL, stack)
    plan = replace(PLAN, train=both, verdict=(*TWO, stack), validation=both, test=both)
    options = {"part": "reliability", "challenge": stacks}
    figures = train_detect(tmp_path / "out", work, "matched_filter", plan, 1, lambda line: None, **options)
    card = read_card("reliability", str(tmp_path / "out"))
    assert card.training["exposures"] == {"validation": 2, "verdict": 3, "test": 2}
    assert "the LLNL challenge's own" in card.training["data"]
    assert card.training["command"].endswith("--reliability-only --challenge FOLDER")
    assert figures["detections"].keys() >= {"ztf", "challenge"}
    assert not list(work.rglob("*-llnl")), "none like them is simulated"


def test_plans_can_be_written_on_a_card():
    for plan in (TrainPlan(), quick_search_plan(3)):
        assert json.loads(json.dumps(asdict(plan)))["seed"] == plan.seed
    assert quick_search_plan(3).seed == 3
    quick, whole = (sum(part.count for part in plan.train) for plan in (quick_search_plan(1), TrainPlan()))
    assert quick < whole / 10


@pytest.mark.parametrize("part", ["all", "reliability", "calibration"])
def test_a_model_that_is_not_there_is_named_before_anything_is_simulated(tmp_path, part):
    with pytest.raises(Misconfigured, match=r"there is no model 'streaknet'.*write 'streak_net'; known are basic_cnn"):
        train_detect(tmp_path / "out", tmp_path / "work", "streaknet", PLAN, 1, print, part=part)
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_of_another_detector_is_told_before_anything_is_simulated(tmp_path):
    for stage, name in (("detect", "basic_cnn"), ("reliability", "streak_net")):
        card, arrays = read_weights(stage, name)
        write_model(tmp_path / "mixed", arrays, card.model_dump())
    with pytest.raises(Misconfigured, match=r"train one: .*--reliability-only"):
        train_detect(tmp_path / "out", tmp_path / "work", str(tmp_path / "mixed"), PLAN, 1, print, part="calibration")
    assert not (tmp_path / "work").exists()


def test_matched_filter_needs_no_learning(tmp_path):
    write_matched_filter(tmp_path)
    card, arrays = read_weights("detect", str(tmp_path))
    assert list(arrays) == ["floor"]
    threshold = read_card("detect", str(tmp_path)).threshold
    assert np.sqrt(2 * logit(threshold) + NOISE_ALONE**2) == pytest.approx(10, abs=0.01)
    assert card.input["kind"] == "matched_filter"
    assert SearchGrid(**card.input["grid"]).stride == 4
    assert arrays["floor"].tolist() == [4.4]
    assert card.false_alarm_rate.startswith("S/N 10: ")


def plan_of(stage, name):
    """What the card says of the plan, without `boosted` and `two_stage`, detectors that there were."""
    training = read_card(stage, name).training
    plan = training["plan"]
    assert hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest() == training["digest"]
    del plan["boosted"], plan["two_stage"], plan["judge"]["trees"]["false_per_streak"]
    return plan


def as_written(plan):
    written = json.loads(json.dumps(asdict(plan)))
    for name in NAMES:
        for one in written[name]:
            # Which the shipped cards do not know yet.
            assert [one.pop(field) for field in ("subtract", "lengths", "smoothing", "islands")] == [
                "none",
                None,
                None,
                None,
            ]
    return written


def test_the_plan_is_that_of_the_shipped_models():
    written = as_written(TrainPlan())
    assert plan_of("detect", "streak_net") == plan_of("reliability", "matched_filter") == written
    assert plan_of("reliability", "streak_net") == json.loads(json.dumps(asdict(subtracted_plan(1))))


def test_half_and_more_of_each_set_is_subtracted_if_asked_for():
    plan = subtracted_plan(3)
    assert plan.seed == 3
    for name in NAMES:
        parts = getattr(plan, name)
        counts = {way: sum(one.count for one in parts if (one.subtract != "none") == way) for way in (True, False)}
        assert counts[True] >= counts[False] > 0
    assert {one.preset for one in plan.train if one.subtract != "none"} == {"ztf", "decam", "rubin"}
    assert {one.sky for one in plan.test} == {"ztf", "llnl", "ztf-zogy", "ztf-convolution", "ztf-sfft"}


def test_without_the_package_that_subtracts_nothing_is_simulated(tmp_path, monkeypatch):
    monkeypatch.setattr(sfft, "find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match="package sfft is not installed"):
        train_detect(
            tmp_path / "out", tmp_path / "work", "streak_net", subtracted_plan(1), 1, print, part="reliability"
        )
    assert not (tmp_path / "work").exists()


def test_the_quick_plan_is_as_short_as_can_be():
    plan = quick_search_plan(3)
    few = (Wanted("ztf", 2), Wanted("llnl", 1))
    assert plan.train == plan.verdict == plan.validation == plan.test == few
    assert plan.cells == CellPlan(first=CellFit(40), later=CellFit(40))
    assert (plan.judge.fit.networks, plan.judge.fit.epochs, plan.windows.rounds) == (1, 2, 1)
    assert plan.regions == RegionPlan(0.5, RegionFit(20), RegionFit(20), mined=1)


@pytest.fixture
def steps(monkeypatch):
    """What each step is given, instead of what it does."""
    seen = {}

    def make_sets(folder, wanted, seed, workers, say):
        seen[folder.name] = (tuple(wanted), seed)
        skies = [part.sky for part in wanted for _ in range(part.count)]
        return [Example(f"{folder.name} {n}", None, sky) for n, sky in enumerate(skies)]

    monkeypatch.setattr(detect, "make_sets", make_sets)
    for name in ("train_cells", "train_windows", "train_region"):
        monkeypatch.setattr(detect, name, lambda *given, name=name: seen.update({name: given}) or {"by": name})
    for name in ("train_reliability", "calibrate_reliability"):
        monkeypatch.setattr(detect, name, lambda *given, name=name: seen.update({name: given}) or {"judged": name})
    return seen


TRAINERS = {"streak_net": "train_cells", "basic_cnn": "train_windows", "region_proposal": "train_region"}


@pytest.mark.parametrize("model", [*TRAINERS, "matched_filter"])
def test_each_set_is_simulated_with_a_seed_of_its_own_and_each_detector_trained_by_its_kind(tmp_path, steps, model):
    plan = replace(PLAN, seed=3)
    figures = train_detect(tmp_path / "out", tmp_path / "work", model, plan, 1, print)
    assert {name: steps[name] for name in NAMES} == {
        "train": (TWO, 3000), "validation": (SMALL, 3100), "verdict": (TWO, 3200), "test": (SMALL, 3300),
    }  # fmt: skip
    assert {name for name in steps if name not in NAMES} == {
        TRAINERS.get(model, "train_reliability"),
        "train_reliability",
    }
    assert figures == {
        "detector": {"by": TRAINERS[model]} if model in TRAINERS else {}, "detections": {"judged": "train_reliability"},
    }  # fmt: skip
    out, judge, sets, settings, about, seed, *_ = steps["train_reliability"]
    assert (out, judge, settings, seed) == (tmp_path / "out", str(tmp_path / "out"), plan.judge, 3)
    assert ([one.store for one in sets.train], list(sets.test)) == (["verdict 0", "verdict 1"], ["ztf"])
    assert about["command"] == f"nightstride train detect --model {model}"
    assert about["data"] == "simulated exposures (nightstride simulate), no real data"
    assert about["exposures"] == EXPOSURES


@pytest.mark.parametrize(("part", "names"), [("reliability", NAMES[1:]), ("calibration", ("validation", "test"))])
def test_a_detector_that_is_there_is_left_as_it_is(tmp_path, steps, part, names):
    figures = train_detect(tmp_path / "out", tmp_path / "work", "streak_net", PLAN, 1, print, part=part)
    step = "train_reliability" if part == "reliability" else "calibrate_reliability"
    assert figures == {"detections": {"judged": step}}
    assert set(steps) == {*names, step}
    assert steps[step][1] == "streak_net"
    option = {"reliability": " --reliability-only", "calibration": " --calibrate"}[part]
    assert steps[step][4]["command"] == f"nightstride train detect --model streak_net{option}"


def test_a_folder_is_a_detector_whose_verdict_is_trained(tmp_path, steps):
    card, arrays = read_weights("detect", "streak_net")
    write_model(tmp_path / "mine", arrays, card.model_dump())
    train_detect(tmp_path / "out", tmp_path / "work", str(tmp_path / "mine"), PLAN, 1, print)
    assert set(steps) == {*NAMES[1:], "train_reliability"}


def test_the_challenges_exposures_join_the_simulated_ones(tmp_path, steps, monkeypatch):
    theirs = [Example(f"challenge {n}", None, CHALLENGE) for n in range(6)]
    monkeypatch.setattr(detect, "challenge_examples", lambda raw, work, workers: theirs)
    both = (*SMALL, Wanted("llnl", 1, 25))
    plan = replace(PLAN, train=both, verdict=both, validation=both, test=both)
    train_detect(tmp_path / "out", tmp_path / "work", "streak_net", plan, 1, print, challenge=tmp_path)
    assert {steps[name][0] for name in NAMES} == {SMALL}
    sets, about = steps["train_reliability"][2], steps["train_reliability"][4]
    assert {name: len(some) for name, some in sets.test.items()} == {
        "ztf": 1,
        "challenge": about["exposures"]["test"] - 1,
    }
    assert sum(about["exposures"].values()) == 4 + 6
    assert about["data"] == "simulated exposures (nightstride simulate), and the LLNL challenge's own"
    assert about["command"] == "nightstride train detect --model streak_net --challenge FOLDER"


def test_exposures_of_a_sky_are_reported_together():
    skies = ("ztf", "ztf-zogy", "llnl", "ztf")
    found = detect._by_sky([Example(name, None, sky) for name, sky in zip("abcd", skies, strict=True)])
    assert {sky: [one.store for one in some] for sky, some in found.items()} == {
        "llnl": ["c"], "ztf": ["a", "d"], "ztf-zogy": ["b"],
    }  # fmt: skip
