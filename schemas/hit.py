"""Search windows that may hold a streak."""

import pyarrow as pa

from schemas.dataset import TableOf, column

HIT = TableOf(
    "hit",
    pa.schema(
        [
            column("row", pa.int32(), "", "Row of the window on the exposure's grid; its first pixel is row*stride."),
            column("column", pa.int32(), "", "Column of the window on the exposure's grid."),
            column("logit", pa.float32(), "", "Log odds that the window holds an asteroid, from the network."),
        ]
    ),
)
