from dataclasses import replace

import pytest

from flows.adapters.weights import load_model, read_card
from flows.training.detect import TrainPlan, train_detect
from flows.training.examples import Wanted
from flows.training.window_fit import FitPlan


@pytest.mark.slow
def test_trains_both_models_from_nothing(tmp_path):
    small = (Wanted("ztf", 2, 25, (640, 660)),)
    plan = replace(
        TrainPlan(), train=small, verdict=small, validation=small, test=small, rounds=1,
        first=FitPlan(epochs=4, device="cpu"), later=FitPlan(epochs=2, device="cpu"),
    )  # fmt: skip
    lines = []
    figures = train_detect(tmp_path / "models", tmp_path / "work", plan, 1, lines.append)
    assert figures["windows"]["at_0.5"]["accuracy"] > 0.6
    assert figures["detections"]["ztf"]["c10"]["present"] > 0
    for stage in ("detect", "reliability"):
        card = read_card(stage, str(tmp_path / "models"))
        assert card.training["exposures"] == {"train": 2, "validation": 2, "verdict": 2, "test": 2}
        assert load_model(stage, str(tmp_path / "models")).card == card
    assert {path.name for path in (tmp_path / "models").glob("*.png")} == {
        "training_windows.png",
        "training_verdict.png",
    }
    assert any("new false windows" in line for line in lines)
    fields = {
        path.name
        for name in ("train", "validation", "verdict", "test")
        for path in (tmp_path / "work" / name).rglob("*.fz")
    }
    assert len(fields) == 8, "the four sets must not share an exposure"
