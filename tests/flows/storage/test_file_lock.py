import fcntl
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flows.storage.file_lock import file_lock
from schemas.errors import Misconfigured

HOLD = """
import fcntl, os, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    file = os.open(sys.argv[1], os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
except PermissionError:
    print("refused", flush=True)
sys.stdin.read()
"""


def test_it_is_held_within_the_block_and_free_after(tmp_path):
    for _ in range(2):
        with (
            file_lock(tmp_path / "lock", 0.0),
            (tmp_path / "lock").open() as other,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (tmp_path / "lock").open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_who_holds_it_for_too_long_is_named(tmp_path):
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Misconfigured) as caught, file_lock(tmp_path / "lock", 0.1):
            pass
    assert caught.value.code == "lock_held"
    assert str(tmp_path / "lock") in str(caught.value)
    assert re.search(rf"process {os.getpid()} \(.+, user .+\)", str(caught.value))


def test_it_waits_for_as_long_as_it_is_told(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("flows.storage.file_lock.monotonic", lambda: now[0])
    monkeypatch.setattr("flows.storage.file_lock.sleep", lambda seconds: now.append(now.pop() + 1.0))
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Misconfigured, match="for 3 s or more"), file_lock(tmp_path / "lock", 3.0):
            pass
    assert now == [103.0]


@pytest.mark.parametrize("before", [None, 0o644, 0o666, 0o600])
def test_others_cannot_open_it(tmp_path, before):
    path = tmp_path / "lock"
    if before is not None:
        path.touch()
        path.chmod(before)
    with file_lock(path, 0.0):
        assert path.stat().st_mode & 0o007 == 0
        assert path.stat().st_mode & 0o600 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_a_stranger_cannot_keep_others_waiting():
    with tempfile.TemporaryDirectory() as made:  # not tmp_path, which strangers cannot enter
        Path(made).chmod(0o755)
        with file_lock(Path(made) / "lock", 0.0):
            pass
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(Path(made) / "lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as stranger:
            assert stranger.stdout.readline() == "refused\n"
            with file_lock(Path(made) / "lock", 0.0):
                pass
            stranger.communicate("")
