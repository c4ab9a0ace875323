"""What takes long to make or start and does not change, made by one of the processes that run the tests."""

import fcntl
import json
import os
import shutil
from contextlib import contextmanager, suppress

from tests.support.wait import until


def made_once(tmp_path_factory, name, make):
    """Return a folder that ``make(folder)`` has filled: once in a run of the tests, in whichever process came first."""
    folder = _shared(tmp_path_factory) / name
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@contextmanager
def kept_running(tmp_path_factory, name, start):
    """Yield variables of a service: the process that came first has it from ``start()``, with what stops it.

    It runs for as long as one of the processes needs it.
    """
    told = _shared(tmp_path_factory) / f"{name}.json"
    with told.with_suffix(".door").open("w") as door, told.with_suffix(".use").open("w") as use:
        fcntl.flock(door, fcntl.LOCK_EX)
        stop = None
        if not told.exists():
            variables, stop = start()
            told.write_text(json.dumps(variables))
        variables = json.loads(told.read_text())
        fcntl.flock(use, fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield variables
        finally:
            if stop is not None:
                with suppress(AssertionError):  # a child of one that was killed may have a lock open for ever
                    until(lambda: _taken(door) and _taken(use), 500, 0.1)  # nobody else needs it
                told.unlink()
                stop()
            fcntl.flock(use, fcntl.LOCK_UN)  # a child that was forked meanwhile may have it open


def _taken(lock):
    """Return whether a lock could be taken, or was."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _shared(tmp_path_factory):
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared"
    folder.mkdir(exist_ok=True)
    return folder
