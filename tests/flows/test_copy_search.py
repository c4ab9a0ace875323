import numpy as np
import pytest

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.probe import probe
from flows.adapters.sources import Source
from flows.adapters.zarr_tiles import TileStore
from flows.copy_search import CopySearch
from flows.exposure_tasks import finish, search, store, tile_path
from schemas.dataset import ArrayOf
from schemas.dia_source import DIA_SOURCE
from schemas.search_grid import SearchGrid
from schemas.settings import DetectSettings, InjectSettings, MeasureSettings, Settings, TileSettings
from schemas.tiles import Tiling
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
    stored = store(source, key, None, tmp_path, SETTINGS)
    path = tile_path(tmp_path, key)
    tiles = Tiling(stored.info.shape, SETTINGS.tiles.tile, 26, 7).tiles()
    finish(path, [search(path, tiles, SETTINGS)], stored.lineage, tmp_path, SETTINGS)
    return TileStore.open(path), CatalogStore(tmp_path).read(DIA_SOURCE, key)


def test_finds_in_a_copy_what_the_run_finds_in_the_image(published):
    opened, expected = published
    planes = {name: opened.read_all(name) for name in ("difference", "mask")}
    found = CopySearch(SETTINGS)(planes, opened.info)
    assert len(found) > 0
    assert found.drop_columns("diaSourceId").equals(expected.drop_columns("diaSourceId"))
    assert found["diaSourceId"].to_pylist() == [-1 - number for number in expected["diaSourceId"].to_pylist()]


def test_a_copy_smaller_than_a_window_holds_nothing(published):
    opened, _ = published
    planes = {name: opened.read(name, 0, 0, 20, 40) for name in ("difference", "mask")}
    found = CopySearch(SETTINGS)(planes, opened.info.model_copy(update={"shape": (20, 40)}))
    assert found.equals(DIA_SOURCE.empty())


def test_its_grid_is_that_of_the_settings():
    assert CopySearch(SETTINGS).grid == SearchGrid(26, 7, 0, 26)


def test_the_copies_hold_every_plane_that_the_search_needs():
    leading = [stage for stage in PIPELINE if stage.name in ("detect", "merge", "measure")]
    needed = {one.name for stage in leading for one in stage.needs if isinstance(one, ArrayOf)}
    assert needed <= {one.name for one in STAGE.needs}
