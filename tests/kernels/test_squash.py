import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.squash import FURTHEST, squash


@settings(deadline=None)  # compiled at the first call
@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32)))
def test_as_written(values):
    found = values.copy()
    squash(found)
    size = np.minimum(np.abs(values.astype(np.float64)), FURTHEST)
    np.testing.assert_allclose(found, np.sign(values) * size * (1 + size / 64) / (1 + size / 4), rtol=1e-6, atol=1e-12)


def test_keeps_order_and_shape():
    values = np.linspace(-130, 130, 1001, dtype=np.float32).reshape(7, 143)
    found = values.copy()
    squash(found)
    assert found.shape == values.shape
    inside = found.ravel()[np.abs(values.ravel()) < FURTHEST]
    assert (np.diff(inside) > 0).all()
