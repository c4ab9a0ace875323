import json

import pyarrow as pa
import pytest

from flows.pipeline.stage_run import gathered, run_stages, search_grid, table_of
from flows.runtime.traces import Timer
from kernels.search.dense_search import dense_grid
from schemas.dataset import DatasetError, TableOf
from schemas.dia_source import HIT, SearchCounts
from schemas.errors import BadInput, Misconfigured
from schemas.pixels import MASK, SearchGrid, Tile
from schemas.settings import DetectSettings, Settings
from schemas.stage import Model, Result, Stage
from stages.detect import STAGE as DETECT
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
    timer = Timer()
    results = run_stages(stages, {}, EXPOSURE, TILE, Settings(), timer, search=10)
    assert results["sums"].rows.to_pylist() == [{"n": 14}]
    assert timer.seconds().keys() == {"numbers", "sums", "other"}


def test_errors_of_a_stage_name_it_and_the_line_of_its_code_that_led_to_them():
    def mine(inputs, context):
        return json.loads("{")

    def refuses(inputs, context):
        raise BadInput("bad", "here", "is wrong.", "mend it.")

    with pytest.raises(json.JSONDecodeError) as caught:
        run_stages((Stage("mine", "7", "tile", (), NUMBERS, mine),), {}, EXPOSURE, TILE, Settings(), Timer())
    line = mine.__code__.co_firstlineno + 1
    assert caught.value.__notes__ == [f"stage mine 7, {__file__} line {line}, in mine"]
    with pytest.raises(BadInput) as ours:
        run_stages((Stage("mine", "7", "tile", (), NUMBERS, refuses),), {}, EXPOSURE, TILE, Settings(), Timer())
    assert not hasattr(ours.value, "__notes__")


def test_a_loaded_model_stands_in_for_the_one_of_the_settings(tmp_path):
    def judge(inputs, context):
        return pa.table({"n": [context.models["detect"]]}, NUMBERS.schema)

    model = Model("detect", "detect.model", lambda weights, settings: None)
    stages = (Stage("numbers", "1", "tile", (), NUMBERS, judge, models=(model,)),)
    nowhere = Settings(detect=DetectSettings(model=str(tmp_path)))
    found = run_stages(stages, {}, EXPOSURE, TILE, nowhere, Timer(), loaded={"detect": 5})
    assert found["numbers"].rows.to_pylist() == [{"n": 5}]
    with pytest.raises(Misconfigured, match="there is no model"):
        run_stages(stages, {}, EXPOSURE, TILE, nowhere, Timer(), loaded={"reliability": 5})


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


def test_cells_lie_where_the_card_says(tmp_path):
    write_cells(tmp_path, dilations=(1, 3))
    assert search_grid(DetectSettings(model=str(tmp_path), stride=9)) == dense_grid(5)


def test_windows_lie_where_the_settings_say(tmp_path):
    write_windows(tmp_path)
    assert search_grid(DetectSettings(model=str(tmp_path), stride=9)) == SearchGrid(26, 9, 0, 26)


def test_a_detector_that_is_not_there_is_named():
    with pytest.raises(Misconfigured, match="no_such"):
        search_grid(DetectSettings(model="no_such"))
