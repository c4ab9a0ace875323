from dataclasses import replace

import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card
from flows.training.candidates import brighter, candidate_threshold, candidates, without_science
from flows.training.fits import TreeFit
from flows.training.reliability import Sets, VerdictPlan, calibrate_verdict, train_verdict
from flows.training.reliability_fit import VerdictFit
from schemas.dia_source import FEATURES
from schemas.errors import Misconfigured
from tests.support.models import write_bright, write_cells

PLAN = VerdictPlan(VerdictFit(networks=2, epochs=2, batch=16), TreeFit(trees=5, least=5), false_per_image=2.0)


@pytest.fixture(scope="module")
def trained(examples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdict")
    write_bright(folder)
    sets = Sets(examples, examples, {"ztf": examples[:1]})
    figures = train_verdict(folder, str(folder), sets, PLAN, {"data": "a test"}, 1, 1, lambda line: None)
    return folder, figures


@pytest.mark.slow
def test_the_card_names_the_detector_and_loads(trained):
    folder, figures = trained
    card, detector = read_card("reliability", str(folder)), read_card("detect", str(folder))
    assert card.input["detector_sha256"] == detector.sha256
    assert (card.input["features"], card.input["networks"]) == (list(FEATURES), 2)
    assert (card.name, card.version) == (detector.name, f"{detector.name}-{detector.version}/verdict-3")
    assert card.metrics == figures
    assert card.calibration["expected_calibration_error"] == figures["calibration_error"]
    assert len(load_model("reliability", str(folder)).nets) == 2


@pytest.mark.slow
def test_the_threshold_leaves_the_wanted_number_of_false(trained, examples):
    folder, _ = trained
    net = load_model("reliability", str(folder))
    pairs = (candidates(example, str(folder), wrong_psf=False) for example in examples)
    found = [brighter(one, PLAN.min_snr) for pair in pairs for one in pair]
    assert len(found[0].label) > 0
    for science, each in ((True, found), (False, list(map(without_science, found)))):
        scores = [net(one.features, one.stamps.astype(np.float32)) for one in each]
        false = np.concatenate([score[one.label == 0] for one, score in zip(each, scores, strict=True)])
        level = net.card.least_reliability(science)
        assert (false >= level).sum() <= 2 * len(examples)
        assert level == max(candidate_threshold(each, scores, 2.0), 0.0)


@pytest.mark.slow
def test_calibrating_anew_gives_what_the_training_gave(trained, examples, tmp_path):
    folder, figures = trained
    sets = Sets([], examples, {"ztf": examples[:1]})
    again = calibrate_verdict(tmp_path, str(folder), sets, PLAN, {"data": "another test"}, 1, lambda line: None)
    before, after = (read_card("reliability", str(place)) for place in (folder, tmp_path))
    assert (after.calibration, after.threshold, after.sha256) == (before.calibration, before.threshold, before.sha256)
    assert after.training == before.training | {"calibrated": {"data": "another test"}}
    learnt = ("logistic regression, at 1 false", "boosted trees, at 1 false")
    assert again["ztf"] == {name: value for name, value in figures["ztf"].items() if name not in learnt}


@pytest.mark.slow
def test_stricter_thresholds_are_higher(trained, examples, tmp_path):
    folder, _ = trained
    sets, strict = Sets([], examples, {"ztf": examples[:1]}), replace(PLAN, false_per_image=0.0)
    calibrate_verdict(tmp_path, str(folder), sets, strict, {}, 1, lambda line: None)
    before, after = (read_card("reliability", str(place)) for place in (folder, tmp_path))
    assert after.threshold > before.threshold
    assert after.false_alarm_rate.startswith("0.0 false detections per image")


@pytest.mark.slow
def test_the_verdict_on_another_detector_is_not_calibrated(trained, examples, tmp_path):
    for file in trained[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_cells(tmp_path, threshold=0.5)
    with pytest.raises(Misconfigured, match="was trained on the candidates of the detector"):
        calibrate_verdict(tmp_path, str(tmp_path), Sets([], examples, {}), PLAN, {}, 1, lambda line: None)


@pytest.mark.slow
def test_it_stops_searching_when_there_are_enough_candidates(examples, tmp_path):
    write_bright(tmp_path)
    told, plan = [], replace(PLAN, enough=1)
    sets = Sets([examples[0]] * 3, examples[:1], {"ztf": examples[:1]})
    train_verdict(tmp_path, str(tmp_path), sets, plan, {"data": "a test"}, 1, 1, told.append)
    assert [line.partition(" candidates of ")[2] for line in told if "candidates of" in line] == [
        "1 of 3 exposures",
        "1 of 1 exposures",
        "1 of 1 exposures",
    ]
    assert read_card("reliability", str(tmp_path)).training["candidates_of"] == "the first 1 of 3 exposures"
