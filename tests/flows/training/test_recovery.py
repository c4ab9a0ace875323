import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests_support import truth_table

from flows.training.candidates import targets_of
from flows.training.recovery import Recovery, level_at, recovery, share_found
from kernels.completeness import Share


def one(found=(), false=(), snr=None):
    score = np.array(found, float)
    snr = np.full(len(score), 20.0) if snr is None else np.array(snr, float)
    return Recovery(snr, score, np.array(false, float))


def test_streaks_get_the_score_of_what_found_them():
    truth = truth_table(
        [
            ("streak", 100.0, 100.0, 3.0, 20.0, 10.0, 1.0),
            ("streak", 300.0, 200.0, 60.0, 120.0, 5.0, 1.0),
            ("streak", 10.0, 10.0, 3.0, 0.0, 20.0, 0.1),
            ("point", 50.0, 300.0, 0.0, 0.0, 30.0, 1.0),
        ]
    )
    x, y, score = np.array([(101.0, 100.0, 2.0), (99.0, 99.0, 5.0), (50.0, 301.0, 9.0), (200.0, 10.0, 1.0)]).T
    found = Recovery.of(x, y, score, targets_of(truth), truth["snr"].to_numpy())
    np.testing.assert_array_equal(found.score, [5.0, -np.inf])
    np.testing.assert_array_equal(found.snr, [10.0, 5.0])
    assert sorted(found.false) == [1.0, 2.0]


@given(
    st.lists(st.lists(st.integers(-5, 5), max_size=8), min_size=1, max_size=5),
    st.floats(0, 6),
)
def test_the_level_is_the_least_that_leaves_so_few(false, rate):
    found = [one(false=part) for part in false]
    level = level_at(found, rate)
    every = np.concatenate([np.array(part, float) for part in false])
    assert (every >= level).sum() <= rate * len(found)
    if np.isfinite(level):
        lower = np.nextafter(level, -np.inf)
        assert (every >= lower).sum() > rate * len(found) - 1e-9


def test_share_by_brute_force():
    rng = np.random.default_rng(0)
    found = [one(rng.normal(size=9), snr=rng.uniform(3, 15, 9)) for _ in range(4)]
    for level, least, below in ((0.0, 7.0, np.inf), (0.5, 4.0, 9.0), (-np.inf, 0.0, 5.0)):
        asked = [(s, v) for part in found for s, v in zip(part.snr, part.score, strict=True) if least <= s < below]
        share = share_found(found, level, least, below)
        assert (share.found, share.n) == (sum(v >= level for _, v in asked), len(asked))


def test_what_nothing_found_is_not_found_at_any_level():
    assert share_found([one([1.0, -np.inf])], -np.inf, 0.0) == Share(1, 2)


def test_figures_at_equal_numbers_of_false():
    found = [one([3.0, 1.0, -np.inf], [2.0, 0.0], [8.0, 12.0, 9.0]), one([0.5], [], [6.0])]
    figures = recovery(found, (0.5, 1.0))
    assert figures == {
        "at 0.5 false": {"c7": [2, 3], "c10": [1, 1]},
        "at 1 false": {"c7": [2, 3], "c10": [1, 1]},
    }
    assert recovery(found, (0.0,))["at 0 false"]["c7"] == [1, 3]


def test_without_false_ones_every_level_will_do():
    assert level_at([one([1.0])], 0.5) == -np.inf
