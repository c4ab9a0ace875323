import json

import pytest
from typer.testing import CliRunner

from flows.cli.app import app

SMALL = ["bench", "search", "--size", "128", "150", "--repeats", "1", "--threads", "1"]


@pytest.fixture(scope="module", autouse=True)
def compared_once():
    """Compare the ways once for all tests: the plain one takes its time."""
    from flows.training.bench import search

    found = []

    def compare(*given):
        if not found:
            found.append(search.compare_search.real(*given))
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        compare.real = search.compare_search
        patch.setattr(search, "compare_search", compare)
        yield


def test_json():
    result = CliRunner().invoke(app, [*SMALL, "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["same_detections"]
    assert figures["windows"] == 15 * 18
    assert figures["threads"] == 1


def test_the_table_names_what_was_timed():
    result = CliRunner().invoke(app, SMALL)
    assert result.exit_code == 0, result.output
    assert "plain way" in result.stdout
    assert "the same in both precisions: yes" in result.stdout.replace("\n", " ")


def test_a_bad_size_is_exit_code_2():
    assert CliRunner().invoke(app, ["bench", "search", "--size", "5", "5"]).exit_code == 2


def test_a_wrong_setting_in_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__PRECISION", "int8")
    result = CliRunner().invoke(app, ["bench", "search", "--size", "500", "500"])
    assert result.exit_code == 2
    assert "detect.precision" in result.stderr
