import errno
from types import SimpleNamespace

import pytest

from flows.storage import writing as module
from flows.storage.writing import replacing, writing
from schemas.errors import Misconfigured, NightstrideError, Retryable


def raised(error, path, **options):
    with pytest.raises(NightstrideError) as caught, writing(path, **options):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (OSError(errno.ENOSPC, "x"), Retryable, "disk_full"), (OSError(errno.EDQUOT, "x"), Retryable, "disk_full"),
        (OSError("Not enough space on disk: requested 5"), Retryable, "disk_full"),
        (RuntimeError("failed (os error 28)"), Retryable, "disk_full"),
        (OSError(errno.EFBIG, "x"), Misconfigured, "file_size_limit"),
        (PermissionError(errno.EACCES, "x"), Misconfigured, "not_writable"),
        (OSError(errno.EROFS, "x"), Misconfigured, "not_writable"),
        (RuntimeError("failed (os error 13)"), Misconfigured, "not_writable"),
    ],
)  # fmt: skip
def test_failures_of_writing_are_told_by_their_cause(tmp_path, error, kind, code):
    found = raised(error, tmp_path / "a")
    assert (type(found), found.code, found.where) == (kind, code, str(tmp_path / "a"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "x"), RuntimeError("28"), ValueError("os error 28"), OSError("x")]
)
def test_other_failures_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, writing(tmp_path):
        raise error
    assert caught.value is error


def test_our_own_errors_pass():
    own = Retryable("x", "y", "z (os error 28).", "w.")
    assert raised(own, "anywhere") is own


def test_free_space_is_that_of_the_nearest_folder_that_is_there(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=123))
    error = raised(OSError(errno.ENOSPC, "x"), tmp_path / "a" / "b" / "c", full="begin again.")
    assert asked == [tmp_path]
    assert "123 bytes are free" in error.problem
    assert error.remedy == "begin again."


def test_a_file_is_replaced_when_it_is_complete_or_not_at_all(tmp_path):
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(AttributeError), replacing(path) as staged:
        staged.write_text("half").stop()
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    with replacing(path) as staged:
        staged.write_text("after")
        assert path.read_text() == "before"
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a", "after")]
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
