import csv

import numpy as np

from flows.inputs.cutout_files import META, NPZ
from flows.pipeline.models import load_model
from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import ZTF
from flows.training.cutout_fit import CutoutFit
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


QUICK_STAR_GALAXY_REAL = SinglePlan(1000, PLAN, CutoutFit(epochs=2, batch=32, rate=2e-3), members=2, folds=3)


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


def test_with_and_without_real_cutouts(tmp_path):
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
