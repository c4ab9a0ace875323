"""What several tests build from."""

import pyarrow as pa
import pytest

from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from schemas.errors import BadInput
from schemas.settings import Settings
from schemas.truth import TRUTH
from tests.support.filled import filled_rows


def truth_table(rows: list[tuple[str, float, float, float, float, float, float]]) -> pa.Table:
    """Truth of one exposure with the given (kind, x, y, length, angle, snr, visible)."""
    names = ("kind", "x", "y", "length_px", "angle_deg", "snr", "visible")
    return filled_rows(TRUTH.schema, [dict(zip(names, row, strict=True)) for row in rows])


def refused(path, code, *words):
    """The exposure is refused with this code, and the message has these words and names the file."""
    with pytest.raises(BadInput) as caught:
        prepare(Source(str(path)), Settings())
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)
