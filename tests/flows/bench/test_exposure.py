import numpy as np
import pytest

from flows.bench.exposure import bench_exposure
from schemas.errors import Misconfigured
from tests.flows.bench.bench_support import small_exposure


def test_it_is_read_as_a_worker_reads_it():
    exposure = small_exposure()
    assert exposure.info.shape == exposure.difference.shape == exposure.mask.shape == (300, 330)
    assert np.isfinite(exposure.difference).all()
    assert exposure.info.noise > 0


def test_the_same_seed_gives_the_same_pixels():
    assert np.array_equal(bench_exposure((300, 330), seed=3).difference, small_exposure().difference)


def test_a_size_that_the_camera_does_not_have_is_refused():
    with pytest.raises(Misconfigured, match="--size"):
        bench_exposure((10, 9000))
