import errno
import io
import os
import pickle
from pathlib import Path

import pytest

from flows.storage import catalog_parts, object_store
from flows.storage.array_store import local_copy
from flows.storage.atomic import remove, write_file
from flows.storage.bucket_path import (
    BucketPath,
    change_of,
    file_sizes,
    files_below,
    located,
    publish_group,
    read_files,
    remove_group,
)
from flows.storage.catalog_parts import entries
from flows.storage.object_store import configure
from schemas.errors import Misconfigured, Retryable
from schemas.settings import StoreSettings
from tests.support.memory_store import bucket_in_memory

pytest_plugins = ("tests.support.s3_fixture",)


NAMES = ("a.json", "b/c=1/d.parquet", "b/c=2/d.parquet", "b/e", "ü #?%+ x.json")


@pytest.fixture
def filled(bucket):
    for name in NAMES:
        (bucket / name).write(name.encode())
    return bucket


def test_is_named_like_a_path():
    out = located("s3://bucket/some/out/")
    assert isinstance(out, BucketPath)
    assert str(out / "x") == "s3://bucket/some/out/x"
    assert (out / "a/b.json").relative_to(out).as_posix() == "a/b.json"
    assert (out / "a.json").stem == "a"
    assert (out / "a/b").parent == out / "a"
    assert pickle.loads(pickle.dumps(out)) == out.resolve() == located("s3://bucket/some/out")
    assert sorted([out / "b", out / "a"]) == [out / "a", out / "b"]


def test_a_local_folder_is_a_path(tmp_path):
    assert located(str(tmp_path)) == tmp_path
    assert type(located("out")) is type(tmp_path)


@pytest.mark.parametrize("text", ["s3://", "s3:///", "gs://bucket/out", "s3://bucket/../other", "http://host/x"])
def test_no_place_for_results(text):
    with pytest.raises(Misconfigured, match="not a place for results"):
        located(text)


def test_nothing_takes_it_for_a_local_file():
    with pytest.raises(Misconfigured, match="a folder on this machine") as caught:
        open(located("s3://bucket/out") / "x")  # noqa: PTH123, SIM115
    assert caught.value.code == "local_folder"


def test_reads_what_was_written(filled):
    for name in NAMES:
        assert (filled / name).read_bytes() == name.encode()
        assert (filled / name).open("rb").read() == name.encode()
    assert read_files(filled / name for name in NAMES) == [name.encode() for name in NAMES]
    (missing,) = read_files([filled / "missing"])
    assert isinstance(missing, FileNotFoundError)
    with pytest.raises(FileNotFoundError, match="missing"):
        (filled / "missing").read_bytes()


def test_reads_parts_of_what_was_written(bucket):
    content = bytes(range(256)) * 20_000  # too long for all ranges to be fetched at one go
    (bucket / "x").write(content)
    ranges = [(5_000_000, 5_000_007), (0, 3), (3, 300_000)]
    assert (bucket / "x").read_ranges(ranges) == [content[start:end] for start, end in ranges]
    assert (bucket / "x").read_end(9) == (len(content), content[-9:])
    (bucket / "x").write(b"abc")
    assert (bucket / "x").read_end(9) == (3, b"abc")
    for read in (lambda path: path.read_ranges([(0, 1)]), lambda path: path.read_end(1)):
        with pytest.raises(FileNotFoundError):
            read(bucket / "missing")


def test_lists_like_a_folder(filled):
    assert sorted(filled.rglob("*")) == sorted(filled / name for name in NAMES)
    assert sorted(path.name for path in filled.iterdir()) == ["a.json", "b", "ü #?%+ x.json"]
    assert list((filled / "nowhere").iterdir()) == []
    assert sorted(filled.glob("b/c=*/*.parquet")) == [filled / "b/c=1/d.parquet", filled / "b/c=2/d.parquet"]
    assert list(filled.glob("*/c=1*")) == [filled / "b/c=1"]
    assert list((filled / "b").glob("c=[0-1]/*")) == [filled / "b/c=1/d.parquet"]


def test_knows_how_large_files_are(filled, tmp_path):
    assert file_sizes(filled / "b/e") == [3]
    assert sorted(file_sizes(filled / "b")) == [3, 15, 15]
    assert file_sizes(filled / "absent") == []
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"1234")
    assert file_sizes(tmp_path) == file_sizes(tmp_path / "folder/file") == [4]
    assert file_sizes(tmp_path / "absent") == []


def test_knows_files_from_folders(filled):
    assert (filled / "a.json").is_file()
    assert not (filled / "a.json").is_dir()
    assert (filled / "b").is_dir()
    assert not (filled / "b").is_file()
    assert (filled / "b").exists()
    assert (filled / "a.json").exists()
    assert not (filled / "a").exists()  # a name that others begin with
    (filled / "a.json").unlink()
    (filled / "a.json").unlink(missing_ok=True)
    assert not (filled / "a.json").exists()


def test_many_objects_are_listed(bucket):
    from concurrent.futures import ThreadPoolExecutor

    paths = [bucket / f"{n:04d}" for n in range(1100)]  # more than a page
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: path.write(b""), paths))
    assert sorted(bucket.rglob("*")) == paths
    assert len(list(bucket.iterdir())) == 1100


def test_a_missing_bucket_is_named(s3):
    with pytest.raises(Misconfigured, match="no such bucket"):
        located("s3://no-such-bucket-here/out").joinpath("x").write(b"")


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


@pytest.fixture
def memory(monkeypatch):
    yield bucket_in_memory(monkeypatch)
    configure(StoreSettings())


def test_in_memory_root_is_first_to_go_and_last_to_come(memory, group):
    out, store = memory
    path, key = out / "x.zarr", "out/x.zarr/"
    publish_group(group, path)
    assert not [name for name, *_ in store.names if name == "delete"]  # there was no root
    (group / "plane/c/0/1").unlink()
    store.names.clear()
    publish_group(group, path)
    changes = [(one[0], one[1].removeprefix(key)) for one in store.names if one[0] in ("put", "delete")]
    assert changes[0] == ("delete", "zarr.json")
    assert changes[-2:] == [("delete", "plane/c/0/1"), ("put", "zarr.json")]
    with local_copy(path) as folder:
        found = {one.relative_to(folder).as_posix(): one.read_text() for one in files_below(folder)}
    assert found == {name: name for name in ("zarr.json", "plane/zarr.json", "plane/c/0/0")}
    assert not folder.exists()
    store.names.clear()
    remove(path)
    assert next(one for one in store.names if one[0] == "delete") == ("delete", key + "zarr.json")
    assert files_below(path) == []


def test_a_disk_without_room_for_a_copy_is_told_as_it_is(memory, group, monkeypatch):
    out, store = memory

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish_group(group, out / "x.zarr")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(Retryable, match="No space left on device") as caught, local_copy(out / "x.zarr"):
            pass
    assert caught.value.code == "disk_full"
    copy, patience = io.BytesIO(), []
    copy.write = full
    monkeypatch.setattr(object_store, "sleep", patience.append)
    configure(StoreSettings(patience_s=60))
    store.names.clear()
    with pytest.raises(OSError, match="No space left on device"):
        (out / "x.zarr/zarr.json").download(copy)
    assert ([name for name, *_ in store.names], patience) == (["get"], [])
    (out / "part-0000-00.parquet").write(b"1")
    monkeypatch.setattr(catalog_parts, "TemporaryFile", lambda **_: copy)
    with pytest.raises(Retryable, match="No space left on device") as caught:
        entries(out / "part-0000-00.parquet")  # not that the part is damaged
    assert caught.value.code == "disk_full"


def test_what_is_removed_is_an_object_or_all_below(memory):
    out, _ = memory
    for name in ("a.json", "b/1.json", "b/c/2.json", "d.json"):
        (out / name).write(b"x")
    for name in ("a.json", "b", "gone.json", "gone"):
        remove(out / name)
    assert [one.name for one in files_below(out)] == ["d.json"]


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_change_of_a_file_or_folder_shows(memory, tmp_path, where):
    out = memory[0] if where == "bucket" else tmp_path

    def write(name, content):
        (out / name).write(content) if where == "bucket" else write_file(out / name, content, tmp_path)

    write("a/b.json", b"one")
    of = (out / "a/b.json", out / "a")
    before = [change_of(path) for path in of]
    assert before == [change_of(path) for path in of]
    write("a/c.json", b"two")
    assert change_of(of[0]) == before[0]
    assert change_of(of[1]) != before[1]
    write("a/b.json", b"other")
    assert change_of(of[0]) != before[0]
    with pytest.raises(FileNotFoundError):
        change_of(out / "gone")


def test_an_object_is_opened_to_read_bytes_and_listed_by_one_pattern(memory):
    out, _ = memory
    (out / "a").write(b"content")
    with (out / "a").open("rb") as file:
        assert file.read() == b"content"
    assert list(out.rglob("*")) == [out / "a"]
    with pytest.raises(ValueError, match="'rb', not 'r'"):
        (out / "a").open()
    with pytest.raises(ValueError, match="not 'a'"):
        list(out.rglob("a"))
