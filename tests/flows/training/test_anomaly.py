import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from flows.cli.app import app
from flows.inputs.picture_files import list_pictures
from flows.pipeline.weights import read_card
from flows.results.evaluation.anomaly import anomaly_figures, evaluate_anomaly, stands_for_real
from flows.training.anomaly import AnomalyPlan, anomaly_plan, read_plan, train_anomaly
from flows.training.shape_codes import CodesPlan
from flows.training.svdd_fit import COMPONENTS, SvddPlan, fit_autoencoder, fit_rivals, fit_sphere, reconstruction_error
from kernels.pictures.svdd import SvddDecoder, SvddEncoder, contrast_normalised
from kernels.statistics.class_scores import area_under_roc
from schemas.errors import BadInput, Misconfigured

PLAN = AnomalyPlan(crop=1.0, side=32, simulated=0, codes=CodesPlan(galaxies=32, epochs=2, batch=16))
SVDD = replace(PLAN, kind="svdd", svdd=SvddPlan(side=64, epochs=2, pretrain_epochs=2, milestone=1, batch=16, rate=1e-3))


def disc(rng, ratio):
    """A bright ellipse of any angle on noise."""
    y, x = np.mgrid[:64, :64] - 31.5
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    light = 200 * np.exp(-np.hypot(u, v / ratio) / 7) + rng.normal(10, 3, (64, 64))
    return np.repeat(np.clip(light, 0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("pictures")
    rows = []
    for label, ratio, count in (("whole", 0.9, 60), ("thin", 0.15, 20)):
        for n in range(count):
            Image.fromarray(disc(rng, ratio)).save(folder / f"{label}{n}.png")
            rows.append((f"{label}{n}.png", label))
    (folder / "bad.png").write_bytes(b"no picture")
    with (folder / "labelled.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("location", "label"), *rows, ("bad.png", "whole")])
    with (folder / "others.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("location", "label"), *((name, "") for name, _ in rows[::7])])
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    figures = train_anomaly(
        [folder / "labelled.csv"], ["whole"], [folder / "others.csv"], out, PLAN, 1, 1, lambda line: None
    )
    return out, figures


def test_training_writes_all_that_is_promised(folder, made):
    out, figures = made
    assert {path.name for path in out.iterdir()} == {
        "anomaly.json", "anomaly.safetensors", "results.json", "config.json", "test_scores.csv", "apply_scores.csv",
        "scores.png",
    }  # fmt: skip
    assert json.loads((out / "results.json").read_text()) == figures
    assert read_plan(out / "config.json") == (PLAN, ["whole"], 1)
    with (out / "apply_scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list_pictures(folder / "others.csv"))
    assert {row["verdict"] for row in rows} <= {"0.0", "0.2", "0.5", "0.8", "1.0"}
    assert [path.split("/")[-1] for path in figures["unreadable"]] == ["bad.png"]
    assert set(figures["rivals"]) == {"isolation forest on moments", "rest of 18 principal components"}


def test_what_is_thin_is_anomalous_among_what_is_round(made):
    assert made[1]["auc"] > 0.9
    assert made[1]["n"] == 12 + 20, "a fifth of the normal ones, and all others"
    assert sorted(made[1]["limits"]) == made[1]["limits"]


def test_the_model_is_scored_again_by_the_command_and_knows_what_it_has_seen(folder, made):
    asked = ["evaluate", "anomaly", "--data", str(folder / "labelled.csv"), "--model", str(made[0])]
    result = CliRunner().invoke(app, [*asked, "--normal", "whole", "--unseen", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["trained_on"] == 48
    assert found["n"] == made[1]["n"]
    assert found["auc"] == pytest.approx(made[1]["auc"], abs=0.01)
    refused = CliRunner().invoke(app, [*asked, "--json"])
    assert refused.exit_code != 0
    assert "no readable picture that is labelled" in refused.output


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_deep_svdd_trains_and_tells_the_error_of_its_autoencoder(folder, tmp_path, objective):
    plan = replace(SVDD, svdd=replace(SVDD.svdd, objective=objective))
    normal, absent = ["whole", "hole"], "No picture has the label hole of --normal; labels are"
    told = list[str]()
    figures = train_anomaly([folder / "labelled.csv"], normal, [], tmp_path, plan, 1, 1, told.append)
    assert 0 <= figures["auc"] <= 1
    assert "error of the autoencoder" in figures["rivals"]
    assert sum(line.startswith(absent) for line in told) == 1
    told.clear()
    again = evaluate_anomaly([folder / "labelled.csv"], normal, str(tmp_path), unseen=True, say=told.append)
    assert again["auc"] == pytest.approx(figures["auc"], abs=0.02)
    assert len(told) == 1
    assert told[0].startswith(absent)
    with pytest.raises(Misconfigured, match="other codes"):
        train_anomaly([folder / "labelled.csv"], [], [], tmp_path / "x", PLAN, 1, 1, print, begin_with=str(tmp_path))


def test_the_sphere_closes_round_normal_pictures_and_the_autoencoder_learns():
    rng = np.random.default_rng(2)
    pictures = torch.from_numpy(np.stack([disc(rng, 0.8) for _ in range(40)])).permute(0, 3, 1, 2)
    torch.manual_seed(1)
    encoder, decoder = SvddEncoder(64), SvddDecoder(64)
    plan = SvddPlan(side=64, epochs=12, pretrain_epochs=6, batch=20, rate=1e-3, pretrain_rate=1e-3, milestone=10)
    before = float(reconstruction_error(encoder, decoder, pictures).mean())
    lines = []
    fit_autoencoder(encoder, decoder, pictures, plan, 1, lines.append)
    assert float(reconstruction_error(encoder, decoder, pictures).mean()) < before
    centre, radius2 = fit_sphere(encoder, pictures, plan, 1, lines.append)
    assert radius2 == 0.0
    assert (centre.abs() >= 0.1 - 1e-6).all()
    losses = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("sphere")]
    assert losses[-1] < 0.8 * losses[0]
    torch.manual_seed(1)
    _, radius2 = fit_sphere(SvddEncoder(64), pictures, replace(plan, objective="soft-boundary"), 1, lines.append)
    assert radius2 > 0


def test_principal_components_score_what_they_leave_as_numpy_finds_it():
    rng = np.random.default_rng(4)
    normal, other = (torch.from_numpy(rng.integers(0, 255, (30, 3, 8, 8), dtype=np.uint8)) for _ in range(2))
    (found,) = [score(other) for name, score in fit_rivals(normal, 1).items() if "principal" in name]
    flat, seen = (contrast_normalised(one).flatten(1).numpy().astype(np.float64) for one in (normal, other))
    axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][: min(COMPONENTS, 15)]
    rest = seen - flat.mean(0)
    rest = rest - rest @ axes.T @ axes
    np.testing.assert_allclose(found, (rest**2).mean(1), rtol=1e-3)


def test_figures_are_of_anomalous_against_normal():
    scores, verdicts = np.array([0.1, 0.2, 0.9, 0.15, 0.8]), np.array([0.0, 0.2, 1.0, 0.0, 0.8], np.float32)
    found = anomaly_figures(scores, verdicts, ["real", "real", "odd", "odd", "sim"], ["real"])
    assert found["auc"] == pytest.approx(area_under_roc(scores[2:], scores[:2]).value, abs=1e-5)
    assert found["confusion"] == [[2, 0], [1, 2]]
    assert found["verdicts"]["odd"] == {"0.0": 1, "0.2": 0, "0.5": 0, "0.8": 0, "1.0": 1}
    assert found["per_label"]["sim"]["auc"] == 1.0
    assert found["per_label"]["real"]["auc"] is None


def test_labels_of_real_galaxies_are_known():
    assert all(map(stands_for_real, ("real", "Real galaxies", "normal", "Galaxy", "spirals", "edge-on")))
    assert not any(map(stands_for_real, ("simulated", "illustris", "unreal", "planet")))


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("forest", {}, "'forest' is not known"),
        ("one-class", {"nu": 1.5}, "nu: is 1.5"),
        ("one-class", {"side": 100}, "100 px"),
    ],
)
def test_plans_that_cannot_be_are_refused(folder, tmp_path, kind, settings, told):
    def trained():
        train_anomaly([folder / "labelled.csv"], [], [], tmp_path, anomaly_plan(kind, 256, settings), 1, 1, print)

    with pytest.raises(Misconfigured, match=told):
        trained()


def test_too_few_normal_pictures_no_data_and_a_file_that_is_no_plan_are_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="0 readable pictures are labelled"):
        train_anomaly([folder / "labelled.csv"], ["square"], [], tmp_path, PLAN, 1, 1, print)
    monkeypatch.delenv("NIGHTSTRIDE_DATA", raising=False)
    with pytest.raises(Misconfigured, match="no pictures to learn from"):
        train_anomaly([], [], [], tmp_path, PLAN, 1, 1, print)
    (tmp_path / "config.json").write_text('{"kind": "codes"}')
    with pytest.raises(BadInput, match="is not a plan of a training"):
        read_plan(tmp_path / "config.json")
    with pytest.raises(Misconfigured, match="the folder cannot be made there"):
        train_anomaly([folder / "labelled.csv"], [], [], tmp_path / "config.json", PLAN, 1, 1, print)


def test_the_shipped_model_calls_simulated_galaxies_anomalous(tmp_path):
    from flows.pipeline.weights import read_weights
    from flows.simulation.galaxy_pictures import drawn_shape, galaxy_picture
    from kernels.pictures.anomaly_model import AnomalyModel

    model = AnomalyModel(*read_weights("anomaly", "default"))
    rng = np.random.default_rng(11)
    plain = model([galaxy_picture(drawn_shape(1, rng), rng) for _ in range(5)])
    assert (model.verdicts(plain) >= 0.8).all()
    assert model([]).shape == (0,)


def test_codes_are_fitted_as_those_that_are_shipped_were():
    made = read_card("anomaly", "default").training["plan"]
    assert {name: value for name, value in asdict(CodesPlan()).items() if name in made} == made
    assert set(made) == set(asdict(CodesPlan()))
