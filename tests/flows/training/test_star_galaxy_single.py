import csv

import numpy as np
import pytest
import torch
from scipy.special import expit

from flows.inputs.cutout_files import META, NPZ
from flows.pipeline.models import load_model
from flows.simulation import cutout_set
from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import ZTF
from flows.training import star_galaxy_single as single
from flows.training.cutout_fit import CutoutFit
from flows.training.fits import TreeFit
from flows.training.star_galaxy_own import CutoutSample, OwnPlan
from flows.training.star_galaxy_single import SinglePlan, by_group, cross_validate, held_out_frames, train_single, tune
from kernels.objects.star_galaxy_weights import new_net
from tests.support.star_galaxy import PLAN, cutouts, images_alone, sample

QUICK = SinglePlan(own=PLAN, tune=CutoutFit(epochs=2, batch=32, rate=3e-3), members=2, folds=3)


def test_no_group_is_divided_and_every_row_is_judged_once():
    group = np.random.default_rng(1).integers(0, 17, 400)
    judged = np.concatenate([judge for _, judge in by_group(group, 5, 3)])
    assert sorted(judged.tolist()) == list(range(400))
    for learn, judge in by_group(group, 5, 3):
        assert not set(group[learn]) & set(group[judge])
        assert len(learn) + len(judge) == 400
        assert 40 < len(judge) < 140


def test_every_frame_is_judged_by_models_that_have_not_seen_it():
    data = images_alone(cutouts())
    found = cross_validate(new_net().eval(), sample(data, 1), data.group, QUICK, 1, lambda line: None)
    assert np.isfinite(found.ours).all()
    assert all(np.isfinite(one).all() for one in found.baselines.values())
    assert len(found.baselines) == 2


def test_tuned_copies_leave_the_start_as_it_was():
    data = images_alone(cutouts())
    start = new_net().eval()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    nets = tune(start, sample(data, 1), data.group, QUICK, 1)
    assert len(nets) == 2
    assert all((value == before[name]).all() for name, value in start.state_dict().items())
    assert not (nets[0].last.weight == nets[1].last.weight).all()


def test_holds_out_the_same_frames_whatever_the_rows():
    group = np.repeat(np.arange(33), 3)
    out = held_out_frames(group)
    assert np.unique(group[out]).tolist() == [3, 9, 15, 21, 27]
    assert (held_out_frames(group[::-1]) == out[::-1]).all()


QUICK_STAR_GALAXY_REAL = SinglePlan(300, PLAN, CutoutFit(epochs=2, batch=32, rate=2e-3), members=2, folds=3)


def write_real(folder, frames=8, count=25):
    """Simulated cutouts in the form of the real ones."""
    drawn = [draw_field(ZTF, 77, frame, count) for frame in range(frames)]
    labels = [row["label"] for one in drawn for row in one.rows]
    folder.mkdir()
    np.savez(folder / NPZ, X=np.concatenate([one.cutouts[:, 0] for one in drawn]), y=np.array(labels))
    with (folder / META).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["FILENAME", "label"])
        writer.writerows([f"frame{n // count}", label] for n, label in enumerate(labels))
    return folder


def test_with_and_without_real_cutouts(tmp_path, monkeypatch):
    monkeypatch.setattr(cutout_set, "PER_FIELD", 30)
    real = write_real(tmp_path / "real")
    (tmp_path / "with").mkdir()
    figures = train_single(tmp_path / "with", tmp_path / "work", real, QUICK_STAR_GALAXY_REAL, 1, 1, lambda line: None)
    assert set(figures["cross_validated"]) == {"ours", "locus_cut", "boosted_moments"}
    assert figures["cross_validated"]["ours"]["n"] == 200
    assert figures["frames"] == 8
    assert figures["frames_held_out"] == [3]
    assert figures["held_out_frames"]["ours"]["n"] == 25
    model = load_model("star_galaxy", str(tmp_path / "with/single_band"))
    assert model.card.training["real"]["sha256"]
    assert len(model.nets) == 2
    assert (tmp_path / "with/star_galaxy_mistakes.png").exists()
    (tmp_path / "bare").mkdir()
    train_single(tmp_path / "bare", tmp_path / "work", None, QUICK_STAR_GALAXY_REAL, 1, 1, lambda line: None)
    assert "real" not in load_model("star_galaxy", str(tmp_path / "bare/single_band")).card.training


def test_the_plan_of_the_shipped_model():
    plan = SinglePlan()
    assert (plan.count, plan.members, plan.folds, plan.share) == (10_000, 3, 5, 0.5)
    assert plan.own == OwnPlan(CutoutFit(8, 8, 128, 3e-3), trees=TreeFit(60, 0.06, 8, 15), copies=0)
    assert plan.tune == CutoutFit(10, 10, 32, 8e-4, 1e-2)


def test_folds_are_as_large_as_can_be_and_drawn_by_the_seed():
    group = np.repeat([3, 5, 6, 8, 9, 12], [10, 4, 4, 3, 2, 1])
    sizes = [len(judge) for _, judge in by_group(group, 3, 1)]
    assert sorted(sizes) == [7, 7, 10]
    assert len(list(by_group(group[:14], 3, 1))) == 2  # two groups fill two folds
    group = np.random.default_rng(1).integers(0, 17, 400)
    found = [[judge.sum(), len(judge)] for _, judge in by_group(group, 5, 3)]
    np.testing.assert_array_equal(found, GOLDEN_FOLDS)


GOLDEN_FOLDS = [[18732, 91], [20519, 90], [14454, 73], [13651, 73], [12444, 73]]


class Told:
    def __init__(self, log_odds):
        self.log_odds = log_odds


def numbers(count):
    """Cutouts that are numbers, every other one of a star."""
    one = torch.arange(float(count))
    return CutoutSample((one, one, one, one), np.arange(count) % 2)


def test_half_of_the_say_is_the_trees_of_the_baseline(monkeypatch):
    data, group = numbers(60), np.repeat(np.arange(12), 5)
    plan, said = SinglePlan(members=2, folds=3, share=0.25), []
    monkeypatch.setattr(single, "tune", lambda start, rest, groups, plan, seed: set(groups.tolist()))
    monkeypatch.setattr(single, "fit_baselines", lambda rest, plan, seed: set((rest.inputs[0].numpy() // 5).tolist()))

    def told(nets, inputs):
        value = inputs[0].numpy()
        if nets != ["start"]:
            assert not set((value // 5).tolist()) & nets
        return Told(value - 20)

    def baselines_of(seen, *inputs):
        assert not set((inputs[0] // 5).tolist()) & seen
        return {"locus_cut": inputs[0] * 10, "boosted_moments": -3 * inputs[0]}

    monkeypatch.setattr(single, "said_of", told)
    monkeypatch.setattr(single, "baselines_of", baselines_of)
    found = cross_validate("start", data, group, plan, 1, said.append)
    value = np.arange(60.0)
    np.testing.assert_allclose(found.networks, value - 20)
    np.testing.assert_allclose(found.ours, 0.75 * (value - 20) - 0.25 * 3 * value)
    np.testing.assert_array_equal(found.simulated_only, value - 20)
    np.testing.assert_array_equal(found.baselines["locus_cut"], 10 * value)
    for number, (line, (_, judge)) in enumerate(zip(said, by_group(group, 3, 1), strict=True), 1):
        right = ((found.ours[judge] > 0) == (judge % 2 == 1)).mean()
        assert line == f"fold {number} of 3: {len(judge)} cutouts, accuracy {right:.3f}"


@pytest.mark.parametrize(("members", "folds"), [(1, 2), (3, 3)])
def test_each_member_is_stopped_by_frames_of_its_own(monkeypatch, members, folds):
    data, group, seen = numbers(60), np.repeat(np.arange(12), 5), []
    start = new_net().eval()

    def fit(net, part, held, plan, seed):
        seen.append((part.inputs[0].numpy().tolist(), held.inputs[0].numpy().tolist(), seed))

    monkeypatch.setattr(single, "fit_cutouts", fit)
    assert len(tune(start, data, group, SinglePlan(members=members), 4)) == members
    splits = list(by_group(group, folds, 5))[:members]
    assert seen == [(learn.tolist(), check.tolist(), 4 + n) for n, (learn, check) in enumerate(splits)]


@pytest.mark.parametrize("real", [True, False])
def test_the_card_tells_of_the_share_of_the_trees_and_of_the_seed(monkeypatch, real):
    seen = {}
    monkeypatch.setattr(single, "limits", lambda judge, train, validation, seed: ("known", 1.5, 2.5))
    monkeypatch.setattr(single, "fit_baselines", lambda sample, plan, seed: seen.update(learnt=sample))
    monkeypatch.setattr(single, "card_of", lambda *given: seen.update(given=given) or {})
    monkeypatch.setattr(single, "arrays_of", lambda nets, known, baselines: {})
    monkeypatch.setattr(single, "write_model", lambda out, arrays, card: seen.update(card=card))
    calibration, about = ((3.5, 4.5), {"real": {"data": "x"}}) if real else (None, {})
    single._write(
        single.Path("out"), ("net",) * 3, "train", "validation", SinglePlan(share=0.25), 7, {"n": 1}, calibration, about
    )
    assert seen["learnt"] == ("validation" if real else "train")
    known, slope, offset, share = seen["given"][5:]
    assert (slope, offset, share) == ((3.5, 4.5, 0.25) if real else (1.5, 2.5, 0.0))
    assert seen["given"][:5] == ("single_band", "2", "without", 20, 3)
    training = seen["card"]["training"]
    assert training["simulated"] == "10000 cutouts like ZTF's i band, seed 8"
    assert ("real" in training, training["seed"], known) == (real, 7, "known")


def test_what_is_measured_on_frames_held_out_is_what_the_model_says(monkeypatch, tmp_path):
    """Everything that learns is replaced by rules; figures then follow from the cutouts."""
    made = dict.fromkeys(("train", "validation", "test"), cutouts(1))
    data = images_alone(cutouts())
    data = type(data)(data.cutouts, data.label, np.repeat(np.arange(6), 50), data.magnitude)
    written = {}
    monkeypatch.setattr(single, "simulated", lambda wanted, workers, say: written.update(wanted=wanted) or made)
    monkeypatch.setattr(single, "fit_own", lambda *given: type("Fitted", (), {"nets": ("start",)}))
    monkeypatch.setattr(single, "read_ztf_cutouts", lambda real: data)
    monkeypatch.setattr(single, "file_digest", lambda path: "digest")
    monkeypatch.setattr(
        single, "tune", lambda start, sample, group, plan, seed: written.update(tuned=group) or ("tuned",)
    )
    odds = np.where(data.label == 1, 2.0, -2.0) * np.where(np.arange(len(data.label)) % 5 == 0, -1, 1)
    crossed = single.CrossValidated(odds, odds, {"locus_cut": odds - 9, "boosted_moments": odds}, -odds)
    monkeypatch.setattr(single, "cross_validate", lambda *given: crossed)
    monkeypatch.setattr(single, "fit_baselines", lambda sample, plan, seed: None)
    said = odds[single.held_out_frames(data.group)]
    monkeypatch.setattr(
        single, "baselines_of", lambda baselines, *inputs: {"locus_cut": said - 9, "boosted_moments": 9 - said}
    )
    monkeypatch.setattr(single, "said_of", lambda nets, inputs: Told(np.resize(said, len(inputs[0]))))
    monkeypatch.setattr(single, "draw_confusion", lambda *given: None)
    monkeypatch.setattr(single, "draw_mistakes", lambda *given: None)
    monkeypatch.setattr(single, "_write", lambda *given: written.update(given=given))
    figures = train_single(tmp_path, tmp_path / "work", tmp_path, SinglePlan(500, share=0.25), 3, 1, lambda line: None)
    assert (written["wanted"].seed, written["wanted"].count) == (4, 500)
    assert set(written["tuned"].tolist()) == {0, 1, 2, 4, 5}
    assert (figures["frames"], figures["frames_held_out"]) == (6, [3])
    slope, offset = single.calibrate(odds[data.group != 3], data.label[data.group != 3] == 1)
    assert written["given"][7] == (slope, offset)
    scores = single.binary_scores(expit(slope * odds + offset), data.label)
    assert figures["cross_validated"]["ours"] == scores | {
        "report": single.class_report(scores["confusion"], single.CLASSES)
    }
    held = data.label[data.group == 3]
    own = expit(slope * (0.75 * said + 0.25 * (9 - said)) + offset)
    assert figures["held_out_frames"]["ours"] == single.binary_scores(own, held)
    assert figures["held_out_frames"]["locus_cut"] == single.binary_scores(expit(said - 9), held)
    assert figures["networks_alone"] == single.binary_scores(expit(odds), data.label)
    assert figures["without_real_cutouts"] == single.binary_scores(expit(-odds), data.label)
    assert len(written["given"][2].label) == 50 + 250
