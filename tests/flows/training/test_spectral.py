import json

import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.results.evaluation.spectral import evaluate_spectral
from flows.training.spectral import SpectralPlan, simulated_stars, train_spectral
from schemas.errors import BadInput, Misconfigured
from tests.flows.results.evaluation.test_spectral import table

FAST = ("majority", "nearest_colour", "tree")


def test_compares_draws_and_makes_a_model(tmp_path):
    path = table(tmp_path, rows=300)
    plan = SpectralPlan(models=FAST, name="mine")
    figures = train_spectral(path, tmp_path / "out", plan, lambda _: None)
    assert [one["model"] for one in figures["comparison"]] == list(FAST)
    assert figures["importance"].keys() >= {"redshift", "g-r"}
    assert sum(figures["pca_variance"]) == pytest.approx(1, abs=0.01)
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert names == {"comparison.md", "comparison.json", "comparison.png", "mine.json", "mine.safetensors"}
    assert json.loads((tmp_path / "out/comparison.json").read_text()) == json.loads(json.dumps(figures))
    held = figures["model"]["card"]["held_out"]
    assert 40 < held["n"] <= 60
    assert held["accuracy"] > 0.9


def test_a_model_made_here_is_found_by_its_folder(tmp_path):
    path = table(tmp_path, rows=300)
    train_spectral(path, tmp_path / "out", SpectralPlan(models=(), name="superclass"), lambda _: None)
    model = load_model("superclass", str(tmp_path / "out"))
    assert model.version == "superclass 1"
    figures = evaluate_spectral(path, {"redshift": str(tmp_path / "out")})
    assert figures["models"]["redshift"]["model"] == "superclass/superclass 1"
    assert figures["trained_on"] == ["redshift"]


def test_simulated_stars_beside_the_rows_of_a_table_are_on_the_card(tmp_path):
    path = table(tmp_path, rows=300)
    plan = SpectralPlan(features="colours", models=(), stars=200, name="superclass")
    train_spectral(path, tmp_path / "out", plan, lambda _: None)
    about = load_model("superclass", str(tmp_path / "out")).card.training
    assert about["data"].endswith("and 200 simulated stars")
    assert about["command"].endswith("--stars 200")
    assert 0.75 * 500 < sum(about["rows_per_class"].values()) < 0.85 * 500


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    path = table(tmp_path, rows=300)
    for name in ("a", "b"):
        train_spectral(path, tmp_path / name, SpectralPlan(models=(), name="m"), lambda _: None)
    first, second = ((tmp_path / name / "m.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (
            SpectralPlan(features="n9"),
            r"--features: 'n9' is not known\. To fix, choose one of n5, n8, photometry",
        ),
        (SpectralPlan(models=("majority", "forrest")), r"--models: 'forrest' is not known\. To fix, write 'forest'"),
        (SpectralPlan(task="stars"), r"--task: 'stars' is not known\. To fix, write 'star'"),
        (SpectralPlan(rebalance="adasyn"), r"--rebalance: 'adasyn' is not known\. To fix, choose one of none, smote"),
        (SpectralPlan(), "only stars in ugriz are simulated"),
        (SpectralPlan(task="star"), "only stars in ugriz are simulated"),
    ],
)
def test_refuses_plans_that_cannot_be(tmp_path, plan, problem):
    with pytest.raises(Misconfigured, match=problem):
        train_spectral(None, tmp_path / "out", plan, print)
    assert not (tmp_path / "out").exists()


def test_refuses_tables_without_the_columns(tmp_path):
    path = table(tmp_path, redshift=False)
    with pytest.raises(BadInput, match=r"columns \['redshift'\]"):
        train_spectral(path, tmp_path / "out", SpectralPlan(), print)
    with pytest.raises(BadInput, match=r"columns \['gz2class'\]"):
        train_spectral(path, tmp_path / "out", SpectralPlan(task="galaxy", features="n5"), print)


def test_stars_regress_colour_on_temperature(tmp_path):
    path = tmp_path / "stars.csv"
    rng = np.random.default_rng(1)
    lines = ["Vmag,Plx,e_Plx,B-V,SpType,Amag,TargetClass"]
    for n in range(120):
        letter, colour = [("A5V", 0.16), ("G5V", 0.68), ("K5V", 1.15)][n % 3]
        lines.append(f"8,10,1,{colour + rng.normal(0, 0.02):.3f},{letter},20,1")
    path.write_text("\n".join(lines))
    plan = SpectralPlan(task="star", models=("majority", "tree"))
    figures = train_spectral(path, tmp_path / "out", plan, lambda _: None)
    found = figures["temperature_to_colour"]
    assert found["5040/temperature"]["r2"] > 0.97
    assert found["5040/temperature"]["interval"][0] <= found["5040/temperature"]["r2"]
    assert (tmp_path / "out/temperature.png").exists()
    with pytest.raises(Misconfigured, match="no model of 'star'"):
        train_spectral(path, tmp_path / "new", SpectralPlan(task="star", name="x"), print)
    assert not (tmp_path / "new").exists()  # before the comparison, which takes long


def test_simulated_stars_are_of_ten_classes():
    assert len(simulated_stars(100, 1).classes) == 10
