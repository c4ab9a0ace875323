"""Wall clock that jumps, for the processes of one command, by libfaketime."""

from datetime import datetime
from functools import partial
from pathlib import Path

import psutil

from benchmarks.faults.fault import Fault
from benchmarks.faults.processes import workers
from benchmarks.faults.scene import NotAvailable, Scene
from flows.storage.ledger import Ledger

LIBRARY = "*/faketime/libfaketimeMT.so.1"
"""Below /usr/lib; Debian's package `faketime`."""

DAY_S = 86400

_SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
"""Run by each Python at its start: while the monotonic clock is left alone, libfaketime 0.9.10 breaks sleeping until a
moment of that clock (``EINVAL``), as `time.sleep` does."""


def jump(scene: Scene, seconds: int) -> None:
    """Make the wall clock of a command and its workers jump; the monotonic one goes on."""
    found = sorted(Path("/usr/lib").glob(LIBRARY))
    if not found:
        raise NotAvailable("there is no libfaketime: apt-get install faketime")
    offset = scene.folder / "clock"
    _set(offset, 0)
    started = scene.folder / "started"
    started.mkdir()
    (started / "sitecustomize.py").write_text(_SLEEP)
    # Read again whenever somebody asks for the time; files keep the times that the kernel gave them. With the fix, of
    # an old defect of glibc, each wait for a condition would end at once, as that for Python's interpreter lock.
    scene.environment |= {
        "LD_PRELOAD": str(found[0]), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1", "NO_FAKE_STAT": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "PYTHONPATH": f"{started}:{scene.environment['PYTHONPATH']}",
    }  # fmt: skip
    command = scene.start()
    scene.middle(command, finished=True)  # it jumps between their times
    processes = [command, *workers(command)]
    scene.require(all(map(_is_faked, processes)), f"{len(processes)} processes see this clock")
    scene.strike(lambda: _set(offset, seconds))
    scene.finish(command)
    times = [datetime.fromisoformat(one.finished_at).timestamp() for one in Ledger(scene.out).records()]
    seen = max(times) - min(times)
    scene.require(seen > 0.9 * abs(seconds), f"exposures were finished {seen / 3600:.1f} h apart")


def _set(offset: Path, seconds: int) -> None:
    new = offset.with_suffix(".new")
    new.write_text(f"{seconds:+d}\n")
    new.rename(offset)


def _is_faked(process: psutil.Process) -> bool:
    return any("libfaketime" in one.path for one in process.memory_maps())


FAULTS = (
    Fault("clock jumps forwards", "by a day, for the command and its workers", partial(jump, seconds=DAY_S)),
    Fault("clock jumps backwards", "by a day, for the command and its workers", partial(jump, seconds=-DAY_S)),
)
