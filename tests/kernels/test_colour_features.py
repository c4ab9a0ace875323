import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.colour_features import bands_present, colour_features
from schemas.class_features import FEATURE_SETS

MAGNITUDES = arrays(np.float32, (5, 4), elements=st.floats(10, 25, width=32) | st.just(np.nan))


def table(values):
    return dict(zip("ugriz", values, strict=True))


@given(MAGNITUDES)
def test_photometry_is_ten_colours_and_a_magnitude(values):
    matrix = colour_features(table(values), FEATURE_SETS["photometry"])
    expected = [values[i] - values[j] for i in range(5) for j in range(i + 1, 5)] + [values[2]]
    np.testing.assert_array_equal(matrix, np.stack(expected, axis=1))
    assert matrix.dtype == np.float32


@given(MAGNITUDES)
def test_counts_bands_with_a_magnitude(values):
    np.testing.assert_array_equal(bands_present(table(values)), np.isfinite(values).sum(0))
