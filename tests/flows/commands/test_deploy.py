from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.deploy import _absolute


def run(*arguments):
    return CliRunner().invoke(app, ["deploy", "/data/{night}", "--timezone", "UTC", *map(str, arguments)])


def test_without_a_server_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    refused = run("--out", tmp_path)
    assert refused.exit_code == 2
    assert "PREFECT_API_URL: is not set" in refused.stderr
    assert "--services" in refused.stderr


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--timezone", "Palomar"), "Palomar: is no time zone"),
        (("/data/{date}",), "/data/{date}: has braces that are no"),
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


def test_services_that_are_not_there_are_named(tmp_path):
    refused = run("--out", tmp_path, "--services", tmp_path / "none")
    assert refused.exit_code == 2
    assert "nightstride services up" in refused.stderr


@pytest.mark.parametrize("given", ["s3://bucket/{night}", "butler:/repo", "/data/{night}/*"])
def test_what_can_be_found_from_everywhere_stays_as_it_is(given):
    assert _absolute(given) == given


def test_a_folder_beside_us_is_found_from_everywhere():
    assert _absolute("raw/{night}") == str(Path.cwd() / "raw/{night}")
