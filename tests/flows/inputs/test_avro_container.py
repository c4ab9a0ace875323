import io
import sys

import fastavro
import pytest

from flows.inputs.avro_container import MOST_BLOCK, open_container
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


def test_needs_fastavro(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(Misconfigured, match="pip install 'fastavro"):
        open_container(io.BytesIO(b""), "a.avro")
