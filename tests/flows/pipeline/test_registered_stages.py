"""A stage of another package, found by its entry point: a night runs with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.pipeline.weights import write_model
from tests.support.models import CARD
from tests.support.night import DETECTORS, VISITS, Command

pytest_plugins = ("tests.support.night_fixture",)

TOY = Path(__file__).parents[2] / "support/toy_package"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Folder that pip would make of the package: its module, and the entry points in its metadata."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(TOY / "toy_stage.py", folder)
    register(folder, "toy_stage:STAGE")
    return folder


def register(folder, target):
    info = folder / "toy-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nightstride.stages]\ntoy = {target}\n")


def python(code, folder):
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(package, nightstride_run, raw_night, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    given = {"stage": "toy", "input": {}, "threshold": 0.5}
    write_model(folder / "model", {"gain": np.array([10.0], np.float32)}, CARD | given)
    config = folder / "night.toml"
    config.write_text(f'[toy]\nmodel = "{folder / "model"}"\nfactor = 2.0\n')
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**nightstride_run.environment, "PYTHONPATH": path}
    run = Command(nightstride_run.models, environment, arguments=("--config", str(config)))
    return run(raw_night, "--out", folder / "out"), folder / "out", environment


def test_a_night_runs_with_it(finished):
    run, out, _ = finished
    assert run.code == 0, run.stderr
    assert run.summary["exposures"]["done"] == VISITS * DETECTORS
    files = sorted((out / "catalogs/toy").glob("*/*.parquet"))
    assert len(files) == VISITS * DETECTORS
    for file in files:
        rows = pq.read_metadata(out / "catalogs/dia_source" / file.parent.name / file.name).num_rows
        table = pq.read_table(file)
        assert table["total"].to_pylist() == [rows * 10.0 * 2.0]
        assert table.schema.field("total").metadata[b"ucd"] == b"meta.number"


def test_explain_shows_its_version_its_model_and_its_settings(finished):
    _, out, environment = finished
    file = next(f for f in sorted((out / "catalogs/dia_source").glob("*/*.parquet")) if pq.read_metadata(f).num_rows)
    number = pq.read_table(file)["diaSourceId"][0].as_py()
    explained = Command(None, environment, "explain")(out, number)
    assert explained.code == 0, explained.stderr
    made = explained.summary["provenance"]
    assert made["stages"]["toy"] == "7"
    assert made["settings"]["toy"]["factor"] == 2.0
    assert "toy" in explained.summary["catalogues"]
    assert made["models"]["toy"]["stage"] == "toy"


def test_its_settings_are_refused_by_name_like_any_other(package):
    code = "from flows.runtime.settings import load_settings; load_settings(None, {'toy': {'factr': 1}})"
    run = python(code, package)
    assert run.returncode != 0
    assert "toy.factr: there is no setting of this name in [toy]" in run.stderr


@pytest.mark.parametrize(
    ("target", "problem"),
    [("toy_stage:NOTHING", "cannot be loaded"), ("toy_stage:TOY", "is TableOf, not a Stage"), ("no:x", "cannot be")],
)
def test_what_is_no_stage_is_named_with_its_package(package, tmp_path, target, problem):
    shutil.copy(TOY / "toy_stage.py", tmp_path)
    register(tmp_path, target)
    run = python("import stages", tmp_path)
    assert f"entry point 'toy' of nightstride.stages: {problem}" in run.stderr
    assert "To fix, correct or uninstall the package 'toy'." in run.stderr
