import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.simulation.streams import stream

keys = st.tuples(st.integers(0, 2**31), st.integers(0, 1000), st.integers(0, 200))


@given(keys)
def test_same_purpose_and_key_same_numbers(key: tuple[int, int, int]) -> None:
    assert np.array_equal(stream("stars", *key).uniform(size=4), stream("stars", *key).uniform(size=4))


@given(keys, keys)
def test_other_key_or_purpose_other_numbers(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    drawn = stream("stars", *one).uniform(size=4)
    assert not np.array_equal(drawn, stream("noise", *one).uniform(size=4))
    assert np.array_equal(drawn, stream("stars", *other).uniform(size=4)) == (one == other)
