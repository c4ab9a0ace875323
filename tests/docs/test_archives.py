import re
import shlex
from pathlib import Path

from typer.main import get_command

from flows.cli.app import app
from flows.inputs.archive.client import PASSWORD, USER
from flows.inputs.butler_repository import sibling_types
from schemas.archive_settings import ButlerSettings

PAGE = (Path(__file__).parents[2] / "docs/use/archives.md").read_text()


def test_commands_are_understood_as_they_stand():
    lines = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("nightstride")]
    assert {"fetch", "run"} <= {words[0] for words in commands}
    for words in commands:
        command = get_command(app)
        while hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        command.make_context("nightstride", words)


def test_every_setting_of_the_butler_stands_there():
    assert all(f"`{name}`" in PAGE for name in ButlerSettings.model_fields)
    assert all(f"`{pattern}" in PAGE or f",{pattern}`" in PAGE for pattern in ButlerSettings().dataset_types)


def test_planes_are_those_of_the_reader():
    table = PAGE.split("| difference image | science | template |")[1].split("\n\n")[0]
    for name in ("goodSeeingDiff_differenceExp", "difference_image"):
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}`"))
        for types in sibling_types(name).values():
            assert f"`{types[0]}`" in row
            assert f"`{types[-1]}`" in row or f"`…_{types[-1].split('_')[-1]}`" in row


def test_environment_variables_are_named():
    assert USER in PAGE
    assert PASSWORD in PAGE
