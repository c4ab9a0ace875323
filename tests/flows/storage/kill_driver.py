"""Kill writers at random moments, and look at what they leave under the final name.

Usage: kill_driver.py (catalogue | tiles) OUT ROUNDS. Prints how many kills hit a write in the middle. Each writer is
forked from this process, which has imported everything and used nothing.
"""

import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.storage.atomic import leftovers
from flows.storage.catalog_store import CatalogStore, read_metadata
from flows.storage.zarr_tiles import TileStore, write_exposure
from schemas.dia_source import HIT
from schemas.exposure import ExposureKey
from schemas.settings import TileSettings
from tests.support.exposure import exposure_info

KEY = ExposureKey(night="20260101", visit=1, detector=2)
SHAPE = (300, 290)


def write_catalogue(out, version):
    numbers = np.full(3000, version, np.int32)
    table = pa.table({"row": numbers, "column": numbers, "logit": numbers.astype(np.float32)}, schema=HIT.schema)
    CatalogStore(out).publish(HIT, KEY, table, str(version))


def check_catalogue(out):
    store = CatalogStore(out)
    path = store.path(HIT, KEY)
    if not path.exists():
        return 0
    version = int(read_metadata(path)[1])
    rows = store.read(HIT, KEY)
    assert len(rows) == 3000
    assert all((rows[name].to_numpy() == version).all() for name in rows.column_names)
    return version


def write_tiles(out, version):
    info = exposure_info(SHAPE, **KEY.model_dump(), source_uri="test", source_sha256=str(version))
    planes = {"difference": np.full(SHAPE, version, np.float32), "mask": np.full(SHAPE, version, np.uint16)}
    path = out / "tiles" / KEY.night / f"{KEY.name}.zarr"
    write_exposure(path, info, planes, TileSettings(tile=112, chunk=28), str(version))


def check_tiles(out):
    path = out / "tiles" / KEY.night / f"{KEY.name}.zarr"
    if not path.exists():
        return 0
    store = TileStore.open(path)
    version = int(store.digest)
    assert store.info.source_sha256 == store.digest
    assert all((store.read_all(plane) == version).all() for plane in ("difference", "mask"))
    return version


def forked(work):
    """Run ``work`` in a copy of this process; give its number."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work())
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(255)
    return pid


def main(what, out, rounds):
    write, check = (write_catalogue, check_catalogue) if what == "catalogue" else (write_tiles, check_tiles)
    pa.array(np.zeros(1))  # the first call imports pandas: here, not in every writer
    moments = random.Random(7)
    progress = out / "progress"
    progress.touch()
    interrupted = left = 0

    def endless(start):
        for version in count(start):
            write(out, version % 60000)
            progress.write_text(str(version))

    for round_ in range(rounds):
        before = progress.read_text()
        pid = forked(lambda start=1 + 1000 * round_: endless(start))
        while progress.read_text() == before:  # let it publish once, so that it is in its stride
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        left, before = len(leftovers(out)), left
        interrupted += left > before
        checker = forked(lambda: 0 if check(out) > 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(checker, 0)[1]) == 0, f"broken after round {round_}"
    print(interrupted)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
