import json
import re

import pytest
from typer.testing import CliRunner

from flows.cli import bench
from flows.cli.app import app
from flows.training.bench.search import SearchFigures

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


def test_a_gpu_is_beside_the_processor(capsys):
    times = {"device_f32_s": 0.2, "device_bf16_s": 0.1, "device_limit_f32_s": 0.1, "device_limit_bf16_s": 0.05}
    found = SearchFigures(
        1234, 1, 3, *[0.5] * 13, True, True, True, 5, 4,
        device="A GPU", max_dprob_device=2e-6, same_hits_device=False, **times,
    )  # fmt: skip
    bench._show(found)
    shown = capsys.readouterr().out
    assert re.search(r"A GPU, float32 +│ +0.200 +│ +[\d.]+ +│ +2.00", shown)
    assert re.search(r"A GPU, bfloat16 +│ +0.100 ", shown)
    assert "A GPU: probabilities differ by 2.0e-06 at most, the same hits: NO." in " ".join(shown.split())


def test_a_bad_size_is_exit_code_2():
    assert CliRunner().invoke(app, ["bench", "search", "--size", "5", "5"]).exit_code == 2


def test_a_wrong_setting_in_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__PRECISION", "int8")
    result = CliRunner().invoke(app, ["bench", "search", "--size", "500", "500"])
    assert result.exit_code == 2
    assert "detect.precision" in result.stderr
