import numpy as np
import pyarrow as pa

from schemas.hit import HIT
from schemas.tiles import Tiling


def test_rows_of_the_largest_camera_fit():
    rows, columns = Tiling((20_000, 20_000), 7, 26, 7).grid
    table = pa.table({"row": [rows], "column": [columns], "logit": np.float32([1.5])}, schema=HIT.schema)
    HIT.check(table)
    assert table["row"].to_pylist() == [rows]
