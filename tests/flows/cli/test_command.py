"""What all commands have in common: panels, -q, -v, -o, --night, and how bad usage is said."""

import json
import logging
import re
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.app import PANELS, app
from flows.cli.command import _ended_by_signals
from tests.flows.results.page.conftest import NIGHT, make_info, make_rows, publish
from tests.support.cli import nightstride


def leaves(command, *path):
    if not hasattr(command, "commands"):
        yield path, command
        return
    for word, one in command.commands.items():
        yield from leaves(one, *path, word)


COMMANDS = dict(leaves(get_command(app)))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command") / "out"
    info = make_info((60, 70))
    publish(folder, info, make_rows(info, 4, 1), 1)
    return folder


def test_help_has_a_panel_for_each_group_and_each_command_in_one():
    shown = nightstride("--help").stdout
    assert re.findall(r"╭─ (\w+) ─", shown) == ["Options", *PANELS]
    assert all(re.search(rf"^│ {name}\s", shown, re.MULTILINE) for name in get_command(app).commands)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_the_same_short_options(path):
    own = {name: one for one in COMMANDS[path].params for name in one.opts if one.param_type_name == "option"}
    assert own["-q"].opts == ["--quiet", "-q"]
    assert own["-v"].opts == ["--verbose", "-v"]
    if "--out" in own:
        assert own["--out"] is own["-o"]
    if any(one.name == "out" for one in COMMANDS[path].params):
        assert "--out" in own
    if "--night" in own:
        several = "" if path == ("ades", "report") else "[..YYYYMMDD]"
        assert own["--night"].metavar == f"YYYYMMDD{several}"


@pytest.mark.parametrize("words", [(), ("status",), ("ades",), ("ades", "report"), ("train", "detect")], ids=" ".join)
def test_h_is_help(words):
    short, long = (nightstride(*words, name) for name in ("-h", "--help"))
    assert (short.code, short.stdout, long.code) == (0, long.stdout, 0)


WITH_OUT = [path for path, one in COMMANDS.items() if any("--out" in given.opts for given in one.params)]


@pytest.mark.parametrize("path", WITH_OUT, ids=" ".join)
def test_an_empty_out_is_refused_before_anything_is_written_into_this_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["--out", ""], ["-o", ""], ["--out="]):
        refused = nightstride(*path, *words)
        assert (refused.code, list(tmp_path.iterdir())) == (2, [])
        assert "is empty: name a folder" in refused.stderr


@pytest.mark.parametrize("words", [["~/gone"], ["--out=~/gone"], ["-o~/gone"], ["-o", "~/gone"]])
def test_home_is_home_where_the_shell_leaves_it(words, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"{tmp_path}/gone: " in nightstride("status", *words).stderr


def test_an_account_may_have_no_home(monkeypatch):
    """As in containers, whose accounts have no entry."""

    def unknown(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    assert "~/gone" in nightstride("status", "~/gone").stderr


def test_a_folder_may_be_called_like_home():
    assert "~/gone" in nightstride("status", "./~/gone").stderr


@pytest.mark.parametrize("words", [["status"], ["verify"], ["explain", "5"], ["forced", "targets.csv"], ["vet"]])
def test_an_empty_argument_out_is_refused(words):
    refused = nightstride(words[0], "", *words[1:])
    assert refused.code == 2
    assert "is empty: name a folder" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("OUT",), ("-o", "OUT"), ("--out", "OUT"), ("--out=OUT",), ("-oOUT",), ("--json", "-o", "OUT"),
        ("-qo", "OUT"), ("-voOUT",),
        ("OUT", "--night", NIGHT), ("--night", NIGHT, "-o", "OUT"), ("--night", NIGHT, "OUT"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["status", "verify", "quality"])
def test_out_and_night_may_stand_wherever_users_put_them(out, command, words):
    ended = nightstride(command, *(word.replace("OUT", str(out)) for word in words), "--json")
    assert ended.code in (0, 1), ended.stderr  # of status and verify: what is said of this little folder
    assert ended.summary


def test_out_after_other_arguments_is_the_last(tmp_path, out):
    assert nightstride("backup", "-o", out, tmp_path / "copy").code == 0
    assert nightstride("restore", tmp_path / "copy", "-o", tmp_path / "again").code in (0, 1)
    assert (tmp_path / "again" / "catalogs").is_dir()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("status", "OUT", "--night", "2026-11-03"), "no_night", "nights are written YYYYMMDD: 20261103."),
        (("verify", "OUT", "--night", "20261341"), "no_night", "'20261341' is not a night; nights are written"),
        (("export", "OUT", "--to", "x.csv", "--night", "x"), "no_night", "'x' is not a night"),
        (("quality", "OUT", NIGHT), "usage", f"Unexpected argument: {NIGHT}. To fix, write --night {NIGHT}, or see"),
        (("status", "OUT", "-q", "-v"), "usage", "--quiet and --verbose exclude each other."),
        (("run", "x"), "usage", "Missing option --out"),
        (("run", "x", "--out", "y", "--workers", "many"), "usage", "--workers: must be a whole number."),
        (("run", "x", "--out", "y", "--wait", "long"), "usage", "--wait: must be a number."),
        (("run", "x", "--out", "y", "--wait", "-1"), "usage", "--wait: must be at least 0."),
        (("forced", "OUT", "--at", "1,1", "--sigma", "99"), "usage", "--sigma: must be at most 10."),
        (("simulate", "--size", "640,640", "-o", "x"), "usage", "--size: 2 numbers are wanted, with a space between"),
        (("forced", "OUT"), "usage", "give a list of targets, one with --at RA,DEC, or --dia-objects."),
        (("forced", "OUT", "--at", "1,1", "--dia-objects"), "usage", "exclude each other: give one of them."),
        (("forced", "OUT", "--at", "400,1"), "usage", "'400,1' is not RA,DEC"),
        (("export", "OUT", "--to", "x", "--format", "word"), "usage", "--format: 'word' is not one of 'csv', '"),
        (("status", "OUT", "more"), "usage", "Unexpected argument: more. To fix, see"),
        (("simulate", "night"), "usage", "Unexpected argument: night. To fix, write --out night, or see"),
        (("run", "x", "--out", "y", "--wokers", "1"), "usage", "No such option: --wokers. To fix, write --workers"),
        (("backup", "OUT", "--to", "x"), "usage", "No such option: --to. To fix, write its value without --to, or see"),
        (("statsu", "OUT"), "usage", "Did you mean 'status'?"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_in_our_words_and_json_where_that_is_asked_for(tmp_path, out, words, code, says):
    ended = nightstride(*(word.replace("OUT", str(out)) for word in words), "--json", cwd=tmp_path)
    (line,) = ended.stderr.splitlines()
    assert ended.code == 2
    assert says in line
    assert "--help" in line
    assert not re.search(r"Input should|click|pydantic|Invalid value|unable to parse", line)
    error = ended.summary["error"]
    assert error["code"] == code
    assert error["where"].startswith("nightstride")
    assert list(tmp_path.iterdir()) == []


def test_quiet_says_nothing_and_ends_with_the_same_code(tmp_path, out):
    for words in (("status", out), ("verify", out), ("quality", out), ("models", out)):
        spoken, silent = nightstride(*words), nightstride(*words, "-q")
        assert (silent.stdout, silent.stderr, silent.code) == ("", "", spoken.code)
        assert spoken.stdout
    told = nightstride("quality", out, "-q", "--json")
    assert len(told.stdout.splitlines()) == 1
    assert told.summary["nights"]
    wrong = nightstride("status", tmp_path / "none", "-q")
    assert (wrong.code, wrong.stdout) == (2, "")
    assert "is not an output folder" in wrong.stderr


def test_verbose_says_how_long_it_took_and_what_lies_behind_an_error(tmp_path, out):
    assert re.search(r"^took \d+\.\d\d s$", nightstride("models", out, "-v").stderr, re.MULTILINE)
    assert "took" not in nightstride("models", out).stderr
    (tmp_path / "bad.toml").write_text("a = \n")
    words = ("quality", out, "--config", tmp_path / "bad.toml")
    assert "behind it" not in nightstride(*words).stderr
    assert "behind it: TOMLDecodeError: Invalid value" in nightstride(*words, "-v").stderr


def test_seconds_that_were_once_given_with_quiet_are_still_taken(tmp_path):
    for words in (("--quiet", "30"), ("--quiet=30",), ("--quiet", "0.5", "-q"), ("--combine-after", "30", "--quiet")):
        ended = nightstride("watch", "nowhere", "--out", "x", *words, cwd=tmp_path)
        assert (ended.code, "there is no such folder" in ended.stderr) == (2, True)
    assert "must be at least 0" in nightstride("watch", "nowhere", "--out", "x", "--combine-after", "-1").stderr


def test_groups_alone_help_as_the_command_alone_does():
    for group in ("train", "evaluate", "alerts", "ades", "services", "fetch", "bench"):
        ended = nightstride(group)
        assert (ended.code, ended.stderr) == (0, "")
        assert "Usage" in ended.stdout


def test_json_stays_the_last_line(out):
    assert set(json.loads(nightstride("status", out, "--json", "-v").stdout.splitlines()[-1])) >= {"nights"}


def compiled(number):
    try:
        signal.raise_signal(number)
    except BaseException as error:
        raise ValueError("another error") from error


def dropped(number):
    """Raise a signal where Python drops what it raises: as an object is removed."""
    thing = type("Thing", (), {})()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert watched() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_by_its_own_hand_and_without_a_word(number):
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)) as ended, _ended_by_signals():
            signal.raise_signal(number)
        assert number == signal.SIGINT or ended.value.code == 143
        assert logging.root.manager.disable == logging.CRITICAL
        with pytest.raises(SystemExit) as ended, _ended_by_signals():
            compiled(number)
        assert ended.value.code == 128 + number
        with pytest.raises((SystemExit, KeyboardInterrupt)), _ended_by_signals():
            dropped(number)  # and the block is over before it is raised again
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
        with pytest.raises(ValueError, match="another"), _ended_by_signals():
            raise ValueError("another")
    finally:
        signal.alarm(0)
        logging.disable(logging.NOTSET)
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before


LOST = """
import signal, time, weakref
from flows.cli import command

class Thing:
    pass

with command._ended_by_signals():
    thing = Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.NUMBER))
    del thing
    print("goes on", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", -signal.SIGINT)])
def test_a_signal_that_python_drops_as_an_object_is_removed_ends_a_command_all_the_same(name, code):
    told = subprocess.run(
        [sys.executable, "-c", LOST.replace("NUMBER", name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.stdout, told.returncode) == ("goes on\n", code)
    assert "ignored" not in told.stderr


HANGS = """
import logging, signal, threading
from flows.cli import command

command._ENDED_WITHIN_S = 1
with command._ended_by_signals():
    logging._lock.acquire()  # and no release, as where a signal is handled between it and the try that follows
    waiting = threading.Thread(target=logging.getLogger, args=("another",))
    waiting.start()
    print("waits", flush=True)
    signal.pause()
"""


def test_what_a_signal_leaves_hanging_is_killed():
    with subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waits\n"
        process.terminate()
        assert process.wait(60) == -signal.SIGALRM
