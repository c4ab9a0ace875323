"""What several tests build from."""

import pyarrow as pa
import pytest

from flows.inputs.prepare import prepare
from flows.inputs.source import Source
from schemas.errors import BadInput
from schemas.settings import Settings
from schemas.truth import TRUTH


def truth_table(rows: list[tuple[str, float, float, float, float, float, float]]) -> pa.Table:
    """Truth of one exposure with the given (kind, x, y, length, angle, snr, visible)."""
    names = ("kind", "x", "y", "length_px", "angle_deg", "snr", "visible")
    columns = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    filler = {"objectName": "", "ra": None, "dec": None, "magnitude": None}
    for field in TRUTH.schema:
        columns.setdefault(field.name, [filler.get(field.name, 0)] * len(rows))
    return pa.table({field.name: columns[field.name] for field in TRUTH.schema}, schema=TRUTH.schema)


def refused(path, code, *words):
    """The exposure is refused with this code, and the message has these words and names the file."""
    with pytest.raises(BadInput) as caught:
        prepare(Source(str(path)), Settings())
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)
