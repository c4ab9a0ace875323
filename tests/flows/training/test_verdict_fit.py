import numpy as np
import pyarrow as pa
import pytest
from tests_support import truth_table

from flows.training.verdict_fit import completeness, fit_verdict, label_candidates, threshold_at
from kernels.verdict_net import reliability

ROWS = [
    ("streak", 100.0, 100.0, 3.0, 20.0, 10.0, 1.0),
    ("streak", 300.0, 200.0, 60.0, 120.0, 5.0, 1.0),
    ("streak", 10.0, 10.0, 3.0, 0.0, 20.0, 0.1),
    ("point", 50.0, 300.0, 0.0, 0.0, 30.0, 1.0),
    ("satellite", 250.0, 350.0, 500.0, 0.0, 90.0, 1.0),
]


def labelled(positions):
    x, y, score = map(np.array, zip(*positions, strict=True))
    table = pa.table({"x": x, "y": y, "logitSum": score})
    return label_candidates(table, np.zeros((len(x), 2), np.float32), truth_table(ROWS))


def test_labels():
    one = labelled(
        [
            (101.0, 100.0, 9.0),
            (101.5, 99.0, 8.0),
            (150.0, 150.0, 7.0),
            (50.0, 301.0, 6.0),
            (11.0, 11.0, 5.0),
            (60.0, 352.0, 4.0),
        ]
    )
    assert one.label.tolist() == [1, 0, 0, -1, -1, 2]
    assert one.target.tolist() == [0, -1, -1, -1, -1, -1]


def test_completeness_counts_what_was_asked_for():
    one = labelled([(101.0, 100.0, 9.0), (300.0, 201.0, 8.0), (150.0, 150.0, 7.0)])
    score = np.array([0.9, 0.4, 0.6])
    assert completeness([one], [score], 0.5, 3.0) == (1, 2, 1.0)
    assert completeness([one], [score], 0.3, 3.0) == (2, 2, 1.0)
    assert completeness([one], [score], 0.7, 7.0) == (1, 1, 0.0)


@pytest.mark.parametrize(("wanted", "left"), [(0.0, 0), (0.5, 2), (1.0, 4), (100.0, 12)])
def test_threshold_leaves_the_wanted_number_of_false(wanted, left):
    rng = np.random.default_rng(0)
    examples = [labelled([(150.0 + 40 * n, 150.0, 1.0) for n in range(3)]) for _ in range(4)]
    scores = [rng.random(3) for _ in examples]
    threshold = threshold_at(examples, scores, wanted)
    assert sum(int((score >= threshold).sum()) for score in scores) == left


@pytest.mark.parametrize("hidden", [(), (8,)])
def test_verdict_learns_a_line(hidden):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(600, 3)).astype(np.float32)
    label = (features @ [1.0, -2.0, 0.0] > 0).astype(np.int64)
    arrays = fit_verdict(features, label, hidden, 0)
    assert ((reliability(features, arrays) > 0.5) == label).mean() > 0.95
