import numpy as np
import pyarrow as pa
import pytest

from flows.inputs.probe import probe
from flows.inputs.source import Source
from flows.nights.exposure_work import finish_exposure, search_tiles, store_exposure
from flows.pipeline.stage_run import CopySearch, gathered, run_stages, search_grid, table_of
from flows.runtime.traces import Timer
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from kernels.search.dense_search import dense_grid
from schemas.dataset import ArrayOf, DatasetError, TableOf
from schemas.dia_source import DIA_SOURCE, HIT, SearchCounts
from schemas.errors import Misconfigured
from schemas.pixels import MASK, SearchGrid, Tile, Tiling
from schemas.settings import DetectSettings, InjectSettings, MeasureSettings, Settings, TileSettings
from schemas.stage import Result, Stage
from stages import PIPELINE
from stages.detect import STAGE as DETECT
from stages.inject import STAGE
from tests.stages.test_inject import EXPOSURE
from tests.support.models import write_cells, write_windows

NUMBERS = TableOf("numbers", pa.schema([pa.field("n", pa.int64())]))
SUMS = TableOf("sums", pa.schema([pa.field("n", pa.int64())]))
TILE = Tile(0, 0, 26, 26, 0, 0, 1, 1)


def numbers(inputs, context):
    return pa.table({"n": [1, 2, context.tile.rows]}, NUMBERS.schema)


def sums(inputs, context):
    return pa.table({"n": [sum(inputs["numbers"]["n"].to_pylist()) + context.search]}, SUMS.schema)


def test_runs_in_order_with_the_context_of_each_and_times_each_under_its_name():
    stages = (Stage("numbers", "1", "tile", (), NUMBERS, numbers), Stage("sums", "1", "tile", (NUMBERS,), SUMS, sums))
    laps = Timer()
    results = run_stages(stages, {}, EXPOSURE, TILE, Settings(), laps, search=10)
    assert results["sums"].rows.to_pylist() == [{"n": 14}]
    assert laps.seconds().keys() == {"numbers", "sums", "other"}


def test_hits_of_tiles_are_put_in_the_order_of_the_grid():
    def tile(*rows):
        return Result(pa.Table.from_pylist(list(rows), HIT.schema), SearchCounts(10, 1, SearchGrid()))

    rows = [{"row": row, "column": column, "logit": 1.0} for row in (0, 2) for column in (1, 5)]
    whole = gathered(DETECT, [tile(rows[3], rows[0]), tile(rows[2]), tile(rows[1])])
    assert whole.rows.to_pylist() == rows
    assert whole.numbers == SearchCounts(30, 3, SearchGrid())
    assert gathered(DETECT, []).rows.equals(HIT.empty())
    assert gathered(DETECT, []).numbers is None


def test_only_tables_are_gathered():
    with pytest.raises(DatasetError, match="stage 'paint' gives pixels"):
        table_of(Stage("paint", "1", "tile", (), MASK, numbers))


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


def test_cells_lie_where_the_card_says(tmp_path):
    write_cells(tmp_path, dilations=(1, 3))
    assert search_grid(DetectSettings(model=str(tmp_path), stride=9)) == dense_grid(5)


def test_windows_lie_where_the_settings_say(tmp_path):
    write_windows(tmp_path)
    assert search_grid(DetectSettings(model=str(tmp_path), stride=9)) == SearchGrid(26, 9, 0, 26)


def test_a_detector_that_is_not_there_is_named():
    with pytest.raises(Misconfigured, match="no_such"):
        search_grid(DetectSettings(model="no_such"))
