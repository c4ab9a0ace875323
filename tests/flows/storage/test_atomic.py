import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.storage.atomic import leftovers, new_folder, publish_file, sweep, write_file
from schemas.errors import Misconfigured, Retryable

DRIVER = Path(__file__).with_name("kill_driver.py")


@pytest.fixture
def small_disk(tmp_path):
    """Give a file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no small disk can be mounted here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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
    assert len(leftovers(tmp_path)) == 3
    assert sweep(tmp_path) == 3
    assert leftovers(tmp_path) == []
    assert files(tmp_path) == ["catalogs/file", "tiles/20260101/1-2.zarr/file"]


@pytest.mark.parametrize("what", ["catalogue", "tiles"])
def test_kill_at_any_moment_leaves_whole_files_only(tmp_path, what):
    done = subprocess.run([sys.executable, DRIVER, what, tmp_path, "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # some were killed in the middle
    assert sweep(tmp_path) >= int(done.stdout)
    assert leftovers(tmp_path) == []
