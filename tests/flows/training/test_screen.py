import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_weights, write_model
from flows.training.examples import Wanted
from flows.training.screen import ScreenPlan, train_screen
from flows.training.screen_fit import ScreenFit
from schemas.errors import Misconfigured


@pytest.mark.slow
def test_makes_a_screen_that_the_search_can_load_and_that_loses_no_hit(tmp_path):
    card, arrays = read_weights("detect", "basic_cnn")
    model = str(tmp_path / "model")
    write_model(tmp_path / "model", arrays, card.model_dump())
    few = (Wanted("ztf", 2, 60, (900, 910)),)
    plan = ScreenPlan(few, few, few, ScreenFit(epochs=12, made=180_000, batch=256))
    lines = []
    figures = train_screen(tmp_path / "model", tmp_path / "work", model, plan, 1, lines.append)
    assert figures["ztf"]["exposures"] == 2
    assert figures["ztf"]["hits"] > 50
    assert figures["ztf"]["hits_lost"] == 0
    assert figures["ztf"]["windows_passed"]["share"] < 0.5
    scorer = load_model("detect", model)
    assert scorer.screen.level < 0
    screen_card, _ = read_weights("screen", model)
    assert screen_card.input["detect_sha256"] == card.sha256
    assert np.isclose(screen_card.threshold, 1 / (1 + np.exp(-scorer.screen.level)))
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"fit", "calibrate", "test"}
    assert "guesses: 2 of 2 exposures" in lines


def test_a_network_that_is_not_there_is_named_before_anything_is_simulated(tmp_path):
    with pytest.raises(Misconfigured, match="no_such"):
        train_screen(tmp_path, tmp_path / "work", "no_such", ScreenPlan(), 1, lambda _: None)
    assert not (tmp_path / "work").exists()


def test_a_network_without_windows_is_refused_before_anything_is_simulated(tmp_path):
    with pytest.raises(Misconfigured, match=r"'streak_net' is a detector of kind 'cells'.*such as basic_cnn"):
        train_screen(tmp_path / "out", tmp_path / "work", "streak_net", ScreenPlan(), 1, print)
    assert list(tmp_path.iterdir()) == []
