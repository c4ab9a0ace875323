import json

import pytest

from flows.adapters.weights import load_model
from flows.training.star_galaxy import OURS, StarGalaxyPlan, quick_plan, train_star_galaxy
from flows.training.star_galaxy_inputs import CONFIGURATIONS


def test_the_full_plan_is_that_of_the_source():
    plan = StarGalaxyPlan()
    assert plan.count == 34_000
    assert set(plan.rivals.fits) == {"MLP", "basic_cnn", "ResNet"}
    assert all(fit.batch == 64 for fit in plan.rivals.fits.values())
    assert quick_plan().count < plan.count


@pytest.mark.slow
def test_everything_is_trained_and_written(tmp_path):
    figures = train_star_galaxy(tmp_path / "out", tmp_path / "work", None, quick_plan(), 1, 1, lambda line: None)
    assert set(figures["simulated"]) == {"MLP", "basic_cnn", "ResNet", OURS, "locus cut", "boosted moments"}
    assert set(figures["nights"]) == {OURS, "locus cut", "boosted moments"}
    assert figures["nights"][OURS]["all"]["n"] > 0
    for name in ("MLP", "basic_cnn", "ResNet", OURS):
        assert set(figures["simulated"][name]) == set(CONFIGURATIONS)
    assert json.loads((tmp_path / "out/star_galaxy.json").read_text())["simulated"] == figures["simulated"]
    for name in ("curves", "confusion", "scores"):
        assert (tmp_path / f"out/star_galaxy_{name}.png").stat().st_size > 5000
    assert load_model("star_galaxy", str(tmp_path / "out/multi_band")).psf == "with"
    assert load_model("star_galaxy", str(tmp_path / "out/single_band")).psf == "without"
