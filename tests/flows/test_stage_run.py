import pyarrow as pa
import pytest

from flows.laps import Laps
from flows.stage_run import gathered, run_stages, table_of
from schemas.dataset import DatasetError, TableOf
from schemas.hit import HIT
from schemas.pixels import MASK
from schemas.settings import Settings
from schemas.stage import Stage
from schemas.tiles import Tile
from stages.detect import STAGE as DETECT
from tests.stages.test_inject import EXPOSURE

NUMBERS = TableOf("numbers", pa.schema([pa.field("n", pa.int64())]))
SUMS = TableOf("sums", pa.schema([pa.field("n", pa.int64())]))
TILE = Tile(0, 0, 26, 26, 0, 0, 1, 1)


def numbers(inputs, context):
    return pa.table({"n": [1, 2, context.tile.rows]}, NUMBERS.schema)


def sums(inputs, context):
    return pa.table({"n": [sum(inputs["numbers"]["n"].to_pylist()) + context.search]}, SUMS.schema)


def test_runs_in_order_with_the_context_of_each_and_times_each_under_its_name():
    stages = (Stage("numbers", "1", "tile", (), NUMBERS, numbers), Stage("sums", "1", "tile", (NUMBERS,), SUMS, sums))
    inputs, laps = {}, Laps()
    run_stages(stages, inputs, EXPOSURE, TILE, Settings(), laps, search=10)
    assert inputs["sums"].to_pylist() == [{"n": 14}]
    assert laps.seconds().keys() == {"numbers", "sums", "other"}


def test_hits_of_tiles_are_put_in_the_order_of_the_grid():
    def tile(*rows):
        return pa.Table.from_pylist(list(rows), HIT.schema).replace_schema_metadata({"stride": "7"})

    rows = [{"row": row, "column": column, "logit": 1.0} for row in (0, 2) for column in (1, 5)]
    whole = gathered(DETECT, [tile(rows[3], rows[0]), tile(rows[2]), tile(rows[1])])
    assert whole.to_pylist() == rows
    assert whole.schema.metadata == {b"stride": b"7"}
    assert gathered(DETECT, []).equals(HIT.empty())


def test_only_tables_are_gathered():
    with pytest.raises(DatasetError, match="stage 'paint' gives pixels"):
        table_of(Stage("paint", "1", "tile", (), MASK, numbers))
