import pytest

from flows.adapters.bucket_folder import local_copy, publish_group, remove_group
from flows.adapters.bucket_path import BucketPath, files_below
from schemas.errors import Retryable

pytest_plugins = ("tests.flows.s3_fixture",)


@pytest.fixture
def group(tmp_path):
    for name in ("zarr.json", "plane/zarr.json", "plane/c/0/0", "plane/c/0/1"):
        (tmp_path / "group" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "group" / name).write_text(name)
    return tmp_path / "group"


def test_root_is_first_to_go_and_last_to_come(bucket, group, monkeypatch):
    path, order = bucket / "x.zarr", []
    publish_group(group, path)
    (group / "plane/c/0/1").unlink()
    write, unlink = BucketPath.write, BucketPath.unlink
    monkeypatch.setattr(BucketPath, "write", lambda self, *a: (order.append(("+", self.name)), write(self, *a)))
    monkeypatch.setattr(BucketPath, "unlink", lambda self, **k: (order.append(("-", self.name)), unlink(self, **k)))
    publish_group(group, path)
    assert order[0] == ("-", "zarr.json")
    assert order[-2:] == [("-", "1"), ("+", "zarr.json")]
    with local_copy(path) as folder:
        found = {one.relative_to(folder).as_posix(): one.read_text() for one in files_below(folder)}
    assert found == {name: name for name in ("zarr.json", "plane/zarr.json", "plane/c/0/0")}
    order.clear()
    remove_group(path)
    assert order[0] == ("-", "zarr.json")
    assert files_below(path) == []


def test_group_that_cannot_be_written_is_missing(bucket, group, monkeypatch):
    path, write = bucket / "x.zarr", BucketPath.write
    publish_group(group, path)

    def broken(self, *arguments):
        if self.name == "1":
            raise Retryable("object_store", str(self), "is down.", "wait.")
        return write(self, *arguments)

    monkeypatch.setattr(BucketPath, "write", broken)
    with pytest.raises(Retryable):
        publish_group(group, path)
    assert not (path / "zarr.json").exists()


def test_a_local_folder_is_its_own_copy(group):
    with local_copy(group) as folder:
        assert folder == group
