"""What takes long to make and does not change, made by one of the processes that run the tests."""

import fcntl
import os
import shutil


def made_once(tmp_path_factory, name, make):
    """Return a folder that ``make(folder)`` has filled: once in a run of the tests, in whichever process came first."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / "shared" / name, root / "shared" / f"{name}.done"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
