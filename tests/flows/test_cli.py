import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flows.cli import app

COMMANDS = ("run", "simulate", "evaluate", "report", "verify", "train", "doctor")


def test_help_lists_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_help_loads_nothing_heavy():
    heavy = ("torch", "numba", "prefect", "dask", "distributed", "astropy", "zarr", "matplotlib", "galsim")
    code = f"import sys, flows.cli; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_bad_usage_is_exit_code_2():
    assert CliRunner().invoke(app, ["nonsense"]).exit_code == 2
