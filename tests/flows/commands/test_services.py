import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.services.folder import opened
from tests.flows.services.services_support import new_services

pytest_plugins = ("tests.flows.services.services_fixture",)


def run(*arguments):
    return CliRunner().invoke(app, ["services", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.services
def test_up_down_and_status_are_for_people_and_machines(running_services):
    assert run("down", running_services.path, "worker").exit_code == 0
    looked = run("status", running_services.path, "--json")
    assert (looked.exit_code, json.loads(looked.stdout)["worker"]) == (1, "down")
    started = run("up", running_services.path)
    assert started.exit_code == 0
    assert f"Prefect's pages: {running_services.api.removesuffix('/api')}" in started.stderr
    assert running_services.auth.partition(":")[2] not in started.output
    looked = run("status", running_services.path)
    assert (looked.exit_code, looked.stdout) == (0, "postgres: healthy\nserver: healthy\nworker: healthy\n")


def test_what_does_not_run_is_said(tmp_path):
    folder = new_services(tmp_path)
    looked = run("status", folder.path)
    assert (looked.exit_code, looked.stdout) == (1, "postgres: down\nserver: down\nworker: down\n")
    stopped = run("down", folder.path)
    assert (stopped.exit_code, stopped.stderr.splitlines()) == (
        0, ["worker does not run", "server does not run", "postgres does not run"],
    )  # fmt: skip


def test_bad_usage_has_a_remedy(tmp_path):
    assert run("status", tmp_path).exit_code == 2
    assert run("up", tmp_path, "--port", 0).exit_code == 2
    folder = new_services(tmp_path)
    refused = run("up", folder.path, "--port", folder.addresses.port + 1)
    assert refused.exit_code == 2
    assert "To fix, leave the options out" in refused.stderr
    assert opened(folder.path).addresses == folder.addresses
    assert "use postgres, server, worker" in run("down", folder.path, "redis").stderr
