"""A deployment of a small night on real services, with a webhook."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.nights.schedule.artifacts import WEBHOOK
from flows.nights.services.folder import private_file
from flows.nights.services.stack import down, up
from tests.support.services import place
from tests.support.services_fixture import OFTEN
from tests.support.webhook import webhook

CONFIGURATION = """
[tiles]
tile = 112
chunk = 28
[inject]
share = 1.0
streaks = 64
[execution]
workers = 2
[detect]
model = "{models}"
[measure]
model = "{models}"
"""
"""Settings with which the support of the tests runs the command."""


@dataclass(frozen=True)
class Deployed:
    """A deployment: its services, what its webhook was told, and a folder for inputs and outputs."""

    folder: object
    told: list
    place: Path


@pytest.fixture(scope="module")
def deployed(running_services, raw_night, night_models):
    """Give a deployment `nightly` whose night 2025-01-21 is that of the tests."""
    with place() as path, webhook() as (url, told):
        shutil.copytree(raw_night, path / "raw" / "20250121")
        (path / "night.toml").write_text(CONFIGURATION.format(models=night_models))
        private_file(running_services.path / "worker.env", f"{OFTEN}{WEBHOOK}={url}\n")
        down(running_services, ["worker"], print)
        up(running_services, print)
        command = [Path(sys.executable).with_name("nightstride"), "deploy", path / "raw" / "{night}"]
        options = ["--out", path / "out", "--config", path / "night.toml", "--timezone", "America/Los_Angeles"]
        options += ["--retries", "1", "--retry-delay", "0", "--pages", "https://nights.test/", "--tag", "test"]
        made = subprocess.run(
            [*command, *options, "--services", running_services.path],
            env={**os.environ, "PREFECT_HOME": str(path / "home")}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        yield Deployed(running_services, told, path)
