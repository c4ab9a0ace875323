import json

import pytest

from benchmarks.faults.fault_proxy import FaultProxy, Faults
from flows.storage.bucket_path import BucketPath, files_below, located
from flows.storage.conditional import (
    WriteConditions,
    probe_store,
    read_record,
    read_records,
    remove_record,
    write_conditions,
    write_record,
)
from flows.storage.object_store import configure
from schemas.errors import Misconfigured, Retryable
from schemas.settings import StoreSettings

pytest_plugins = ("tests.support.s3_fixture",)


@pytest.fixture
def unconditional(moto, monkeypatch):
    """A folder in a store that ignores conditions."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    out = located(f"s3://{moto.new_bucket()}/out")
    with FaultProxy("127.0.0.1", moto.port, Faults(unconditional=True)) as proxy:
        configure(StoreSettings(endpoint=proxy.endpoint, patience_s=20))
        yield out
    configure(StoreSettings())


def test_finds_out_and_leaves_nothing(bucket):
    found = probe_store(bucket)
    assert found.enforced
    assert files_below(bucket) == []
    assert write_conditions(bucket) == found


def test_a_store_that_ignores_them_is_found_out(unconditional):
    assert probe_store(unconditional) == WriteConditions(enforced=False)
    path = unconditional / "x"
    for content in (b"one", b"two"):
        WriteConditions().write(path, content, None)
        assert path.read_bytes() == content


def test_only_the_version_that_was_seen_is_replaced(bucket):
    conditions, path = write_conditions(bucket), bucket / "x"
    first = conditions.write(path, b"first", None)
    with pytest.raises(FileExistsError):
        conditions.write(path, b"other", None)
    second = conditions.write(path, b"second", first)
    assert second == path.read_versioned().version
    with pytest.raises(FileExistsError):
        conditions.write(path, b"third", first)
    path.unlink()
    with pytest.raises((FileExistsError, FileNotFoundError)):
        conditions.write(path, b"third", second)


def test_a_put_whose_answer_is_lost_counts_once(bucket, monkeypatch):
    """The store has it, the writer does not know: the version is looked up, not written again."""
    conditions, path, write = write_conditions(bucket), bucket / "x", BucketPath.write
    calls = []

    def lossy(self, *arguments, **options):
        calls.append(write(self, *arguments, **options))
        raise Retryable("object_store", str(self), "the connection was cut.", "wait.")

    monkeypatch.setattr(BucketPath, "write", lossy)
    assert conditions.write(path, b"once", None) == path.read_versioned().version
    assert len(calls) == 1


def test_an_object_that_is_gone_counts_as_changed(bucket):
    path = bucket / "x"
    version = WriteConditions(enforced=True, quoted=probe_store(bucket).quoted).write(path, b"one", None)
    path.unlink()
    with pytest.raises(FileExistsError):
        write_conditions(bucket).write(path, b"two", version)


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
