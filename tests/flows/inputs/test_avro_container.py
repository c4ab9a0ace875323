import io
import json
import sys

import fastavro
import pytest

from flows.inputs import avro_container
from flows.inputs.avro_container import MOST_BLOCK, MOST_DEEP, open_container, require_bounded
from flows.publish.avro_rows import avro_long
from schemas.errors import BadInput, Misconfigured

SCHEMA = fastavro.parse_schema(
    {"type": "record", "name": "one", "fields": [{"name": "n", "type": "long"}, {"name": "text", "type": "string"}]}
)
RECORDS = [{"n": n, "text": "x" * n} for n in range(200)]


def written(codec="null", records=RECORDS, **options):
    buffer = io.BytesIO()
    fastavro.writer(buffer, SCHEMA, records, codec=codec, **options)
    return buffer.getvalue()


def read(content):
    schema, records = open_container(io.BytesIO(content), "a.avro")
    return schema, list(records)


@pytest.mark.parametrize("codec", ["null", "deflate"])
@pytest.mark.parametrize("interval", [100, 16000])
def test_reads_what_fastavro_writes(codec, interval):
    schema, records = read(written(codec, sync_interval=interval))
    assert schema["name"] == "one"
    assert records == RECORDS


def test_what_comes_before_the_end_of_a_truncated_file_is_read():
    content = written(sync_interval=1000)[:-700]
    _, records = open_container(io.BytesIO(content), "a.avro")
    found = []
    with pytest.raises(BadInput, match=r"a\.avro.*ends") as raised:
        found.extend(records)  # pragma: no branch
    assert raised.value.code == "truncated"
    _, records = open_container(io.BytesIO(content), "a.avro")
    assert next(records) == RECORDS[0]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "bad_avro"),
        (b"not avro", "bad_avro"),
        (b"Obj\x01" + b"\xff" * 40, "bad_avro"),
        (written()[:60], "bad_avro"),
        (written("bzip2"), "bad_avro"),
        (written()[:-1] + b"\0", "bad_avro"),
    ],
)
def test_what_is_no_container(content, code):
    with pytest.raises(BadInput, match=r"^a\.avro") as raised:
        read(content)
    assert raised.value.code == code


def damaged(at, value):
    """Change the number of records or bytes of the block of a file."""
    content = written()
    head = content.index(content[-16:]) + 16
    return content[:head] + at(content[head:], value)


def test_a_block_that_says_it_is_huge_is_not_read():
    size = b"\x90\x03\xfe\xff\xff\xff\xff\xff\x01"  # 200 records, 2^42 bytes
    with pytest.raises(BadInput) as raised:
        read(damaged(lambda block, _: size + block[5:], None))
    assert raised.value.code == "too_large"


def test_a_block_that_unpacks_to_too_much_is_not_unpacked():
    bomb = written("deflate", [{"n": 1, "text": "x" * (MOST_BLOCK + 1)}])
    assert len(bomb) < MOST_BLOCK / 100
    with pytest.raises(BadInput) as raised:
        read(bomb)
    assert raised.value.code == "too_large"


@pytest.mark.parametrize(
    ("codec", "told"), [("deflate", "more than 999 bytes"), ("null", "a block has 1000 bytes, the limit is 999")]
)
def test_a_block_may_have_or_unpack_to_the_most_bytes_there_may_be(monkeypatch, codec, told):
    content = written(codec, [{"n": 1, "text": "x" * 997}])  # a byte for the number, two for the length
    monkeypatch.setattr(avro_container, "MOST_BLOCK", 1000)
    assert read(content)[1] == [{"n": 1, "text": "x" * 997}]
    monkeypatch.setattr(avro_container, "MOST_BLOCK", 999)
    with pytest.raises(BadInput, match=told):
        read(content)


def test_needs_fastavro(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(Misconfigured, match="pip install 'fastavro"):
        open_container(io.BytesIO(b""), "a.avro")


def _with(kind):
    """Return a container with a field of a type beside that of candid, whose one record has few bytes."""
    fields = [{"name": "n", "type": "long"}, {"name": "x", "type": kind}]
    schema = json.dumps({"type": "record", "name": "alert", "fields": fields}).encode()
    entries = {b"avro.schema": schema, b"avro.codec": b"null"}
    header = b"".join(avro_long(len(one)) + one for pair in entries.items() for one in pair)
    body = b"\x02" * 3_000_000
    block = avro_long(1) + avro_long(len(body)) + body
    return b"Obj\x01" + avro_long(len(entries)) + header + avro_long(0) + b"m" * 16 + block + b"m" * 16


def _nested(depth):
    kind = "int"
    for _ in range(depth):
        kind = {"type": "array", "items": kind}
    return kind


def _chain(depth):
    """Return records each of which has the one before by its name: not deep as it is written."""
    fields = [
        {"name": "f0", "type": ["null", {"type": "record", "name": "r0", "fields": [{"name": "i", "type": "int"}]}]}
    ]
    for n in range(1, depth):
        inner = {"type": "record", "name": f"r{n}", "fields": [{"name": "i", "type": f"r{n - 1}"}]}
        fields.append({"name": f"f{n}", "type": ["null", inner]})
    return {"type": "record", "name": "top", "fields": fields}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"type": "record", "name": "n", "fields": [{"name": "next", "type": ["null", "n"]}]}, "within itself"),
        ({"type": "array", "items": "null"}, "without bytes"),
        ({"type": "array", "items": {"type": "null"}}, "without bytes"),
        ({"type": "array", "items": {"type": "record", "name": "e", "fields": []}}, "without bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "f", "size": 0}}, "without bytes"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}, "decimals"),
        (_nested(300), "types deep"),
        (_chain(300), "types deep"),
    ],
)
def test_a_schema_without_bounds_is_refused_before_any_record_is_read(kind, said):
    """A decoder that follows it runs out of stack, which kills the process, or out of memory."""
    with pytest.raises(BadInput, match=said) as raised:
        open_container(io.BytesIO(_with(kind)), "a.avro")
    assert raised.value.code == "bad_avro"


def test_a_schema_may_be_as_deep_as_there_may_be():
    require_bounded(_nested(MOST_DEEP))
    with pytest.raises(ValueError, match=f"more than {MOST_DEEP} types deep"):
        require_bounded(_nested(MOST_DEEP + 1))


def test_types_are_used_again_by_their_names():
    kind = {"type": "record", "name": "c", "fields": [{"name": "i", "type": "int"}]}
    fields = [{"name": "a", "type": ["null", kind]}, {"name": "b", "type": ["null", "c"]}]
    schema = {
        "type": "record",
        "name": "one",
        "fields": [*fields, {"name": "d", "type": {"type": "array", "items": "c"}}],
    }
    buffer = io.BytesIO()
    record = {"a": {"i": 1}, "b": None, "d": [{"i": 2}, {"i": 3}]}
    fastavro.writer(buffer, fastavro.parse_schema(schema), [record])
    assert read(buffer.getvalue())[1] == [record]


@pytest.mark.parametrize(
    ("count", "rest", "code"),
    [
        (b"", b"", 0),  # no further block
        (b"\x00", b"\x00" + b"M" * 16, 0),  # a block of none
        (b"\x80\x01", b"\x80\x03" + b"\x02\x02x" * 64 + b"M" * 16, 64),  # numbers of two bytes, the first 128
        (b"\x80" * 9 + b"\x02", b"", "truncated"),  # the tenth byte belongs to the number
        (b"\x80" * 10, b"\x00" * 40, "bad_avro"),  # a length has more than 64 bits
        (b"\x80", b"", "truncated"),
        (b"\x02", b"\x06\x02\x02x", "truncated"),
        (b"\x02", b"\x06\x02\x02x" + b"M" * 16, 1),
        (b"\x02", b"\x08\x02\x02x\x00" + b"M" * 16, "bad_avro"),  # a byte of the block is left over
        (b"\x04", b"\x06\x02\x02x" + b"M" * 16, "bad_avro"),  # more records than bytes
    ],
)
def test_a_block_holds_what_its_numbers_say(count, rest, code):
    content = written(records=[])
    content = content[:-16] + b"M" * 16
    if isinstance(code, int):
        assert read(content + count + rest)[1] == [{"n": 1, "text": "x"}] * code
        return
    with pytest.raises(BadInput) as raised:
        read(content + count + rest)
    assert raised.value.code == code
