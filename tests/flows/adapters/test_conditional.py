import pytest

from benchmarks.faults.fault_proxy import FaultProxy, Faults
from flows.adapters.bucket_path import BucketPath, files_below, located
from flows.adapters.conditional import Conditions, conditions_of, probe
from flows.adapters.object_store import configure
from schemas.errors import Retryable
from schemas.settings import StoreSettings

pytest_plugins = ("tests.flows.s3_fixture",)


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
    found = probe(bucket)
    assert found.enforced
    assert files_below(bucket) == []
    assert conditions_of(bucket) == found


def test_a_store_that_ignores_them_is_found_out(unconditional):
    assert probe(unconditional) == Conditions(enforced=False)
    path = unconditional / "x"
    for content in (b"one", b"two"):
        Conditions().write(path, content, None)
        assert path.read_bytes() == content


def test_only_the_version_that_was_seen_is_replaced(bucket):
    conditions, path = conditions_of(bucket), bucket / "x"
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
    conditions, path, write = conditions_of(bucket), bucket / "x", BucketPath.write
    calls = []

    def lossy(self, *arguments, **options):
        calls.append(write(self, *arguments, **options))
        raise Retryable("object_store", str(self), "the connection was cut.", "wait.")

    monkeypatch.setattr(BucketPath, "write", lossy)
    assert conditions.write(path, b"once", None) == path.read_versioned().version
    assert len(calls) == 1


def test_an_object_that_is_gone_counts_as_changed(bucket):
    path = bucket / "x"
    version = Conditions(enforced=True, quoted=probe(bucket).quoted).write(path, b"one", None)
    path.unlink()
    with pytest.raises(FileExistsError):
        conditions_of(bucket).write(path, b"two", version)
