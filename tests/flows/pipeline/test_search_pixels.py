import numpy as np
import pytest

from benchmarks.detection.noise_texture import SIGMA, image
from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.nights.exposure_work import finish_exposure, search_tiles, store_exposure
from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import CopySearch, search_pixels
from flows.runtime.traces import Timer
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from kernels.image.noise import noise_correlation
from schemas.dataset import ArrayOf
from schemas.dia_source import DIA_SOURCE
from schemas.pixels import SearchGrid, Tiling
from schemas.settings import DetectSettings, InjectSettings, MeasureSettings, Settings, TileSettings
from schemas.stage import Result
from stages import PIPELINE
from stages.inject import STAGE

SETTINGS = Settings(
    tiles=TileSettings(tile=112, chunk=28),
    detect=DetectSettings(model="basic_cnn", threshold=0.2),
    measure=MeasureSettings(min_reliability=0.0),
    inject=InjectSettings(share=0),
)


@pytest.fixture
def published(write_ztf, sky, tmp_path):
    """Tiles of noise with a bright source, and the catalogue that a run publishes of them."""
    y, x = np.indices(sky.shape)
    source = Source(write_ztf(sky + 900 * np.exp(-((y - 90) ** 2 + (x - 130) ** 2) / 6).astype(np.float32)))
    key = probe(source, SETTINGS)
    stored = store_exposure(source, key, None, tmp_path, SETTINGS)
    path = tile_path(tmp_path, key)
    tiles = Tiling(stored.info.shape, SETTINGS.tiles.tile, 26, 7).tiles()
    finish_exposure(path, [search_tiles(path, tiles, SETTINGS)], stored.lineage, tmp_path, SETTINGS)
    return TileStore.open(path), CatalogStore(tmp_path).read(DIA_SOURCE, key)


@pytest.fixture
def planes(published):
    opened, _ = published
    return {name: opened.read_all(name) for name in ("difference", "mask")}


def test_finds_in_memory_what_the_run_finds_tile_by_tile(published, planes):
    opened, expected = published
    timer = Timer()
    found = search_pixels(planes, opened.info, SETTINGS, timer=timer)
    assert found.keys() == {"hit", "streak", "dia_source"}
    assert len(found["dia_source"].rows) > 0
    assert found["dia_source"].rows.equals(expected)
    assert timer.seconds().keys() == {"detect", "merge", "measure", "other"}


def test_what_is_found_does_not_depend_on_the_tiles(published, planes):
    info, expected = published[0].info, search_pixels(planes, published[0].info, SETTINGS)
    whole = search_pixels(planes, info, SETTINGS, whole=True)
    assert all(whole[name].rows.equals(expected[name].rows) for name in ("hit", "streak", "dia_source"))


def test_stops_where_it_is_told_and_goes_on_from_there(published, planes):
    info, expected = published[0].info, search_pixels(planes, published[0].info, SETTINGS)
    hits = search_pixels(planes, info, SETTINGS, until="hit")
    assert hits.keys() == {"hit"}
    timer = Timer()
    found = search_pixels(planes, info, SETTINGS, given=hits, timer=timer)
    assert found["dia_source"].rows.equals(expected["dia_source"].rows)
    assert "detect" not in timer.seconds()
    nothing = {"hit": Result(hits["hit"].rows.slice(0, 0))}
    assert len(search_pixels(planes, info, SETTINGS, given=nothing)["dia_source"].rows) == 0


def test_loaded_models_are_used_in_place_of_those_of_the_settings(published, planes, tmp_path):
    info, expected = published[0].info, search_pixels(planes, published[0].info, SETTINGS)
    elsewhere = SETTINGS.model_copy(update={"detect": DetectSettings(model=str(tmp_path), threshold=0.2)})
    detector, verdict = load_model("detect", "basic_cnn", threshold=0.2), load_model("reliability", "basic_cnn")
    models = {"detect": detector, "reliability": verdict}
    found = search_pixels(planes, info, elsewhere, models=models)
    assert found["dia_source"].rows.equals(expected["dia_source"].rows)


def test_copies_have_ids_below_zero(published, planes):
    opened, expected = published
    found = CopySearch(SETTINGS)(planes, opened.info, (0, 0, *opened.info.shape))
    assert len(found) > 0
    assert found.drop_columns("diaSourceId").equals(expected.drop_columns("diaSourceId"))
    assert found["diaSourceId"].to_pylist() == [-1 - number for number in expected["diaSourceId"].to_pylist()]


def test_a_part_holds_the_same_hits_and_no_others(published, planes):
    info = published[0].info
    hits = search_pixels(planes, info, SETTINGS, until="hit")["hit"].rows.to_pylist()
    y0, x0, y1, x1 = part = 31, 40, 150, 200
    inside = [hit for hit in hits if y0 - 26 < 7 * hit["row"] < y1 and x0 - 26 < 7 * hit["column"] < x1]
    assert 0 < len(inside) < len(hits)
    found = search_pixels(planes, info, SETTINGS, until="hit", within=part)["hit"].rows.to_pylist()
    assert sorted(map(str, found)) == sorted(map(str, inside))


def test_a_copy_smaller_than_a_window_holds_nothing(published):
    opened, _ = published
    planes = {name: opened.read(name, 0, 0, 20, 40) for name in ("difference", "mask")}
    found = CopySearch(SETTINGS)(planes, opened.info.model_copy(update={"shape": (20, 40)}), (0, 0, 20, 40))
    assert found.equals(DIA_SOURCE.empty())


def test_its_grid_is_that_of_the_settings():
    assert CopySearch(SETTINGS).grid == SearchGrid(26, 7, 0, 26)


def test_the_copies_hold_every_plane_that_the_search_needs():
    leading = [stage for stage in PIPELINE if stage.name in ("detect", "merge", "measure")]
    needed = {one.name for stage in leading for one in stage.needs if isinstance(one, ArrayOf)}
    assert needed <= {one.name for one in STAGE.needs}


@pytest.mark.parametrize(("weight", "least"), [(-0.24, 1), (-0.18, 4)])
def test_sources_are_found_and_measured_in_the_most_contrary_noise(weight, least):
    drawn = image(weight, 4.5, 30.0, side=252)
    correlation = noise_correlation(drawn.pixels, np.ones(drawn.pixels.shape, bool), 0.0, SIGMA)
    info = drawn.info.model_copy(update={"noise_correlation": tuple(map(tuple, correlation.tolist()))})
    planes = {"difference": drawn.pixels, "mask": np.zeros(drawn.pixels.shape, np.uint16)}
    settings = Settings(measure=MeasureSettings(min_reliability=0.0))
    found = search_pixels(planes, info, settings)["dia_source"].rows
    near = [np.hypot(found["x"].to_numpy() - x, found["y"].to_numpy() - y).min() for x, y in drawn.places]
    assert len(near) == 4
    assert (np.array(near) < 3).sum() >= least
