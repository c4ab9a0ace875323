from io import BytesIO

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flows.publish.avro_rows import Column, Encoded, avro_long, encode_rows, ids_or_null
from schemas.errors import BadInput

KINDS = {
    "boolean": (np.bool_, st.booleans()),
    "int": (np.int64, st.integers(-(1 << 31), (1 << 31) - 1)),
    "long": (np.int64, st.integers(-(1 << 63), (1 << 63) - 1)),
    "float": (np.float32, st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "double": (np.float64, st.floats(allow_nan=False, allow_infinity=False)),
}


def schema(*fields):
    return {"type": "record", "name": "row", "fields": [{"name": name, "type": kind} for name, kind in fields]}


def by_fastavro(form, rows):
    parsed, found = fastavro.parse_schema(form), []
    for row in rows:
        file = BytesIO()
        fastavro.schemaless_writer(file, parsed, row)
        found.append(file.getvalue())
    return found


@given(st.data(), st.integers(0, 5))
def test_rows_have_the_bytes_that_fastavro_writes(data, count):
    fields, columns = [], {}
    for name, kind in enumerate(data.draw(st.lists(st.sampled_from([*KINDS, "string"]), max_size=6))):
        nullable = data.draw(st.booleans())
        fields.append((f"f{name}", ["null", kind] if nullable else kind))
        if kind == "string":
            values = data.draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))
        else:
            dtype, elements = KINDS[kind]
            values = data.draw(arrays(dtype, count, elements=elements))
        valid = data.draw(arrays(np.bool_, count)) if nullable else None
        if kind == "string" and nullable:
            values, valid = [one if there else None for one, there in zip(values, valid, strict=True)], None
        columns[f"f{name}"] = Column(values, valid)
    rows = [{name: _plain(column, n) for name, column in columns.items()} for n in range(count)]
    assert encode_rows(schema(*fields), columns, count) == by_fastavro(schema(*fields), rows)


def _plain(column, n):
    if column.valid is not None and not column.valid[n]:
        return None
    value = column.values[n]
    return value if value is None or isinstance(value, str) else value.item()


def test_what_is_no_number_is_null():
    form = schema(("a", ["null", "float"]), ("b", "int"))
    columns = {"a": Column(np.array([np.nan, np.inf, 2.5])), "b": Column(np.array([-(1 << 31), 0, (1 << 31) - 1]))}
    rows = [{"a": None, "b": -(1 << 31)}, {"a": None, "b": 0}, {"a": 2.5, "b": (1 << 31) - 1}]
    assert encode_rows(form, columns, 3) == by_fastavro(form, rows)
    assert all(isinstance(one, Encoded) for one in encode_rows(form, columns, 3))


@pytest.mark.parametrize("number", [0, 1, 63, 64, 127, 8191, 8192, (1 << 62) - 1])
def test_numbers_from_0_on_are_those_of_fastavro(number):
    file = BytesIO()
    fastavro.schemaless_writer(file, "long", number)
    assert avro_long(number) == file.getvalue()


def test_numbers_and_texts_take_as_many_bytes_as_they_need():
    """Seven bits of a number in a byte, its sign among them: the last numbers of one, two and nine, and the next."""
    numbers = [0, 63, -64, 64, -65, 8191, -8192, 8192, -8193, (1 << 63) - 1, -(1 << 63)]
    texts = ["x" * (1000 if n == 3 else n) for n in range(len(numbers))]
    form = schema(("number", "long"), ("text", "string"))
    rows = [{"number": number, "text": text} for number, text in zip(numbers, texts, strict=True)]
    columns = {"number": Column(np.array(numbers)), "text": Column(texts)}
    assert encode_rows(form, columns, len(rows)) == by_fastavro(form, rows)
    alone = schema(("text", "string"))
    assert encode_rows(alone, {"text": Column(texts)}, len(texts)) == by_fastavro(
        alone, [{"text": one} for one in texts]
    )


def test_ids_that_are_not_there_are_null():
    form, ids = schema(("id", ["null", "long"])), [3, None, 0, (1 << 63) - 1]
    assert encode_rows(form, {"id": ids_or_null(ids)}, 4) == by_fastavro(form, [{"id": one} for one in ids])


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({}, "b is missing, or null"),
        ({"b": Column(np.array([1.5, 2.5]))}, "must hold whole numbers"),
        ({"b": Column(np.array([1, 1 << 31]))}, "more than 32 bits"),
        ({"b": Column(np.array([1, 2]), np.array([True, False]))}, "b is missing, or null"),
        ({"b": Column(np.array([1, 2])), "c": Column(np.array([1, 2]))}, "c: not in the schema"),
    ],
)
def test_what_breaks_the_schema_is_named(columns, problem):
    with pytest.raises(BadInput, match=problem) as caught:
        encode_rows(schema(("a", ["null", "float"]), ("b", "int")), columns, 2)
    assert caught.value.code == "alert_schema"
