import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.training.level import false_level

scores = st.lists(st.lists(st.floats(-50, 50, width=32), max_size=12), min_size=1, max_size=5)


@given(scores, st.sampled_from((0.0, 0.25, 0.5, 1.0, 3.0)), st.sampled_from((np.float32, np.float64)))
def test_no_more_pass_than_allowed_and_no_lower_level_would_do(images, rate, kind):
    images = [np.array(part, kind) for part in images]
    level = false_level(images, rate)
    everything = np.concatenate(images)
    assert (everything >= level).sum() <= rate * len(images)
    if np.isfinite(level):
        below = everything[everything < level].max()
        assert (everything >= below).sum() > int(rate * len(images))
    else:
        assert len(everything) <= rate * len(images)
