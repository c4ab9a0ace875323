from dataclasses import replace

import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card
from flows.training import reliability
from flows.training.candidates import candidate_threshold, candidates, publishable, without_science
from flows.training.examples import Example
from flows.training.fits import TreeFit, calibrate
from flows.training.reliability import ReliabilityPlan, Sets, calibrate_reliability, train_reliability
from flows.training.reliability_fit import ReliabilityFit
from kernels.measure.reliability_net import reliability_of
from schemas.dia_source import FEATURES, STATIC
from schemas.errors import Misconfigured
from schemas.settings import NOISE_ALONE
from tests.support.candidates import exposure
from tests.support.models import write_bright, write_cells

PLAN = ReliabilityPlan(ReliabilityFit(networks=2, epochs=2, batch=16), TreeFit(trees=5, least=5), false_per_image=2.0)


@pytest.fixture(scope="module")
def trained(examples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdict")
    write_bright(folder)
    sets = Sets(examples, examples, {"ztf": examples[:1]})
    figures = train_reliability(folder, str(folder), sets, PLAN, {"data": "a test"}, 1, 1, lambda line: None)
    return folder, figures


@pytest.mark.slow
def test_the_card_names_the_detector_and_loads(trained):
    folder, figures = trained
    card, detector = read_card("reliability", str(folder)), read_card("detect", str(folder))
    assert card.input["detector_sha256"] == detector.sha256
    assert (card.input["features"], card.input["networks"]) == (list(FEATURES), 2)
    assert (card.name, card.version) == (detector.name, f"{detector.name}-{detector.version}/verdict-5")
    assert card.metrics == figures
    assert card.calibration["expected_calibration_error"] == figures["calibration_error"]
    assert len(load_model("reliability", str(folder)).nets) == 2


@pytest.mark.slow
def test_the_threshold_leaves_the_wanted_number_of_false(trained, examples):
    folder, _ = trained
    net = load_model("reliability", str(folder))
    pairs = (candidates(example, str(folder), wrong_psf=False) for example in examples)
    found = [publishable(one, PLAN.min_snr) for pair in pairs for one in pair]
    assert len(found[0].label) > 0
    for science, each in ((True, found), (False, list(map(without_science, found)))):
        scores = [net(one.features, one.stamps.astype(np.float32)) for one in each]
        false = np.concatenate([score[one.label == 0] for one, score in zip(each, scores, strict=True)])
        level = net.card.least_reliability(science)
        assert (false >= level).sum() <= 2 * len(examples)
        assert level == max(candidate_threshold(each, scores, 2.0), 0.0)


@pytest.mark.slow
def test_calibrating_again_gives_what_the_training_gave(trained, examples, tmp_path):
    folder, figures = trained
    sets = Sets([], examples, {"ztf": examples[:1]})
    again = calibrate_reliability(tmp_path, str(folder), sets, PLAN, {"data": "another test"}, 1, lambda line: None)
    before, after = (read_card("reliability", str(place)) for place in (folder, tmp_path))
    assert (after.calibration, after.threshold, after.sha256) == (before.calibration, before.threshold, before.sha256)
    assert after.training == before.training | {"calibrated": {"data": "another test"}}
    learnt = ("logistic regression, at 1 false", "boosted trees, at 1 false")
    assert again["ztf"] == {name: value for name, value in figures["ztf"].items() if name not in learnt}


@pytest.mark.slow
def test_stricter_thresholds_are_higher(trained, examples, tmp_path):
    folder, _ = trained
    sets, strict = Sets([], examples, {"ztf": examples[:1]}), replace(PLAN, false_per_image=0.0)
    calibrate_reliability(tmp_path, str(folder), sets, strict, {}, 1, lambda line: None)
    before, after = (read_card("reliability", str(place)) for place in (folder, tmp_path))
    assert after.threshold > before.threshold
    assert after.false_alarm_rate.startswith("0.0 false detections per image")


@pytest.mark.slow
def test_the_verdict_on_another_detector_is_not_calibrated(trained, examples, tmp_path):
    for file in trained[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_cells(tmp_path, threshold=0.5)
    with pytest.raises(Misconfigured, match="was trained on the candidates of the detector"):
        calibrate_reliability(tmp_path, str(tmp_path), Sets([], examples, {}), PLAN, {}, 1, lambda line: None)


@pytest.mark.slow
def test_it_stops_searching_when_there_are_enough_candidates(examples, tmp_path):
    write_bright(tmp_path)
    told, plan = [], replace(PLAN, enough=1)
    sets = Sets([examples[0]] * 3, examples[:1], {"ztf": examples[:1]})
    train_reliability(tmp_path, str(tmp_path), sets, plan, {"data": "a test"}, 1, 1, told.append)
    assert [line.partition(" candidates of ")[2] for line in told if "candidates of" in line] == [
        "1 of 3 exposures",
        "1 of 1 exposures",
        "1 of 1 exposures",
    ]
    assert read_card("reliability", str(tmp_path)).training["candidates_of"] == "the first 1 of 3 exposures"


def test_a_detector_whose_exposures_are_all_left_out_is_refused(monkeypatch, tmp_path):
    write_cells(tmp_path)
    monkeypatch.setattr(reliability, "unless_flooded", lambda example, detector, wrong_psf: [])
    with pytest.raises(Misconfigured, match="too many candidates on all exposures to learn from") as error:
        train_reliability(tmp_path, str(tmp_path), Sets([1, 2], [], {}), PLAN, {}, 1, 1, lambda line: None)
    assert error.value.code == "no_candidates"


def test_defaults_of_the_plan():
    assert ReliabilityPlan() == ReliabilityPlan(
        ReliabilityFit(), TreeFit(trees=500, rate=0.05), 0.4, 0.3, NOISE_ALONE, 60_000
    )


@pytest.mark.parametrize(
    ("enough", "looked", "told"),
    [(None, 25, [10, 20, 25]), (24, 12, [10, 12]), (25, 13, [10, 13]), (1000, 25, [10, 20, 25])],
)
def test_every_ten_exposures_and_at_the_end_it_is_told_how_far_the_search_is(monkeypatch, enough, looked, told):
    lines = []
    pair = [type("Labelled", (), {"label": np.zeros(1)})] * 2
    monkeypatch.setattr(reliability, "unless_flooded", lambda example, detector, wrong_psf: pair)
    found = reliability._find(range(25), "streak_net", 1, lines.append, enough=enough)
    assert len(found) == looked
    assert lines == [f"{2 * n} candidates of {n} of 25 exposures" for n in told]


def test_the_other_psf_is_looked_at_unless_not_wanted_and_floods_are_told(monkeypatch):
    seen, lines = [], []
    monkeypatch.setattr(
        reliability, "unless_flooded", lambda example, detector, wrong_psf: seen.append(wrong_psf) or []
    )
    reliability._find([1], "x", 1, lines.append)
    reliability._find([1], "x", 1, lines.append, wrong_psf=False)
    assert seen == [True, False]
    assert lines[1] == "1 left out: too many candidates, a night would quarantine them"


class Judge:
    """Verdict whose log odds are the first feature, on the candidates of `exposure`."""

    def __init__(self, slope=1.0, offset=0.0):
        self.slope, self.offset, self.nets, self.trees, self.kinds = slope, offset, (), None, None
        self.card = read_card("reliability", "streak_net")

    def log_odds(self, features, stamps):
        assert stamps.dtype == np.float32
        return features[:, 0].astype(np.float64) + features[:, FEATURES.index(STATIC[0])].astype(np.float64)

    def __call__(self, features, stamps):
        return reliability_of(self.log_odds(features, stamps), self.slope, self.offset)


def test_calibration_and_thresholds_are_those_of_the_validation_exposures(monkeypatch, tmp_path):
    written, reported = [], []
    known = [exposure(n, 20, 60) for n in range(3)]
    known[0] = replace(
        known[0], label=np.where(np.arange(80) % 9 == 4, np.where(np.arange(80) % 2, 2, -1), known[0].label)
    )

    def find(examples, wrong_psf=True):
        return [[known[int(one.store)]] * (2 if wrong_psf else 1) if one.store != "9" else [] for one in examples]

    monkeypatch.setattr(reliability, "publishable", lambda one, least: {4.5: one}[least])
    monkeypatch.setattr(reliability, "replace", lambda one, slope, offset, kinds: Judge(slope, offset))
    monkeypatch.setattr(reliability, "_arrays", lambda judges: {})
    monkeypatch.setattr(reliability, "write_model", lambda out, arrays, card: written.append(card))
    monkeypatch.setattr(
        reliability, "report_reliability", lambda *given: reported.append(given) or {"calibration_error": 0.25}
    )
    plan = ReliabilityPlan(false_per_image=2.0, min_snr=4.5)
    examples = [Example(str(n), None, sky) for n, sky in enumerate(("ztf", "ztf-zogy", "ztf"))]
    examples.insert(1, Example("9", None, "ztf-zogy"))  # a flood
    sets = Sets([], examples, {"ztf": examples[:3]})
    reliability._calibrated(tmp_path, Judge(), sets, plan, find, {"other": lambda one: one.features[:, 1]})
    blind = [without_science(one) for one in known]
    every = known + blind
    none = np.zeros(1, np.float32)  # of stamps
    asked = [one.label >= 0 for one in every]
    odds = np.concatenate(
        [Judge().log_odds(one.features, np.zeros(1, np.float32))[use] for one, use in zip(every, asked, strict=True)]
    )
    real = np.concatenate([one.label[use] > 0 for one, use in zip(every, asked, strict=True)])
    slope, offset = calibrate(odds, real)
    (card,) = written
    assert (card["calibration"]["slope"], card["calibration"]["offset"]) == (slope, offset)
    judge = Judge(slope, offset)
    levels = [
        max(
            candidate_threshold(some, [judge(one.features, np.zeros(1, np.float32)) for one in some], 2.0)
            for some in (part[::2], part[1:2])  # drawn, and subtracted: the harder sky decides
        )
        for part in (known, blind)
    ]
    assert (card["threshold"], card["calibration"]["threshold_without_science"]) == pytest.approx(levels)
    assert card["calibration"]["expected_calibration_error"] == 0.25
    assert card["false_alarm_rate"].startswith("2.0 false detections per image")
    ((_, scored, variants, threshold),) = reported
    assert threshold == card["threshold"]
    assert variants["psf_misjudged"][1] == threshold
    assert variants["without_science"][1] == pytest.approx(levels[1])
    assert list(scored[0].scores) == ["verdict", "summed logit", "other"]
    assert (scored[0].sky, len(scored[0].examples)) == ("ztf", 2)
    np.testing.assert_allclose(scored[0].scores["verdict"][1], judge(known[1].features, none))


def test_what_is_learnt_lacks_the_science_image_now_and_then(monkeypatch, tmp_path):
    seen, lines = {}, []
    pairs = [[exposure(0, 3, 5), exposure(1, 3, 5)], [], [exposure(2, 3, 5)]]
    monkeypatch.setattr(reliability, "_find", lambda *given, **options: seen.update(options=options) or pairs)
    monkeypatch.setattr(reliability, "fit_reliability", lambda learn, fit, seed, say: seen.update(learn=learn) or ())
    monkeypatch.setattr(
        reliability, "fit_trees", lambda features, label, plan, seed: seen.update(trees=(len(label), plan, seed))
    )
    monkeypatch.setattr(reliability, "rivals", lambda learn, seed: {"rival": seed})
    monkeypatch.setattr(reliability, "fit_kinds", lambda learn: len(learn))
    monkeypatch.setattr(reliability, "_calibrated", lambda *given: seen.update(given=given) or {})
    monkeypatch.setattr(reliability.torch, "set_num_threads", lambda count: seen.update(threads=count))
    train_reliability(tmp_path, "streak_net", Sets(range(9), [], {}), PLAN, {"data": "x"}, 4, 3, lines.append)
    assert seen["options"]["enough"] == 60_000
    assert lines == []
    for n, (one, whole) in enumerate(zip(seen["learn"], [exposure(k, 3, 5) for k in range(3)], strict=True)):
        np.testing.assert_array_equal(one.features, without_science(whole, 0.4, 4 + n).features)
    assert seen["trees"] == (24, PLAN.trees, 4)
    judges = seen["given"][1]
    assert (judges.slope, judges.offset, seen["threads"], seen["given"][5]) == (1.0, 0.0, 3, {"rival": 4})
    card = judges.card
    assert judges.kinds == 3
    assert (card.threshold, card.sha256) == (0.0, "0" * 64)
    assert card.training == {"data": "x", "candidates_of": "the first 3 of 9 exposures"}
    assert card.version.endswith("/verdict-5")
