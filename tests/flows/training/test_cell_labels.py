import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.training.cell_labels import BESIDE_PX, ON_PX, CellLabels

CELLS = 40
TRAILS = {"x": st.floats(8, 152), "y": st.floats(8, 152), "length": st.floats(0, 60), "angle": st.floats(0, 180)}


def distance(x, y, length, angle):
    """Of the middles of the cells from a trail, by 2001 points along it, (CELLS, CELLS)."""
    along = np.linspace(-length / 2, length / 2, 2001)
    xs, ys = x + along * np.cos(np.radians(angle)), y + along * np.sin(np.radians(angle))
    row, column = np.indices((CELLS, CELLS))
    return np.array([
        np.hypot(xs - (4 * c + 1.5), ys - (4 * r + 1.5)).min() for r, c in zip(row.flat, column.flat, strict=True)
    ]).reshape(CELLS, CELLS)  # fmt: skip


@given(**TRAILS)
def test_every_trail_has_a_cell(x, y, length, angle):
    labels = CellLabels(CELLS)
    labels.add(x, y, length, angle)
    assert labels.label.sum() >= 1
    assert (labels.weight[labels.label == 1] > 1).all()


def test_labels_lie_on_the_trail_and_nothing_is_said_beside_it():
    rng = np.random.default_rng(0)
    for _ in range(20):
        trail = (*rng.uniform(8, 152, 2), rng.uniform(0, 60), rng.uniform(0, 180))
        labels, far = CellLabels(CELLS), distance(*trail)
        labels.add(*trail)
        on, beside, free = far < ON_PX - 0.05, (far > ON_PX + 0.05) & (far < BESIDE_PX - 0.05), far > BESIDE_PX + 0.05
        assert (labels.label[on] == 1).all()
        assert (labels.label[far > ON_PX + 0.05] == 0).all()
        assert (labels.weight[beside] == 0).all()
        assert (labels.weight[free] == 1).all()


def test_long_trails_weigh_more_than_short_ones_but_less_than_their_cells():
    total = []
    for length in (0, 20, 50):
        labels = CellLabels(CELLS)
        labels.add(80.0, 80.0, length, 30.0)
        total.append((labels.weight[labels.label == 1].sum(), labels.label.sum()))
    weights, cells = np.array(total).T
    assert (np.diff(weights) > 0).all()
    assert (np.diff(weights / cells) < 0).all()


def test_what_is_ignored_does_not_hide_a_trail_whichever_comes_first():
    near = (70.0, 60.0, 20.0, 90.0)
    for order in ((0, 1), (1, 0)):
        labels = CellLabels(CELLS)
        for n in order:
            (labels.add if n else labels.ignore)(*((64.0, 64.0, 30.0, 10.0) if n else near))
        alone = CellLabels(CELLS)
        alone.add(64.0, 64.0, 30.0, 10.0)
        np.testing.assert_array_equal(labels.label, alone.label)
        np.testing.assert_array_equal(labels.weight[alone.label == 1], alone.weight[alone.label == 1])
        assert labels.weight[(51 // 4), (70 // 4)] == 0


def test_the_rim_counts_for_nothing():
    labels = CellLabels(CELLS)
    labels.add(20.0, 2.0, 30.0, 5.0)
    inner = labels.weight[3:-3, 3:-3].copy()
    labels.without_border(3)
    np.testing.assert_array_equal(labels.weight[3:-3, 3:-3], inner)
    assert labels.weight.sum() == inner.sum()
