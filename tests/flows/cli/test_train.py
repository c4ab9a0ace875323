import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.pipeline.weights import read_weights, write_model
from tests.support.cli import nightstride
from tests.support.models import CARD


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("detect", "--out --work --challenge --seed --quick --json"), ("screen", "--model --out --work --seed --json"),
        ("spectral-class", "--task --features --rebalance --least-class --name"),
        ("star-galaxy", "--out --work --real --seed --quick --json"),
    ],
)  # fmt: skip
def test_help_names_the_options(stage, options):
    result = CliRunner().invoke(app, ["train", stage, "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    assert all(option in result.stdout for option in options.split())


def test_unknown_stage_is_bad_usage():
    assert CliRunner().invoke(app, ["train", "nonsense"]).exit_code == 2


def test_training_and_calibrating_exclude_each_other():
    result = CliRunner().invoke(app, ["train", "detect", "--reliability-only", "--calibrate"], env={"COLUMNS": "160"})
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize("given", [["--seed", "-1"], ["--seed", "5000000000"], ["--workers", "0"]])
def test_numbers_out_of_range_are_bad_usage(given):
    commands = ["detect", "screen", "star-galaxy"]
    commands += ["spectral-class", "morphology", "anomaly", "membership"] if given[0] == "--seed" else []
    for command in commands:
        result = CliRunner().invoke(app, ["train", command, *given], env={"COLUMNS": "160"})
        assert result.exit_code == 2
        assert "must be at " in result.stderr


def test_screen_of_an_unknown_network_is_bad_configuration(tmp_path):
    result = CliRunner().invoke(app, ["train", "screen", "--model", "no_such", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "there is no model 'no_such'" in result.stderr


def test_a_table_that_cannot_be_used_is_said_in_one_line(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("u,g,r\n18,17,16\n")
    result = CliRunner().invoke(app, ["train", "spectral-class", str(table), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "columns i, z, redshift, class: not in the table under any name: i or modelMag_i" in result.stderr
    wrong = CliRunner().invoke(app, ["train", "spectral-class", str(table), "--rebalance", "adasyn"])
    assert wrong.exit_code == 2


def test_pictures_to_be_scored_only_are_handed_on(tmp_path, monkeypatch):
    asked = []

    def train(*given, **options):
        asked.append((given[:3], options))
        return {}

    monkeypatch.setattr("flows.training.anomaly.train_anomaly", train)
    one, other = tmp_path / "seen.csv", tmp_path / "others.csv"
    for options in (("--data", one, "--normal", "round", "--apply", other), ()):
        result = CliRunner().invoke(app, ["train", "anomaly", *map(str, options), "--out", str(tmp_path), "--json"])
        assert result.exit_code == 0, result.output
    assert asked == [(([one], ["round"], [other]), {"begin_with": None}), (([], [], []), {"begin_with": None})]


def test_weights_that_do_not_fit_are_refused_before_anything_is_simulated(tmp_path):
    card = {"stage": "detect", "input": {"kind": "windows", "bands": 1, "side": 26}, "threshold": 0.5}
    write_model(tmp_path / "own", {"a": np.zeros(2, np.float32)}, CARD | card)
    done = nightstride(
        "train", "detect", "--model", tmp_path / "own", "--reliability-only", "--out", tmp_path / "made", "--work",
        tmp_path / "work", "--json",
    )  # fmt: skip
    assert (done.code, done.summary["error"]["code"]) == (2, "bad_weights"), done.stderr
    assert not (tmp_path / "work").exists()


def test_what_is_confused_of_stars_and_galaxies_is_named(tmp_path, monkeypatch):
    figures = {"real": {"n": 3, "confusion": [[1, 0], [0, 2]], "report": {"star": {"n": 2}}}}
    monkeypatch.setattr("flows.training.star_galaxy.train_star_galaxy", lambda *given: figures)
    result = CliRunner().invoke(app, ["train", "star-galaxy", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    place = lines.index(["galaxy", "star"])
    assert lines[place + 1 : place + 3] == [["galaxy", "1", "0"], ["star", "0", "2"]]


@pytest.mark.parametrize(
    ("part", "more", "said"),
    [
        ("--reliability-only", {"exposures": {"validation": 3, "test": 9}}, "3 exposures"),
        ("--reliability-only", {"exposures": {"validation": 1, "test": 9}}, "1 exposure"),
        (
            "--calibrate",
            {"exposures": {"validation": 56}, "calibrated": {"exposures": {"validation": 2}}},
            "2 exposures",
        ),
    ],
)
def test_a_quick_training_says_what_its_thresholds_rest_on(tmp_path, monkeypatch, part, more, said):
    def train(out, *given):
        card, arrays = read_weights("reliability", "streak_net")
        training = {name: value for name, value in card.training.items() if name != "calibrated"} | more
        write_model(out, arrays, card.model_copy(update={"training": training}).model_dump())
        return {"n": 1}

    monkeypatch.setattr("flows.training.detect.train_detect", train)
    run = nightstride("train", "detect", part, "--quick", "--out", tmp_path)
    (line,) = run.stderr.splitlines()
    assert run.code == 0
    assert f"thresholds are those of {said}," in line
    assert "measure.min_reliability" in line
    assert "thresholds" not in run.stdout
    for options in (("--quick", "--json"), ("--quick", "--quiet"), ()):
        assert nightstride("train", "detect", part, *options, "--out", tmp_path).stderr == ""
