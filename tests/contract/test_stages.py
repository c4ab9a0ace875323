"""What every stage must satisfy."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.adapters.weights import load_model
from flows.copy_search import CopySearch
from schemas.dataset import ArrayOf, DatasetError, TableOf
from schemas.exposure import ExposureInfo, PsfModel
from schemas.settings import InjectSettings, Settings
from schemas.stage import Context
from schemas.tiles import Tiling
from stages import PIPELINE

ROOT = Path(__file__).parents[2]
SHAPE = (117, 138)
EXPOSURE = ExposureInfo(
    night="20260101", visit=7, detector=3, instrument="test", band="r", midpoint_mjd_tai=61000.0,
    exposure_time_s=30, shape=SHAPE, psf=PsfModel(fwhm_px=2.2), background=0.0, noise=1.0, gain=6.2,
    zero_point=26.0, source_uri="memory://none", source_sha256="0" * 64,
)  # fmt: skip
SETTINGS = Settings(inject=InjectSettings(share=1))
NAMES = {"detect": "basic_cnn", "reliability": "verdict"}


def by_name(stage):
    return stage.name


def context(stage):
    models = {weight: load_model(weight, NAMES[weight]) for weight in stage.weights}
    tile = Tiling(SHAPE).tiles()[0] if stage.per == "tile" else None
    return Context(EXPOSURE, tile, getattr(SETTINGS, stage.name, None), models, CopySearch(SETTINGS))


def value(dataset, rows):
    """An ordinary value of a dataset: noise, an empty mask, or ``rows`` rows of numbers inside the image."""
    rng = np.random.default_rng(1)
    if isinstance(dataset, ArrayOf):
        return (rng.normal(0, 1, SHAPE) if dataset.dtype.startswith("float") else np.zeros(SHAPE)).astype(dataset.dtype)
    columns = {}
    for field in dataset.schema:
        numbers = 2 + np.arange(rows)
        given = numbers if not pa.types.is_string(field.type) else ["r"] * rows
        if pa.types.is_fixed_size_list(field.type):
            given = [[0.0] * field.type.list_size] * rows
        columns[field.name] = pa.array(given).cast(field.type)
    return pa.table(columns, schema=dataset.schema)


@pytest.mark.parametrize("stage", PIPELINE, ids=by_name)
def test_is_named_after_its_file_and_travels_as_a_name(stage):
    assert (ROOT / "stages" / f"{stage.name}.py").exists()
    assert stage.run.__module__ == f"stages.{stage.name}"
    assert pickle.loads(pickle.dumps(stage)) == stage
    assert len(pickle.dumps(stage.run)) < 100


@pytest.mark.parametrize("stage", PIPELINE, ids=by_name)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_runs_on_empty_one_row_and_ordinary_input(stage, rows):
    given = {dataset.name: value(dataset, rows) for dataset in stage.needs}
    before = {name: one.copy() if isinstance(one, np.ndarray) else one for name, one in given.items()}
    result = stage(given, context(stage))
    stage.gives.check(result)
    for name, one in before.items():
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(given[name], one, err_msg=f"{stage.name} changed its input {name}")
    again = stage(given, context(stage))
    assert again.equals(result) if isinstance(result, pa.Table) else np.array_equal(again, result)


@pytest.mark.parametrize("stage", PIPELINE, ids=by_name)
def test_says_what_is_missing(stage):
    with pytest.raises(DatasetError, match=f"stage '{stage.name}' needs"):
        stage({}, context(stage))


@pytest.mark.parametrize("stage", PIPELINE, ids=by_name)
def test_every_column_says_what_it_is(stage):
    for dataset in (*stage.needs, *stage.optional, stage.gives):
        if isinstance(dataset, TableOf):
            for field in dataset.schema:
                assert field.metadata[b"doc"], field.name
                assert b"unit" in field.metadata


def test_importing_the_pipeline_loads_no_orchestrator():
    names = ("prefect", "dask", "distributed", "zarr", "fsspec")
    code = f"import sys, stages; print([m for m in {names} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "[]"
