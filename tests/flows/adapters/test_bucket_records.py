import json

import pytest

from flows.adapters.bucket_records import read_record, read_records, remove_record, write_record
from schemas.errors import Misconfigured

pytest_plugins = ("tests.flows.s3_fixture",)


def test_gives_back_what_was_written(out):
    path = out / "ledger/x.json"
    with pytest.raises(FileNotFoundError):
        read_record(path)
    for content in (b"one", b"another"):
        write_record(path, content, out)
        assert read_record(path) == content
    assert read_records([path, out / "ledger/none.json"]) == [(path, b"another")]
    remove_record(path)
    assert read_records([path]) == []
    write_record(path, b"again", out)
    assert read_records([]) == []


def test_another_run_is_noticed(bucket):
    path = bucket / "ledger/x.json"
    write_record(path, b"mine", bucket)
    path.write(json.dumps("theirs").encode())
    with pytest.raises(Misconfigured, match="another run") as caught:
        write_record(path, b"mine again", bucket)
    assert caught.value.code == "taken_over"
    assert path.read_bytes() == b'"theirs"'
    read_record(path)  # whoever has seen it may replace it
    write_record(path, b"mine again", bucket)


def test_a_record_that_is_new_to_this_process_is_looked_at_first(bucket):
    (bucket / "ledger/x.json").write(b"old")
    write_record(bucket / "ledger/x.json", b"new", bucket)
    assert (bucket / "ledger/x.json").read_bytes() == b"new"
