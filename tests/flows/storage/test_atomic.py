import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.storage import atomic as module
from flows.storage.array_store import ArrayStore
from flows.storage.atomic import (
    WriteConditions,
    fenced,
    forbid,
    holds,
    leftovers,
    new_folder,
    permit,
    probe_store,
    publish_file,
    remove,
    sweep,
    write_conditions,
    write_file,
    write_record,
)
from flows.storage.bucket_path import BucketPath, Versioned, files_below
from flows.storage.writing import replacing, writing
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.objects import CUTOUTS
from schemas.patch import PatchKey

KEY = PatchKey(night="20260101", order=5, pixel=281)

DRIVER = Path(__file__).with_name("kill_driver.py")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, Retryable, "disk_full"), (errno.EDQUOT, Retryable, "disk_full"),
        (errno.EFBIG, Misconfigured, "file_size_limit"), (errno.EACCES, Misconfigured, "not_writable"),
        (errno.EPERM, Misconfigured, "not_writable"), (errno.EROFS, Misconfigured, "not_writable"),
        (errno.ENOTDIR, Misconfigured, "not_writable"), (errno.EEXIST, Misconfigured, "not_writable"),
    ],
)  # fmt: skip
def test_failures_to_write_name_the_path_and_a_remedy(tmp_path, number, kind, code):
    for error in (OSError(number, "x"), RuntimeError(f"could not write: x (os error {number})")):
        with pytest.raises(kind) as caught, writing(tmp_path / "a/b"):
            raise error
        assert (caught.value.code, caught.value.where) == (code, str(tmp_path / "a/b"))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), RuntimeError("os error 28"), BadInput("a", "b", "c", "d")])
def test_other_failures_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    with replacing(path) as staged:
        staged.write_text("one")
        assert not path.exists()

    def cut_short():
        with replacing(path) as staged:
            staged.write_text("tw")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        cut_short()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("x.json", "one")]


def test_who_has_lost_a_folder_writes_no_record_in_it_and_any_other(tmp_path):
    lost, other = tmp_path / "out/a.json", tmp_path / "out2/a.json"
    forbid(tmp_path / "out")
    try:
        with pytest.raises(Misconfigured, match="another run has taken the folder over"):
            write_record(lost, b"late", tmp_path / "out")
        write_record(other, b"other", tmp_path / "out2")
    finally:
        permit(tmp_path / "out")
    assert (lost.exists(), other.exists()) == (False, True)
    write_record(lost, b"again", tmp_path / "out")
    assert lost.read_bytes() == b"again"


def test_a_lease_is_lost_once_another_file_has_its_name(tmp_path):
    out, lease = tmp_path / "out", tmp_path / "out/lease.json"
    out.mkdir()
    lease.write_bytes(b"ours")
    with lease.open() as file, fenced(out, lease, file.fileno()):
        assert (holds(out), holds(tmp_path)) == (True, False)
        write_record(out / "a.json", b"in time", out)
        write_file(lease, b"theirs", out / "staging")
        with pytest.raises(Misconfigured, match="another run has taken the folder over"):
            write_record(out / "a.json", b"late", out)
        write_record(tmp_path / "out2/a.json", b"other", tmp_path / "out2")
    assert (out / "a.json").read_bytes() == b"in time"
    assert not holds(out)


class Object:
    """Object of a store that answers each put with the next of some versions or errors."""

    def __init__(self, *answers, there=None):
        self.answers, self.there, self.asked = list(answers), there, []

    def write(self, content, replaces=None, *, create=False):
        self.asked.append("create" if create else replaces)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read_versioned(self):
        if self.there is None:
            raise FileNotFoundError
        return Versioned(self.there, "of mine", None)


@pytest.fixture
def waits(monkeypatch):
    slept = []
    monkeypatch.setattr("flows.storage.atomic.sleep", slept.append)
    return slept


LOST = Retryable("no_answer", "s3://b/a", "does not answer.", "try again.")
CONDITIONAL = WriteConditions(enforced=True)


def test_a_put_without_an_answer_is_tried_five_times_ever_later(waits):
    path = Object(*[LOST] * 4, "v")
    assert CONDITIONAL.write(path, b"mine", "old") == "v"
    assert waits == [0.5, 1.0, 2.0, 4.0]
    path = Object(*[LOST] * 5, "v")
    with pytest.raises(Retryable):
        CONDITIONAL.write(path, b"mine", "old")
    assert len(path.asked) == 5
    assert len(waits) == 8


@pytest.mark.parametrize("answer", [LOST, FileExistsError()])
def test_what_is_there_with_our_content_was_put_by_us(waits, answer):
    assert CONDITIONAL.write(Object(answer, there=b"mine"), b"mine", None) == "of mine"
    assert waits == []


@pytest.mark.parametrize("there", [None, b"theirs"])
def test_what_others_put_is_not_replaced(waits, there):
    path = Object(FileExistsError(), "v", there=there)
    with pytest.raises(FileExistsError):
        CONDITIONAL.write(path, b"mine", "old")
    assert (path.asked, waits) == (["old"], [])


@pytest.mark.parametrize(
    ("conditions", "replaces", "asked"),
    [
        (CONDITIONAL, None, "create"), (CONDITIONAL, '"v"', '"v"'), (WriteConditions(True, False), '"v"', "v"),
        (WriteConditions(True, False), None, "create"), (WriteConditions(), '"v"', None),
        (WriteConditions(), None, None),
    ],
)  # fmt: skip
def test_a_put_says_what_it_replaces_as_the_store_wants_it(conditions, replaces, asked):
    path = Object("w")
    assert conditions.write(path, b"mine", replaces) == "w"
    assert path.asked == [asked]


def test_file_is_whole_and_nothing_else_is_left(tmp_path):
    for content in (b"one", b"another"):
        write_file(tmp_path / "a/b/file", content, tmp_path / "staging")
        assert (tmp_path / "a/b/file").read_bytes() == content
    assert files(tmp_path) == ["a/b/file"]


def test_a_file_that_is_whole_gets_its_name(tmp_path):
    for content in ("one", "another"):
        (tmp_path / ".part").write_text(content)
        publish_file(tmp_path / ".part", tmp_path / "file")
        assert (tmp_path / "file").read_text() == content
    assert files(tmp_path) == ["file"]
    (tmp_path / "sub").mkdir()
    with pytest.raises(Misconfigured, match="could not be written"):
        publish_file(tmp_path / "file", tmp_path / "file" / "below")


def test_folder_is_replaced_whole(tmp_path):
    for content in ("one", "other"):
        with new_folder(tmp_path / "x/folder") as folder:
            (folder / content).write_text(content)
            (folder / "deep").mkdir()
            (folder / "deep/file").write_text(content)
    assert files(tmp_path) == ["x/folder/deep/file", "x/folder/other"]


def test_folder_whose_making_fails_leaves_the_old_one(tmp_path):
    with new_folder(tmp_path / "folder") as folder:
        (folder / "old").touch()
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "folder") as folder:
        (folder / "new/without/parents").touch()
    assert files(tmp_path) == ["folder/old"]


def test_full_disk_publishes_nothing_and_says_how_much_is_free(small_disk):
    write_file(small_disk / "file", b"old", small_disk / "staging")
    with pytest.raises(Retryable, match=r"file: could not be written: No space left.* \d+ bytes are free.*To fix"):
        write_file(small_disk / "file", os.urandom(3 << 20), small_disk / "staging")
    assert (small_disk / "file").read_bytes() == b"old"
    assert files(small_disk) == ["file"]
    write_file(small_disk / "file", os.urandom(1 << 20), small_disk / "staging")  # the space was given back


def test_full_disk_while_a_folder_is_made(small_disk):
    with new_folder(small_disk / "folder") as folder:
        (folder / "old").touch()
    with pytest.raises(Retryable) as caught, new_folder(small_disk / "folder") as folder:
        (folder / "big").write_bytes(os.urandom(3 << 20))
    assert caught.value.code == "disk_full"
    assert files(small_disk) == ["folder/old"]


def test_limit_on_file_sizes(tmp_path):
    code = f"""
import resource
from pathlib import Path
from flows.storage.atomic import write_file
from schemas.errors import Misconfigured
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
out = Path({str(tmp_path)!r})
write_file(out / "small", b"x" * 100_000, out / "staging")
try:
    write_file(out / "big", b"x" * 100_001, out / "staging")
except Misconfigured as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "big: could not be written: the file would be larger than" in said
    assert "To fix, raise the limit" in said
    assert files(tmp_path) == ["small"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("not a folder")
    with pytest.raises(Misconfigured, match=r"could not be written: .*To fix"):
        write_file(tmp_path / "out/ledger/file", b"x", tmp_path / "out/staging")


def test_folder_that_may_not_be_written(tmp_path):
    code = f"""
import os
from pathlib import Path
from flows.storage.atomic import write_file
from schemas.errors import Misconfigured
os.setuid(65534)
try:
    write_file(Path({str(tmp_path)!r}) / "locked/file", b"x", Path({str(tmp_path)!r}) / "staging")
except Misconfigured as error:
    print(error.code)
"""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not write")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "not_writable"


def test_sweep_removes_what_is_unpublished_and_nothing_else(tmp_path):
    write_file(tmp_path / "catalogs/file", b"x", tmp_path / "staging")
    with new_folder(tmp_path / "tiles/20260101/1-2.zarr") as folder:
        (folder / "file").touch()
    (tmp_path / "staging/half").touch()
    (tmp_path / "staging/folder").mkdir()
    (tmp_path / "tiles/20260101/.3-4.zarr.abc.staging").mkdir()
    patch, night = ArrayStore(tmp_path).path(CUTOUTS, KEY), ArrayStore(tmp_path).path(CUTOUTS, KEY.night)
    for path in (patch, night):
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / f".{path.name}.abc.staging").mkdir()
    assert len(leftovers(tmp_path)) == 5
    sweep(tmp_path)
    assert leftovers(tmp_path) == []
    assert files(tmp_path) == ["catalogs/file", "tiles/20260101/1-2.zarr/file"]


@pytest.mark.faults
@pytest.mark.parametrize("what", ["catalogue", "tiles"])
def test_kill_at_any_moment_leaves_whole_files_only(tmp_path, what):
    done = subprocess.run([sys.executable, DRIVER, what, tmp_path, "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # some were killed in the middle
    assert len(leftovers(tmp_path)) >= int(done.stdout)
    sweep(tmp_path)
    assert leftovers(tmp_path) == []


pytest_plugins = ("tests.support.s3_fixture",)


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
    path, version = out / "ledger/x.json", None
    for content in (b"one", b"another"):
        version = write_record(path, content, out, version)
        assert path.read_bytes() == content


@pytest.mark.parametrize("seen", [True, False])
def test_another_run_is_noticed(bucket, seen):
    path = bucket / "ledger/x.json"
    version = write_record(path, b"mine", bucket)
    path.write(json.dumps("theirs").encode())
    with pytest.raises(Misconfigured, match="another run") as caught:
        write_record(path, b"mine again", bucket, version if seen else None)
    assert caught.value.code == "taken_over"
    assert path.read_bytes() == b'"theirs"'
    write_record(path, b"mine again", bucket, path.version())  # whoever has seen it may replace it
    assert path.read_bytes() == b"mine again"


@pytest.mark.parametrize("name", ["catalogs/dia_source/1-2.parquet", "tiles/20260101/1-2.zarr", "reports"])
def test_what_is_removed_is_gone_whole_and_may_be_gone_before(out, name):
    beside = out / "catalogs" / "other" / "1-2.parquet"
    write_file(beside, b"stays", out / "staging")
    path = out / name
    if name.endswith(".parquet"):
        write_file(path, b"goes", out / "staging")
    elif name.endswith(".zarr"):
        with new_folder(path) as folder:
            (folder / "zarr.json").write_text("{}")
            (folder / "deep").mkdir()
            (folder / "deep/file").write_text("goes")
    else:
        for file in ("a.html", "deep/b.html"):
            write_file(path / file, b"goes", out / "staging")
    for _ in range(2):
        remove(path)
        assert not path.exists()
    assert beside.read_bytes() == b"stays"
    if not isinstance(out, BucketPath):
        assert files(out) == ["catalogs/other/1-2.parquet"]
        assert leftovers(out) == []


class Conditional:
    """Object of a store that heeds some conditions, and knows its versions in quotes or without."""

    def __init__(self, creates, replaces, quoted):
        self.creates, self.replaces, self.quoted, self.there = creates, replaces, quoted, False

    def write(self, content, replaces=None, *, create=False):
        version = '"1"' if self.quoted else "1"
        if (create and self.creates and self.there) or (replaces not in (None, version) and self.replaces):
            raise FileExistsError
        self.there = True
        return '"1"'

    def unlink(self):
        self.there = False


@pytest.mark.parametrize(
    ("heeds", "found"),
    [
        ((True, True, True), WriteConditions(True, True)),
        ((True, True, False), WriteConditions(True, False)),
        ((False, True, True), WriteConditions()),
        ((True, False, True), WriteConditions()),
    ],
)
def test_a_store_is_trusted_that_heeds_all_conditions(monkeypatch, heeds, found):
    class Folder(dict):
        def __truediv__(self, name):
            return self.setdefault("path", Conditional(*heeds))

    folder = Folder()
    monkeypatch.setattr(module, "staging_folder", lambda out: folder)
    assert probe_store(None) == found
    assert not folder["path"].there


def test_a_store_that_takes_no_version_of_its_own_is_not_trusted(monkeypatch):
    monkeypatch.setattr(module, "staging_folder", lambda out: Path("/nowhere"))
    monkeypatch.setattr(Path, "write", lambda *_: '"1"', raising=False)
    monkeypatch.setattr(module, "_refused", lambda *_, **__: True)
    monkeypatch.setattr(Path, "unlink", lambda *_: None)
    assert probe_store(None) == WriteConditions()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_folder_is_exchanged_for_another_on_every_system(tmp_path, monkeypatch, platform):
    """On Linux in one step, so that no name is ever moved aside."""
    moved, rename, one_step = [], Path.rename, platform == sys.platform == "linux"
    monkeypatch.setattr(Path, "rename", lambda path, target: moved.append(target) or rename(path, target))
    monkeypatch.setattr(sys, "platform", platform)
    for content in ("old", "new"):
        with new_folder(tmp_path / "made") as staged:
            (staged / content).write_text(content)
    assert files(tmp_path) == ["made/new"]
    assert len([one for one in moved if one.name != "made"]) == (0 if one_step else 2)


def test_a_folder_that_cannot_be_moved_for_another_reason_is_not_exchanged(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="x"), new_folder(tmp_path / "made"):
        pass
    assert not (tmp_path / "made").exists()


def test_the_lease_of_who_came_later_stays(tmp_path):
    lease = tmp_path / "lease"
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"")
    with (tmp_path / "one").open() as first, (tmp_path / "other").open() as second:
        with fenced(tmp_path, lease, first.fileno()):
            with fenced(tmp_path, lease, second.fileno()):
                later = module._leases[lease]
            assert lease not in module._leases
            module._leases[lease] = later
        assert module._leases.pop(lease) == later
