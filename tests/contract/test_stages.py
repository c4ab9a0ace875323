"""What every stage must satisfy."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.pipeline.models import load_model, model_name
from flows.pipeline.search_pixels import CopySearch
from flows.pipeline.weights import read_card
from flows.storage.zarr_tiles import PLANES
from kernels.orbits.ephemeris import OrbitCatalogue
from schemas.dataset import ArrayOf, DatasetError, TableOf
from schemas.dia_source import SearchCounts
from schemas.galaxy_pictures import GALAXY_PICTURE, PICTURE_SIDE
from schemas.known_object import ORBITS
from schemas.objects import CUTOUTS, SIDE
from schemas.pixels import SearchGrid
from schemas.settings import DetectSettings, InjectSettings, Settings
from schemas.stage import Context
from schemas.static_object import STATIC_ASSOCIATION
from schemas.tracklets import NIGHT_WINDOW
from stages import PIPELINE
from tests.support.exposure import exposure_info
from tests.support.models import tile_of, write_cells, write_reliability
from tests.support.orbits import asteroids

ROOT = Path(__file__).parents[2]
SHAPE = (117, 138)
EXPOSURE = exposure_info(SHAPE, visit=7, detector=3, fwhm_px=2.2, gain=6.2, zero_point=26.0)
SHIPPED = sorted(path.stem for path in (ROOT / "stages/weights/detect").glob("*.json"))


def by_name(stage):
    return stage.name


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models without training; a few cells in a hundred are hits."""
    folder = tmp_path_factory.mktemp("models")
    write_cells(folder, threshold=0.52)
    write_reliability(folder)
    return folder


@pytest.fixture
def context(stage, models):
    settings = Settings(inject=InjectSettings(share=1), detect=DetectSettings(model=str(models)))
    own = {weight: str(models) for weight in ("detect", "reliability")}
    loaded = {
        model.name: load_model(model.name, own.get(model.name) or model_name(model.name, settings))
        for model in stage.models
    }
    tile = tile_of(models, SHAPE) if stage.per == "tile" else None
    exposure = None if stage.per in ("patch", "night") else EXPOSURE
    numbers = {"hit": SearchCounts(5, 0, SearchGrid())}
    section, search = stage.section(settings), CopySearch(settings)
    return Context(exposure, tile, section, loaded, search, Night(), numbers=numbers, link=lambda window: [])


class Night:
    """Pixels of a night of one exposure."""

    def exposures(self):
        return [EXPOSURE]

    def read(self, exposure, plane):
        return value(PLANES[plane], 0)


def value(dataset, rows):
    """An ordinary value of a dataset: noise, an empty mask, or ``rows`` rows of numbers inside the image."""
    rng = np.random.default_rng(1)
    if dataset == CUTOUTS:
        return rng.normal(0, 1, (rows, 2 * len(Settings().cut_cutouts.bands), SIDE, SIDE)).astype(dataset.dtype)
    if dataset == GALAXY_PICTURE:
        return rng.integers(0, 256, (rows, PICTURE_SIDE, PICTURE_SIDE, 3)).astype(dataset.dtype)
    if isinstance(dataset, ArrayOf):
        return (rng.normal(0, 1, SHAPE) if dataset.dtype.startswith("float") else np.zeros(SHAPE)).astype(dataset.dtype)
    if dataset == ORBITS:
        return OrbitCatalogue(asteroids(max(rows, 1), 61000.0))
    columns = {}
    for field in dataset.schema:
        numbers = 2 + np.arange(rows)
        given = numbers if not pa.types.is_string(field.type) else ["r"] * rows
        if dataset == STATIC_ASSOCIATION and field.name == "mjd":
            given = [61000.0] * rows  # all of the night whose objects they are
        if dataset == NIGHT_WINDOW and field.name == "midpointMjdTai":
            given = 61000.0 + numbers
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
def test_runs_on_empty_one_row_and_ordinary_input(stage, rows, context):
    given = {dataset.name: value(dataset, rows) for dataset in stage.needs}
    before = {name: one.copy() if isinstance(one, np.ndarray) else one for name, one in given.items()}
    result = stage(given, context)
    stage.gives.check(result.rows)
    for name, one in before.items():
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(given[name], one, err_msg=f"{stage.name} changed its input {name}")
    again = stage(given, context)
    assert again.numbers == result.numbers
    if isinstance(result.rows, pa.Table):
        assert again.rows.equals(result.rows)
    else:
        np.testing.assert_array_equal(again.rows, result.rows)


@pytest.mark.parametrize("stage", PIPELINE, ids=by_name)
def test_says_what_is_missing(stage, context):
    with pytest.raises(DatasetError, match=f"stage '{stage.name}' needs"):
        stage({}, context)


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


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_detector_has_the_verdict_that_was_trained_on_its_candidates(name):
    assert read_card("reliability", name).input["detector_sha256"] == read_card("detect", name).sha256


def test_every_shipped_verdict_and_screen_belongs_to_a_shipped_detector():
    for stage in ("reliability", "screen"):
        assert {path.stem for path in (ROOT / "stages/weights" / stage).glob("*.json")} <= set(SHIPPED)


def test_the_default_detector_is_shipped():
    assert Settings().detect.model in SHIPPED
    assert Settings().measure.model == "auto"
