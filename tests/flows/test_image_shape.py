import numpy as np

from flows.adapters.sources import Source
from flows.image_shape import shape_of


def test_compressed_and_plain_and_stacked(write_ztf, sky, tmp_path):
    assert shape_of(Source(write_ztf())) == sky.shape
    assert shape_of(Source(write_ztf(compressed=False))) == sky.shape
    np.savez(tmp_path / "stack.npz", data=np.zeros((2, 30, 40), np.float32))
    assert shape_of(Source(str(tmp_path / "stack.npz"), index=1)) == (30, 40)
