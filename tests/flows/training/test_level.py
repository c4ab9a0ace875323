import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.training.level import false_level

scores = st.lists(st.lists(st.floats(-50, 50), max_size=12).map(np.array), min_size=1, max_size=5)


@given(scores, st.sampled_from((0.0, 0.25, 0.5, 1.0, 3.0)))
def test_no_more_pass_than_allowed_and_no_lower_level_would_do(images, rate):
    level = false_level(images, rate)
    everything = np.concatenate(images)
    assert (everything >= level).sum() <= rate * len(images)
    if np.isfinite(level):
        below = everything[everything < level].max()
        assert (everything >= below).sum() > int(rate * len(images))
    else:
        assert len(everything) <= rate * len(images)
