import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.novelty import novelty


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 99))
def test_agrees_with_plain_numpy(seed):
    rng = np.random.default_rng(seed)
    rows, reference = rng.normal(0, 1, (7, 3)).astype(np.float32), rng.normal(0, 1, (20, 3)).astype(np.float32)
    rows[0, 1] = np.nan
    scale = np.array([1.0, 2.0, 0.5], np.float32)
    far = np.sqrt(np.nanmean(((rows[:, None] - reference) / scale) ** 2, axis=2))
    np.testing.assert_allclose(novelty(rows, reference, scale), np.sort(far, axis=1)[:, 2], rtol=1e-4)


def test_a_row_without_any_value_is_infinitely_far():
    rows = np.full((1, 2), np.nan, np.float32)
    assert np.isinf(novelty(rows, np.zeros((5, 2), np.float32), np.ones(2, np.float32)))[0]
    assert np.isinf(novelty(np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32), np.ones(2, np.float32)))[0]
