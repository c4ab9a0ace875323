import pickle

import pytest

from flows.settings_file import load_settings
from schemas.errors import Misconfigured


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_command_line_over_environment_over_file(tmp_path, monkeypatch):
    (tmp_path / "night.toml").write_text("[detect]\nstride = 5\nbatch = 64\n[execution]\nworkers = 3\nretries = 1\n")
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__BATCH", "128")
    monkeypatch.setenv("NIGHTSTRIDE_EXECUTION__WORKERS", "4")
    settings = load_settings(tmp_path / "night.toml", {"execution": {"workers": 5, "retries": None}})
    assert (settings.detect.stride, settings.detect.batch) == (5, 128)
    assert (settings.execution.workers, settings.execution.retries) == (5, 1)
    assert settings.detect.window == 26


def test_reads_the_file_of_the_working_folder(tmp_path):
    assert load_settings().tiles.tile == 1008
    (tmp_path / "nightstride.toml").write_text("[tiles]\ntile = 504\n")
    assert load_settings().tiles.tile == 504


def test_other_variables_of_ours_are_no_settings(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_DATA", "/data")
    load_settings()


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("[tiles]\ntile = -1\n", "tiles.tile", "greater than 0, got -1"),
        ("[tiles]\nsize = 4\n", "tiles.size", r"in \[tiles\]\. To fix, choose one of tile, chunk, codec"),
        ("[tils]\ntile = 4\n", "tils", r"no such section\. To fix, write 'tiles'; known are fits, tiles,"),
        ("[tiles\n", "bad.toml", "cannot be read as TOML"),
    ],
)
def test_names_the_setting_at_fault(tmp_path, text, where, says):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(Misconfigured, match=says) as caught:
        load_settings(tmp_path / "bad.toml")
    assert caught.value.where.endswith(where)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Misconfigured, match=r"none\.toml: does not exist\. To fix, correct the path"):
        load_settings(tmp_path / "none.toml")


def test_a_misspelt_section_in_the_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_DETEKT__BATCH", "3")
    with pytest.raises(Misconfigured, match=r"NIGHTSTRIDE_DETEKT__BATCH: no section 'detekt'"):
        load_settings()


def test_settings_travel_to_a_worker_as_they_are(monkeypatch):
    settings = load_settings(overrides={"detect": {"batch": 7}})
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__BATCH", "9")
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_a_password_in_a_wrong_value_is_not_shown(tmp_path):
    path = tmp_path / "nightstride.toml"
    path.write_text('[fetch]\nurl = "https://observer:hunter2@archive.org/ibe?x"\n')
    with pytest.raises(Misconfigured, match=r"got 'https://archive\.org") as caught:
        load_settings(path)
    assert "hunter2" not in str(caught.value)
