import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ValidationError

from flows.runtime import settings as module
from flows.runtime.settings import load_settings, misconfigured, require_there
from schemas.errors import Misconfigured, choice
from schemas.settings import Section, Settings


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
    assert settings.detect.precision == "auto"


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
        ("[tiles\n", "bad.toml", r"cannot be read: it is not TOML at line 1, column 7\. To fix, correct it"),
        ("[tiles]\ntile = 9\ntile = 8\n", "bad.toml", "a name is given for the second time before line 3, column 9"),
        ("[tiles]\n[tiles]\n", "bad.toml", "a name is given for the second time before line 2, column 7"),
        (f"a = {2000 * '['}", "bad.toml", "its lists or tables lie too deep within each other"),
        ("[tiles]\ntile = 'x", "bad.toml", "cannot be read: it is not TOML: its end comes too early"),
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


def test_a_list_in_the_environment_is_json_and_the_variable_at_fault_is_named(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_WATCH__STOP_S", "20")
    monkeypatch.setenv("NIGHTSTRIDE_WATCH__ALLOW", '["/data"]')
    assert (load_settings().watch.allow, load_settings().watch.stop_s) == (("/data",), 20.0)
    monkeypatch.delenv("NIGHTSTRIDE_WATCH__ALLOW")
    names = ("NIGHTSTRIDE_WATCH__ALLOW", "nightstride_Watch__allow", "NIGHTSTRIDE_CLUSTER__SLURM__DIRECTIVES")
    for name, value in (*((one, "/data") for one in names), ("NIGHTSTRIDE_TILES", "{1")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(Misconfigured, match=rf"^{name}: cannot be read .* JSON") as caught:
                load_settings()
            assert value not in str(caught.value)


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


def told(**sections):
    with pytest.raises(ValidationError) as caught:
        Settings(**sections)
    return misconfigured(caught.value.errors())


@pytest.mark.parametrize(
    ("section", "given", "where", "says"),
    [
        ("tiles", {"tile": -1}, "tiles.tile", "must be greater than 0, got -1."),
        ("detect", {"device": "gpu"}, "detect.device", "must be 'auto', 'cpu' or 'cuda', got 'gpu'."),
        ("detect", {"stride": "x"}, "detect.stride", "must be a whole number, got 'x'."),
        ("merge", {"max_candidates": 1.5}, "merge.max_candidates", "must be a whole number, got 1.5."),
        ("quality", {"fail_night": "maybe"}, "quality.fail_night", "must be true or false, got 'maybe'."),
        ("detect", {"model": 3}, "detect.model", "must be a text, in quotes, got 3."),
        ("execution", 3, "execution", "must be a table of keys and values, got 3."),
        ("inject", {"snr": [5, 2]}, "inject.snr", "must be two positive numbers, the smaller first, got [5.0, 2.0]"),
        (
            "cluster",
            {"slurm": {"minimum_jobs": 9, "maximum_jobs": 1}},
            "cluster.slurm",
            "minimum_jobs = 9 is more than",
        ),
    ],
)
def test_a_rule_in_our_words_with_the_value(section, given, where, says):
    error = told(**{section: given})
    assert error.where == where
    assert error.problem.startswith(says)
    assert error.remedy.startswith("correct it in the settings file")
    assert "Input" not in str(error)


@pytest.mark.parametrize(
    ("section", "given", "says"),
    [
        ("detect", {"strid": 5}, "detect.strid: there is no setting of this name in [detect]. To fix, write 'stride';"),
        ("cluster", {"slurm": {"foldr": 2}}, "cluster.slurm.foldr: there is no setting of this name in "
         "[cluster.slurm]. To fix, write 'folder';"),
        ("dtect", {"stride": 5}, "dtect: there is no such section. To fix, write 'detect'; known are fits, tiles,"),
        ("workers", 3, "workers: there is no such section. To fix, write it under [execution]."),
        ("tiles", {"stride": 7}, "tiles.stride: there is no setting of this name in [tiles]. "
         "To fix, write it under [detect]."),
    ],
)  # fmt: skip
def test_an_unknown_name_is_told_with_the_nearest(section, given, says):
    assert str(told(**{section: given})).startswith(says)


def test_the_file_is_named_where_several_settings_are_wrong(tmp_path):
    file = tmp_path / "q.toml"
    file.write_text("[detect]\ntreshold = 1\n[measure]\nmin_reliability = 2\n")
    with pytest.raises(Misconfigured, match=r"settings, with .*q\.toml: 2 are wrong:"):
        load_settings(file)


def test_everything_that_is_wrong_is_told_at_once():
    error = told(tiles={"tile": -1, "chunck": 4}, fetch={"url": "https://observer:hunter2@archive.org/x?y"}, tils={})
    first, *lines, last = str(error).split("\n")
    assert first == "settings: 4 are wrong:"
    assert sorted(line.strip().partition(": ")[0] for line in lines) == [
        "fetch.url",
        "tiles.chunck",
        "tiles.tile",
        "tils",
    ]
    assert any(line.startswith("  tiles.chunck: there is") and "to fix, write 'chunk';" in line for line in lines)
    assert "  tiles.tile: must be greater than 0, got -1." in lines
    assert last.strip().startswith("To fix, correct them in the settings file")
    assert "hunter2" not in str(error)


def test_what_is_there_passes(tmp_path):
    (tmp_path / "list.csv").touch()
    for path in (tmp_path, tmp_path / "list.csv"):
        require_there(path, "another.")


def test_what_is_not_there_is_named_with_what_to_do(tmp_path):
    with pytest.raises(
        Misconfigured, match=r"list\.csv: does not exist\. To fix, correct the path, or name a list\."
    ) as e:
        require_there(tmp_path / "list.csv", "a list.")
    assert e.value.code == "no_such_file"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("stride_px", "write 'stride'; known are window, stride."),
        ("Window", "write 'window'; known are window, stride."),
        ("zzz", "choose one of window, stride."),
        ("", "choose one of window, stride."),
    ],
)
def test_the_nearest_name_comes_first(given, says):
    assert choice(given, ("window", "stride")) == says


def test_a_file_is_utf_8_whatever_the_locale_and_may_have_a_mark_of_it(tmp_path):
    (tmp_path / "nightstride.toml").write_bytes(b"\xef\xbb\xbf# Gr\xc3\xb6\xc3\x9fe\n[tiles]\ntile = 504\n")
    code = "from flows.runtime.settings import load_settings; print(load_settings().tiles.tile)"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=plain, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("504\n", "")


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "bad.toml").write_bytes(b"# \xff\n")
    with pytest.raises(Misconfigured, match="cannot be read: byte 2 is not UTF-8"):
        load_settings(tmp_path / "bad.toml")


class Inner(Section):
    level: float = 1.0


class Own(Section):
    inner: Inner | None = None


class Needed(Section):
    level: float


def extended(monkeypatch, *sections):
    """Return the class of settings where other packages have stages of these names and settings."""
    stages = [SimpleNamespace(name=name, settings=settings) for name, settings in sections]
    monkeypatch.setattr(module, "entry_points", lambda group: stages)
    monkeypatch.setattr("schemas.stage.registered_stages", lambda: stages)
    return module.settings_class.__wrapped__()


def test_stages_of_other_packages_bring_their_sections(monkeypatch):
    assert extended(monkeypatch) is extended(monkeypatch, ("bare", None)) is Settings
    made = extended(monkeypatch, ("bare", None), ("mine", Own), ("theirs", Inner))
    assert made.model_fields.keys() - Settings.model_fields.keys() == {"mine", "theirs"}
    assert made(mine={"inner": {"level": 2}}).mine == Own(inner=Inner(level=2.0))
    assert made().theirs == Inner()
    monkeypatch.setattr(module, "settings_class", lambda: made)
    assert module.ExtendedSettings is made  # where pickle looks for it
    with pytest.raises(AttributeError, match="no attribute 'Others'"):
        _ = module.Others
    with pytest.raises(ValidationError) as caught:
        made(mine={"inner": {"levl": 2}})
    assert "To fix, write 'level'" in str(misconfigured(caught.value.errors()))


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ([("detect", Own)], r"stage 'detect': there is a section \[detect\] already"),
        ([("mine", Own), ("mine", Inner)], r"stage 'mine': there is a section \[mine\] already"),
        ([("mine", BaseModel)], r"its settings BaseModel are not a schemas\.settings\.Section"),
        ([("mine", Needed)], "its settings need a default each"),
    ],
)
def test_sections_of_other_packages_must_be_such(monkeypatch, sections, says):
    with pytest.raises(Misconfigured, match=says) as caught:
        extended(monkeypatch, *sections)
    assert caught.value.code == "bad_stage"


def test_the_system_says_why_a_file_cannot_be_read(tmp_path):
    with pytest.raises(Misconfigured, match="cannot be read: Is a directory"):
        load_settings(tmp_path)
