import errno
import stat
from pathlib import Path

import pytest

from flows.storage import folder as module
from flows.storage.folder import require_apart, require_ending, require_folder, writable_folder
from flows.storage.layout import PARTS, require_output
from flows.storage.lease import lease
from schemas.errors import Misconfigured, Retryable

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc on this system")


def test_a_folder_is_made_with_its_parents_and_nothing_is_left_in_it(tmp_path):
    for _ in range(2):
        writable_folder(tmp_path / "a/b", mode=0o750)
    assert list((tmp_path / "a/b").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) & ~0o750 == 0


@pytest.mark.parametrize("name", ["file", "file/a/b"])
def test_a_file_in_its_place_is_named(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        Misconfigured, match=r"cannot be made there: .*file is a file\. To fix, choose another --to,"
    ) as e:
        writable_folder(tmp_path / name, "--to")
    assert (e.value.code, e.value.where) == ("not_writable", str(tmp_path / name))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(Misconfigured, match=r"cannot be made there: File name too long"):
        writable_folder(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("place", "says"),
    [("none/x.csv", r"is not there\. To fix, make it first \(mkdir -p"), ("file/x.csv", "is a file, no folder")],
)
def test_no_folder_of_a_file_is_made_unasked(tmp_path, place, says):
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=says) as caught:
        require_folder(tmp_path / place, "--to")
    assert caught.value.code == "no_folder"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    require_folder(tmp_path / "x.csv", "--to")


@NEEDS_PROC
def test_a_file_in_a_folder_that_takes_none_is_refused():
    with pytest.raises(Misconfigured, match=r"/proc: no file can be made .* choose another --to"):
        require_folder(Path("/proc/x.csv"), "--to")


@NEEDS_PROC
def test_a_file_system_that_takes_no_folders_or_files():
    with (
        pytest.raises(Misconfigured, match=r"/proc/x: the folder cannot be made there: its file system takes none"),
        lease(Path("/proc/x")),
    ):
        pass
    with pytest.raises(Misconfigured, match=r"/proc: no file can be made in this folder: its file system takes none"):
        writable_folder(Path("/proc"))


def test_a_full_disk_may_have_room_later(tmp_path, monkeypatch):
    def full(dir):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "TemporaryFile", full)
    with pytest.raises(Retryable, match="bytes are free") as caught:
        writable_folder(tmp_path)
    assert caught.value.code == "disk_full"


def test_a_link_to_nothing(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(Misconfigured, match="out is a link to nothing"):
        writable_folder(tmp_path / "out")


@pytest.mark.parametrize("part", PARTS)
def test_one_part_is_enough(tmp_path, part):
    (tmp_path / part).mkdir()
    require_output(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (".", "it has neither ledger/ nor catalogs/"),
        ("absent", "there is no folder of this name"),
        ("file", "it is a file"),
    ],
)
def test_anything_else_is_none(tmp_path, name, says):
    (tmp_path / "images").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(
        Misconfigured, match=f"is not an output folder: {says}.*To fix, name the --out of a run"
    ) as caught:
        require_output(tmp_path / name)
    assert caught.value.code == "no_output"


@pytest.mark.parametrize(
    ("out", "code"),
    [("table", "overwrites_input"), ("table/a/x.csv", "overwrites_input"), ("x.csv", None), ("table.csv", None),
     (".", "not_writable")],
)  # fmt: skip
def test_a_table_is_not_written_over(tmp_path, monkeypatch, out, code):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table"  # whether a file, or a folder
    if code is None:
        require_apart(path, Path(out))
        return
    with pytest.raises(Misconfigured) as caught:
        require_apart(path, Path(out))
    assert (caught.value.code, caught.value.where) == (code, f"--out {Path(out)}")


def test_anything_may_be_written_into_the_output_of_a_run(tmp_path):
    (tmp_path / PARTS[0]).mkdir()
    require_apart(tmp_path, tmp_path / "x.csv")


def test_the_name_of_a_file_ends_as_its_format_does():
    require_ending(Path("a.PNG"), "--to", ".png", "pictures", "picture")
    for name, usual in (("a.jpg", "a.png"), ("a", "a.png")):
        with pytest.raises(Misconfigured, match=rf"does not end in \.png, .* as PNG alone.* name it {usual}") as caught:
            require_ending(Path(name), "--to", ".png", "pictures", "picture")
        assert caught.value.code == "other_format"
