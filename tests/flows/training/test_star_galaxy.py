import json
from dataclasses import replace

import pytest

from flows.pipeline.models import load_model
from flows.simulation import cutout_set
from flows.storage.digest import file_digest
from flows.training.cutout_fit import CutoutFit
from flows.training.fits import TreeFit
from flows.training.star_galaxy import StarGalaxyPlan, quick_star_galaxy_plan, train_star_galaxy
from flows.training.star_galaxy_inputs import CONFIGURATIONS
from flows.training.star_galaxy_own import OURS, OwnPlan
from flows.training.star_galaxy_planes import RivalPlan
from flows.training.star_galaxy_single import SinglePlan
from schemas.errors import BadInput, Misconfigured
from tests.flows.results.evaluation.test_star_galaxy import galstar
from tests.support.star_galaxy import cutouts


def test_the_full_plan_is_that_of_the_source():
    plan = StarGalaxyPlan()
    assert plan.count == 34_000
    assert set(plan.rivals.fits) == {"mlp", "basic_cnn", "resnet"}
    assert all(fit.batch == 64 for fit in plan.rivals.fits.values())
    assert quick_star_galaxy_plan().count < plan.count


def test_what_cannot_be_used_is_told_before_anything_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    for error, out, real, galstar_path in (
        (Misconfigured, tmp_path / "file", None, None),
        (BadInput, tmp_path / "out", tmp_path / "nowhere", None),
        (BadInput, tmp_path / "out", None, tmp_path / "nowhere.csv"),
    ):
        with pytest.raises(error):
            train_star_galaxy(out, tmp_path / "work", real, quick_star_galaxy_plan(), 1, 1, pytest.fail, galstar_path)
    assert not (tmp_path / "work").exists()


@pytest.fixture
def few(monkeypatch):
    """The quick plan with a third of its cutouts, drawn in as many fields."""
    monkeypatch.setattr(cutout_set, "PER_FIELD", 30)
    plan = quick_star_galaxy_plan()
    return replace(plan, count=300, nights=300, single=replace(plan.single, count=300))


@pytest.mark.slow
def test_the_challenge_takes_the_place_of_the_deep_cutouts(tmp_path, few):
    data = cutouts(4)
    path = galstar(tmp_path / "galstar.csv", data)
    one = replace(few, rivals=RivalPlan({"basic_cnn": CutoutFit(epochs=1)}))
    figures = train_star_galaxy(tmp_path / "out", tmp_path / "work", None, one, 1, 1, lambda line: None, path)
    assert figures["cutouts"].startswith(
        f"{len(data)} cutouts of galstar.csv (sha256 {file_digest(path)}), split by row"
    )
    assert figures["simulated"][OURS]["all"]["n"] == round(0.2 * len(data))
    assert all(row["n"] == 0 for row in figures["simulated"][OURS]["all"]["by_magnitude"])  # it names no magnitudes
    card = load_model("star_galaxy", str(tmp_path / "out/multi_band")).card
    assert figures["cutouts"] in card.training["data"]
    assert card.training["licence"] == "that of the challenge"
    assert not (tmp_path / "work/deep").exists()


@pytest.mark.slow
def test_everything_is_trained_and_written(tmp_path, few):
    figures = train_star_galaxy(tmp_path / "out", tmp_path / "work", None, few, 1, 1, lambda line: None)
    assert set(figures["simulated"]) == {"mlp", "basic_cnn", "resnet", OURS, "locus cut", "boosted moments"}
    assert set(figures["nights"]) == {"mlp", "basic_cnn", "resnet", OURS, "locus cut", "boosted moments"}
    assert set(figures["models_on_simulated"]) == {"mlp", "basic_cnn", "resnet"}
    assert figures["nights"][OURS]["all"]["n"] > 0
    for name in ("mlp", "basic_cnn", "resnet", OURS):
        assert set(figures["simulated"][name]) == set(CONFIGURATIONS)
    assert json.loads((tmp_path / "out/star_galaxy.json").read_text())["simulated"] == figures["simulated"]
    for name in ("curves", "confusion", "scores"):
        assert (tmp_path / f"out/star_galaxy_{name}.png").stat().st_size > 5000
    assert load_model("star_galaxy", str(tmp_path / "out/multi_band")).psf == "with"
    assert load_model("star_galaxy", str(tmp_path / "out/single_band")).psf == "without"
    for name in ("mlp", "basic_cnn", "resnet"):
        model = load_model("star_galaxy", str(tmp_path / "out" / name))
        assert model.bands == 4
        assert model.card.metrics["nights"]["n"] == figures["nights"][name]["all"]["n"]


def test_the_quick_plan_is_as_short_as_can_be():
    assert StarGalaxyPlan() == StarGalaxyPlan(34_000, 20_000, RivalPlan(), OwnPlan(), SinglePlan())
    short, trees = CutoutFit(2, 2, 64, 2e-3, 1e-3), TreeFit(20, 0.08, 31, 30)
    assert quick_star_galaxy_plan() == StarGalaxyPlan(
        1000,
        1000,
        RivalPlan({"basic_cnn": short, "resnet": short, "mlp": short}),
        OwnPlan(replace(short, batch=32), 1, trees, 2, 0.3),
        SinglePlan(1000, OwnPlan(short, 1, trees, 0, 0.3), short, 2, 3, 0.5),
    )
