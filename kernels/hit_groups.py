"""Which hits belong together, and to which trail each belongs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from kernels.segment import Segment


def group_hits(row: NDArray[np.integer], column: NDArray[np.integer], reach: int) -> NDArray[np.intp]:
    """Label hits that are linked by steps of at most ``reach`` in row and column.

    Parameters
    ----------
    row, column : (N,)
        Places on the grid of windows.
    reach
        Longest step; 1 is 8-connected, 2 bridges a gap of one window.

    Returns
    -------
    (N,) int
        0, 1, ... in the order in which the groups first appear.
    """
    if not len(row):
        return np.empty(0, np.intp)
    pairs = cKDTree(np.column_stack([row, column])).query_pairs(reach + 0.5, p=np.inf, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(row), len(row)))
    return _renumbered(connected_components(links, directed=False)[1])


def split_hits(row: NDArray[np.integer], column: NDArray[np.integer], side: int) -> NDArray[np.intp]:
    """Label hits by the ``side`` x ``side`` cell of the grid they lie in, in the order of first appearance."""
    cell = np.asarray(row, np.int64) // side * (1 << 32) + np.asarray(column, np.int64) // side
    return _renumbered(np.unique(cell, return_inverse=True)[1])


def _renumbered(labels: NDArray[np.integer]) -> NDArray[np.intp]:
    first = np.unique(labels, return_index=True)[1]
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[labels]


def assign_hits(
    x: NDArray[np.float64], y: NDArray[np.float64], window: int, trails: Sequence[Segment]
) -> NDArray[np.intp]:
    """Give each window the trail that is most significant inside it.

    Parameters
    ----------
    x, y : (N,)
        Centres of the windows, px.
    window
        Side of a window, px.
    trails
        Candidates. A trail's S/N in a window is that of the part inside, and counts less towards the edge of the
        window: a network sees best what is near the centre, and so two trails that share most of their windows both
        keep those that are centred on them.

    Returns
    -------
    (N,) int
        Index of the trail, -1 where none is inside.
    """
    strength = np.zeros((len(trails), len(x)))
    for i, trail in enumerate(trails):
        points = trail.points(2.0)
        apart = np.maximum(np.abs(x[:, None] - points[:, 0]), np.abs(y[:, None] - points[:, 1])) / window
        weight = np.clip((0.56 - apart) / 0.26, 0.0, 1.0)  # whole within 0.3 of a window's side from its centre
        strength[i] = trail.snr * np.sqrt(np.mean(np.square(weight), 1))
    if not len(trails):
        return np.full(len(x), -1, np.intp)
    best = strength.argmax(0)
    return np.where(strength.max(0) > 0, best, -1)
