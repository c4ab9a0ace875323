import csv

import numpy as np

from flows.adapters.cutout_ztf import META, NPZ
from flows.adapters.weights import load_model
from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import ZTF
from flows.training.cutout_fit import CutoutFit
from flows.training.star_galaxy_real import train_single
from flows.training.star_galaxy_single import SinglePlan
from tests.flows.training.star_galaxy_support import PLAN

QUICK = SinglePlan(1000, PLAN, CutoutFit(epochs=2, batch=32, rate=2e-3), members=2, folds=3)


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
    figures = train_single(tmp_path / "with", tmp_path / "work", real, QUICK, 1, 1, lambda line: None)
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
    train_single(tmp_path / "bare", tmp_path / "work", None, QUICK, 1, 1, lambda line: None)
    assert "real" not in load_model("star_galaxy", str(tmp_path / "bare/single_band")).card.training
