"""The command; the verdicts themselves: tests/flows/results/test_classify.py."""

import csv
import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.cli.classify import classify
from flows.results.classify import classify_pictures
from tests.support.cli import nightstride


@pytest.fixture
def picture(tmp_path):
    """A folder with a picture of noise."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 60, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def test_it_writes_what_the_function_does_and_says_where(picture, tmp_path):
    expected = classify_pictures("morphology", [picture], tmp_path / "expected.csv")
    found = nightstride("classify", "morphology", "--data", picture, "-o", tmp_path / "v.csv", "--json")
    assert (found.code, found.summary) == (0, expected)
    assert (tmp_path / "v.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    told = nightstride("classify", "morphology", "--data", picture, "--out", tmp_path / "w.csv")
    assert told.code == 0
    assert "w.csv" in told.stdout + told.stderr
    with (tmp_path / "w.csv").open() as file:
        assert [row["location"] for row in csv.DictReader(file)] == [str(picture / "a.png")]
    assert inspect.signature(classify).parameters["out"].default == Path("verdicts.csv")


@pytest.mark.parametrize(
    "command",
    [
        ("classify", "anomaly"), ("evaluate", "scene"), ("evaluate", "anomaly"),
        ("train", "morphology", "--quick"), ("train", "anomaly"),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_told_on_stderr_wherever_pictures_are_read(picture, tmp_path, command):
    for name in ("b.tiff", "c.npy", "d.npy"):
        (picture / name).write_text("x")
    out = () if command[0] == "evaluate" else ("--out", tmp_path / "out")
    found = nightstride(*command, "--data", picture, *out, "--json")
    said = "3 files of other kinds are left out: .npy, .tiff."
    assert found.stderr.splitlines()[0] == said
    assert said not in found.stdout
    assert said not in nightstride(*command, "--data", picture, *out, "--quiet").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("weather",), "morphology, scene, cluster, anomaly"), (("scene", "--model", "nobody"), "nobody"),
        (("scene", "--data", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_exit_code_2_and_writes_nothing(picture, tmp_path, arguments, says):
    found = nightstride("classify", *arguments, "--data", picture, "--out", tmp_path / "v.csv")
    assert (found.code, (tmp_path / "v.csv").exists()) == (2, False)
    assert says in " ".join(found.stderr.split())


def test_pictures_must_be_given():
    found = nightstride("classify", "scene")
    assert (found.code, "--data" in found.stderr) == (2, True)
