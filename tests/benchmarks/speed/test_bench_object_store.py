import numpy as np

from benchmarks.speed.bench_object_store import BY_S3FS, WORK, compare
from schemas.settings import TileSettings

pytest_plugins = ("tests.support.s3_fixture",)


def test_every_step_is_measured_and_gives_back_its_pixels(out):
    best = compare({"there": out}, (300, 310), 2, TileSettings(tile=112, chunk=28))
    steps = WORK if str(out).startswith("/") else WORK + BY_S3FS
    assert best["there"].keys() == set(steps)
    assert all(0 < seconds < np.inf for seconds in best["there"].values())
