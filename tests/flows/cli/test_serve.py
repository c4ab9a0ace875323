import json

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.serve import _absolute
from flows.nights.services.folder import opened
from tests.support.services import new_services

pytest_plugins = ("tests.support.services_fixture",)


def run(*arguments):
    return CliRunner().invoke(app, ["deploy", "/data/{night}", "--timezone", "UTC", *map(str, arguments)])


@pytest.mark.parametrize("url", [None, ""])
def test_without_a_server_there_is_a_remedy(tmp_path, monkeypatch, url):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("PREFECT_API_URL", url)
    refused = run("--out", tmp_path)
    assert refused.exit_code == 2
    assert "PREFECT_API_URL: is not set" in refused.stderr
    assert "--services" in refused.stderr


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--timezone", "Palomar"), "Palomar: is not a time zone"),
        (("/data/{date}",), "/data/{date}: has braces that name no"),
    ],
)
def test_what_needs_no_server_is_checked_without_one(tmp_path, monkeypatch, given, says):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    refused = run("--out", tmp_path, *given)
    assert refused.exit_code == 2
    assert says in refused.stderr


def test_settings_are_checked_before_anything_is_registered(tmp_path):
    (tmp_path / "night.toml").write_text("[detect]\nthreshold = 7\n")
    refused = run("--out", tmp_path, "--config", tmp_path / "night.toml", "--services", tmp_path)
    assert refused.exit_code == 2
    assert "detect.threshold" in refused.stderr


@pytest.mark.parametrize("there", [True, False])
def test_the_settings_of_the_working_folder_are_those_of_the_nights(tmp_path, monkeypatch, there):
    """The nights run in a folder of their own, in which there are none."""
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "nightstride.toml").write_text("[detect]\nbatch = 7\n")
    made = []
    monkeypatch.setattr("flows.nights.schedule.scheduled_night.register", made.append)
    monkeypatch.setattr("flows.cli.serve._read_environment", lambda *_: None)
    assert run("--out", tmp_path).exit_code == 0
    assert made[0].config == (str(tmp_path / "nightstride.toml") if there else None)


def test_services_that_are_not_there_are_named(tmp_path):
    refused = run("--out", tmp_path, "--services", tmp_path / "none")
    assert refused.exit_code == 2
    assert "nightstride services up" in refused.stderr


@pytest.mark.parametrize("given", ["s3://bucket/{night}", "butler:/repo", "/data/{night}/*"])
def test_what_can_be_found_from_everywhere_stays_as_it_is(given):
    assert _absolute(given) == given


def test_what_lies_beside_us_is_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repo").mkdir()
    for given in ("raw/{night}", "run:2/{night}"):
        assert _absolute(given) == str(tmp_path / given)
    assert _absolute("butler:repo") == f"butler:{tmp_path / 'repo'}"
    assert _absolute("butler:an_alias") == "butler:an_alias"


def run_services(*arguments):
    return CliRunner().invoke(app, ["services", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.services
def test_up_down_and_status_are_for_people_and_machines(running_services):
    assert run_services("down", running_services.path, "worker").exit_code == 0
    looked = run_services("status", running_services.path, "--json")
    assert (looked.exit_code, json.loads(looked.stdout)["worker"]) == (1, "down")
    started = run_services("up", running_services.path)
    assert started.exit_code == 0
    assert f"Prefect's pages: {running_services.api.removesuffix('/api')}" in started.stderr
    assert running_services.auth.partition(":")[2] not in started.output
    looked = run_services("status", running_services.path)
    rows = [line.split() for line in looked.stdout.splitlines()]
    assert (looked.exit_code, rows) == (
        0, [["service", "state"], ["postgres", "healthy"], ["server", "healthy"], ["worker", "healthy"]],
    )  # fmt: skip


def test_what_does_not_run_is_said(tmp_path):
    folder = new_services(tmp_path)
    looked = run_services("status", folder.path)
    assert (looked.exit_code, looked.stdout) == (
        1,
        "service   state\npostgres  down \nserver    down \nworker    down \n",
    )
    stopped = run_services("down", folder.path)
    assert (stopped.exit_code, stopped.stderr.splitlines()) == (
        0, ["worker does not run", "server does not run", "postgres does not run"],
    )  # fmt: skip


def test_bad_usage_has_a_remedy(tmp_path):
    assert run_services("status", tmp_path).exit_code == 2
    assert run_services("up", tmp_path, "--port", 0).exit_code == 2
    folder = new_services(tmp_path)
    refused = run_services("up", folder.path, "--port", folder.addresses.port + 1)
    assert refused.exit_code == 2
    assert "To fix, leave the options out" in refused.stderr
    assert opened(folder.path).addresses == folder.addresses
    assert "use postgres, server, worker" in run_services("down", folder.path, "redis").stderr
