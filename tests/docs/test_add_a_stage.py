"""The example of the page works."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.dia_source import DIA_SOURCE
from schemas.stage import Context

PAGE = Path(__file__).parents[2] / "docs/develop/add_a_stage.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
OURS = re.compile(r"^from (?:schemas|stages)\.brightest import .*$", re.MULTILINE)


@pytest.fixture(scope="module")
def names():
    """What the blocks define, one after the other; their imports of each other are left out."""
    found = {}
    for block in BLOCKS:
        exec(compile(OURS.sub("", block), str(PAGE), "exec"), found)
    return found


def test_the_stage_of_the_page_finds_the_brightest(names):
    values = [
        {
            field.name: None if field.nullable else [0.0] * 25 if pa.types.is_list(field.type) else _value(field, n)
            for field in DIA_SOURCE.schema
        }
        for n in (3, 9, 5)
    ]
    found = names["STAGE"]({"dia_source": pa.Table.from_pylist(values, schema=DIA_SOURCE.schema)}, Context())
    assert found.rows.to_pylist() == [{"diaSourceId": 9, "snr": 9.0}]


def _value(field, n):
    if pa.types.is_string(field.type):
        return ""
    return n if field.name in ("diaSourceId", "snr") else 0


def test_the_test_of_the_page_passes(names):
    names["test_nothing_is_brightest_where_nothing_was_found"]()
