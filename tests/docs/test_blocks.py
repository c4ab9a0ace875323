"""Every block of code on a page is run, or parsed and compared with what it names, or listed with the reason."""

import json
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.app import app
from flows.runtime.settings import load_settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^( *)```([\w{}-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (str(path.relative_to(ROOT)), *match[1:]) for path in PAGES for match in map(list, FENCE.findall(path.read_text()))
]

RUN_BY = {
    "README.md": "test_shown_commands",
    "docs/develop/add_a_stage.md": "test_add_a_stage",
    "docs/method/objects.md": "test_shown_commands",
    "docs/use/alerts.md": "test_shown_commands",
    "docs/use/apdb.md": "test_apdb",
    "docs/use/association.md": "test_python",
    "docs/use/catalogues.md": "test_catalogues",
    "docs/use/linking.md": "test_python",
    "docs/use/own_model.md": "test_own_model",
    "docs/use/python.md": "test_python",
    "docs/use/vetting.md": "test_vetting",
}
"""Pages with Python, and the tests that run it."""

NO_COMMANDS = {
    "OUT/": "names of files",
    "run                         the night": "a tree of spans",
    "name,ra,dec,epoch_utc": "a list of targets, read by test_forced",
    "trailFluxUpper = ": "a formula",
    '{"detections": 13': "JSON that a command prints",
    "# version=2022": "a report, validated by test_shown_commands",
}
"""What the plain blocks that hold no commands begin with, and what they are."""

NOT_OURS = {
    "apdb-cli": "of another package; tests/docs/test_apdb run the first",
    "apt-get": "changes the machine; continuous integration does it",
    "openssl": "tests/flows/nights/cluster make certificates so",
    "eval": "of the shell",
    "kubectl": "needs a cluster; tests/deploy compare deploy/kubernetes with its schemas",
    "docker": "needs its daemon; tests/deploy compare the files with their schemas",
    "cat": "an editor's work",
    "set": "of the shell",
    "export": "of the shell",
    "*/5": "a line of a crontab",
    ".venv/bin/prefect": "needs the services; tests/flows/nights/services start such a run",
    "sqlite3": "a program of its own",
    "systemctl": "of systemd; tests/deploy/test_systemd check the units",
    "journalctl": "of systemd",
    "ln": "of the shell",
    "install": "of the shell: an empty file that only its owner reads",
    "$(python": "starts a broker that another package brings",
    "pytest": "needs that broker; the same tests run without it",
}
"""Programs that are not ours or that need what a test has not, and why their lines are not run."""


def commands(text):
    """Lines of a shell without comments, continuations joined, variables set before the command left out."""
    for line in re.sub(r"\n {4,}", " ", text).splitlines():
        line = re.sub(r"(^|\s)# .*$|(?<=\S)\s{5,}[a-z].*$", "", line).strip()
        while found := re.match(r"(?:[A-Z_]+=\S+)\s*", line):
            line = line[found.end() :]
        if line:
            yield line


def plain_lines():
    for page, language, text in BLOCKS:
        if not language and not text.startswith(tuple(NO_COMMANDS)):
            yield from ((page, line) for line in commands(text))


LINES = list(plain_lines())
OURS = sorted({line.removeprefix(".venv/bin/") for _, line in LINES if re.match(r"(\.venv/bin/)?nightstride\b", line)})


def usage(line):
    """Words of a line of usage: brackets opened, the first of alternatives, a word for each placeholder."""
    line = re.sub(r"\[[,|][^]]*\]", "", line.partition(" | ")[0])
    line = re.sub(r"[\[\]]|\.\.\.|…", " ", line)
    return [word.split("|")[0] for word in shlex.split(line)]


@pytest.mark.parametrize("line", OURS)
def test_commands_are_understood(line):
    command, words = get_command(app), usage(line)[1:]
    while hasattr(command, "commands"):
        word = words.pop(0) if words[0] in command.commands else next(iter(command.commands))  # the first by default
        command = command.commands[word]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line.partition("docker")[0])) - known == set()
    given, left, _ = command.make_parser(command.make_context("", [], resilient_parsing=True)).parse_args(list(words))
    assert left == [], line
    assert [one.name for one in command.params if one.required and given.get(one.name) in (None, ())] == []


@pytest.mark.parametrize(("page", "line"), [one for one in LINES if one[1].startswith("make ")])
def test_targets_exist(page, line):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(usage(line)[1:]) <= set(targets)


@pytest.mark.parametrize(("page", "line"), [one for one in LINES if one[1].startswith("python ")])
def test_modules_and_scripts_know_their_options(page, line):
    words = usage(line)[1:]
    name = words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0]
    if words[:2] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[2:])
        return
    path = ROOT / name
    source = (path if path.exists() else path.with_suffix("") / "__main__.py").read_text()
    assert all(f'"{word}"' in source for word in words if word.startswith("--"))


@pytest.mark.parametrize(("page", "line"), [one for one in LINES if one[1].startswith("pip ")])
def test_extras_exist(page, line):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\[(\w+)\]", line)) <= extras.keys()


@pytest.mark.parametrize(("page", "line"), [one for one in LINES if one[1].startswith("dask ")])
def test_dask_knows_its_options(page, line):
    words = usage(line)
    main = import_module(f"distributed.cli.dask_{words[1]}").main
    known = {name for option in main.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_other_line_is_accounted_for():
    ours = re.compile(r"(\.venv/bin/)?nightstride |make |python |pip |dask ")
    others = {line.split()[0] for _, line in LINES if not ours.match(line)}
    assert others == NOT_OURS.keys()
    plain = [text for _, language, text in BLOCKS if not language]
    assert [start for start in NO_COMMANDS if not any(text.startswith(start) for text in plain)] == []


def test_python_is_run_by_the_test_of_its_page():
    pages = {page for page, language, _ in BLOCKS if language in ("python", "py")}
    assert pages == RUN_BY.keys()
    for page, test in (*RUN_BY.items(), ("docs/use/catalogues.md", "test_shown_commands")):  # for LSDB
        assert Path(page).name in (ROOT / f"tests/docs/{test}.py").read_text()


@pytest.mark.parametrize(("page", "text"), [(page, text) for page, language, text in BLOCKS if language == "toml"])
def test_settings_are_settings(page, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.toml").write_text(text)
    if "project" in tomllib.loads(text):
        ((group, points),) = tomllib.loads(text)["project"]["entry-points"].items()
        named = {"nightstride.stages": r"[\w.]+:STAGE", "nightstride.detectors": r"[\w.]+:build"}[group]
        assert all(re.fullmatch(named, one) for one in points.values())
    else:
        load_settings(tmp_path / "settings.toml")


@pytest.mark.parametrize(("page", "text"), [(page, text) for page, language, text in BLOCKS if language == "json"])
def test_json_is_json(page, text):
    assert json.loads(text)


def test_every_language_is_one_that_is_checked():
    assert {language for _, language, _ in BLOCKS} == {"", "python", "py", "toml", "json", "{eval-rst}"}
