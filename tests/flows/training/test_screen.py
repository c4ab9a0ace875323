import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.special import logit

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card, read_weights, write_model
from flows.training import screen
from flows.training.examples import Wanted
from flows.training.screen import ScreenPlan, train_screen
from flows.training.screen_fit import Guessed, Rows, ScreenFit
from schemas.errors import Misconfigured


@pytest.mark.slow
def test_makes_a_screen_that_the_search_can_load_and_that_loses_no_hit(tmp_path):
    card, arrays = read_weights("detect", "basic_cnn")
    model = str(tmp_path / "model")
    write_model(tmp_path / "model", arrays, card.model_dump())
    few = (Wanted("ztf", 2, 40, (540, 550)),)
    plan = ScreenPlan(few, few, few, ScreenFit(epochs=8, made=60_000, batch=128))
    lines = []
    figures = train_screen(tmp_path / "model", tmp_path / "work", model, plan, 1, lines.append)
    assert figures["ztf"]["exposures"] == 2
    assert figures["ztf"]["hits"] > 30
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


def test_the_plan_is_that_of_the_shipped_screen():
    made = json.loads(json.dumps(asdict(ScreenPlan())))
    for part in ("fit", "calibrate", "test"):
        for one in made[part]:
            # Which the shipped card does not know yet.
            assert (one.pop("crowding"), one.pop("subtract")) == (1.0, "none")
            assert [one.pop(name) for name in ("lengths", "smoothing", "islands")] == [None, None, None]
    assert read_card("screen", "basic_cnn").training["plan"] == made


def test_each_set_has_a_seed_of_its_own_and_a_purpose(tmp_path, monkeypatch):
    asked, seen, lines, threads = [], {}, [], []
    card = read_card("detect", "basic_cnn")
    floor = float(logit(card.threshold))

    def make_sets(folder, wanted, seed, workers, say):
        asked.append((folder.name, wanted, seed))
        return [f"{folder.name} {n}" for n in range(sum(part.count for part in wanted))]

    def telling_rows(example, model, low, share):
        seen.setdefault("rows", []).append((example, low, share))
        return Rows(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))

    def fit(rows, exact, level, how, say):
        seen["fit"] = (len(rows.logits), level, threads[-1])
        return ("layers",)

    def guessed(example, model, layers):
        return Guessed(np.full(40, float(example[-1])), np.full(40, 9.0))

    monkeypatch.setattr(screen, "make_sets", make_sets)
    monkeypatch.setattr(screen, "telling_rows", telling_rows)
    monkeypatch.setattr(screen, "fit_screen", fit)
    monkeypatch.setattr(screen, "guessed", guessed)
    monkeypatch.setattr(screen.torch, "set_num_threads", threads.append)
    monkeypatch.setattr(screen, "safe_level", lambda found, level: seen.update(level=(len(found), level)) or -2.0)
    monkeypatch.setattr(
        screen, "screen_figures", lambda found, presets, floor, level: {"presets": presets, "level": level}
    )
    monkeypatch.setattr(screen, "screen_arrays", lambda layers: {})
    monkeypatch.setattr(screen, "write_model", lambda out, arrays, made: seen.update(card=made))
    few = (Wanted("ztf", 2), Wanted("llnl", 1))
    plan = ScreenPlan(few, few[:1], few, ScreenFit(low=-1.25), seed=3)
    figures = train_screen(tmp_path / "out", tmp_path / "work", "basic_cnn", plan, 1, lines.append)
    assert asked == [("fit", few, 3500), ("calibrate", few[:1], 3600), ("test", few, 3700)]
    assert seen["rows"] == [(f"fit {n}", pytest.approx(floor - 1.25), 0.05) for n in range(3)]
    assert (seen["fit"], seen["level"]) == ((6, floor, 1), (2, floor))
    assert figures == {"presets": ["ztf", "ztf", "llnl"], "level": -2.0}
    assert lines == [
        *(f"windows: {n} of 3 exposures" for n in (1, 2, 3)), *(f"guesses: {n} of 2 exposures" for n in (1, 2)),
        *(f"guesses: {n} of 3 exposures" for n in (1, 2, 3)),
    ]  # fmt: skip
    made = seen["card"]
    assert made["threshold"] == pytest.approx(1 / (1 + np.exp(2.0)))
    assert (made["input"]["threshold"], made["input"]["detect_sha256"]) == (card.threshold, card.sha256)
    assert made["calibration"]["level_log_odds"] == -2.0
