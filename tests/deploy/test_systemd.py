"""The units of systemd, by systemd itself where it is installed, and by the commands that they start."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.app import app
from flows.nights.services import processes, stack

UNITS = sorted((Path(__file__).parents[2] / "deploy/systemd").iterdir())
PROGRAM = "/opt/nightstride/.venv/bin/nightstride"


def commands():
    for unit in UNITS:
        for name, line in re.findall(r"^(Exec\w+)=(.*)$", unit.read_text(), re.MULTILINE):
            yield pytest.param(line, id=f"{unit.name}-{name}")


@pytest.mark.parametrize("line", list(commands()))
def test_what_is_started_is_a_command_with_options_that_it_has(line):
    program, *words = shlex.split(line)
    assert program == PROGRAM
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    assert command.make_context("nightstride", words).params["be_quiet"] is False


def test_every_service_that_ends_by_itself_says_when_it_is_started():
    names = [unit.name for unit in UNITS]
    for unit in UNITS:
        installed = "[Install]" in unit.read_text()
        assert installed or unit.with_suffix(".timer").name in names, unit.name


def test_systemd_waits_for_the_services_as_long_as_their_commands_do():
    """Killed before, `down` would leave PostgreSQL running, and `up` one that still makes its tables."""
    text = (UNITS[0].parent / "nightstride-services.service").read_text()
    minutes = {name: int(one) for name, one in re.findall(r"^Timeout(\w+)Sec=(\d+)min$", text, re.MULTILINE)}
    assert minutes["Start"] * 60 > processes.START_S + 3 * stack.HEALTHY_S
    assert minutes["Stop"] * 60 > stack.SHUTDOWN_S + stack.STOP_S + processes.START_S


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong(tmp_path):
    ours = Path(sys.executable).with_name("nightstride")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, str(ours)))
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in found.stderr.splitlines() if "nightstride" in line]
    assert (found.returncode, said) == (0, []), found.stderr
