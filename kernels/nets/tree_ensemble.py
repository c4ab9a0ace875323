"""Log odds from boosted decision trees."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit, prange
from kernels.image.gaussian import FAST


class TreeEnsemble(NamedTuple):
    """Trees, one after the other; a node's children are named by their place among all nodes.

    Attributes
    ----------
    root : (trees,) int32
        First node of each tree.
    feature : (nodes,) int16
        What the node looks at; -1 at a leaf.
    limit : (nodes,) float64
        Values up to it go to the left.
    left, right : (nodes,) int32
        Children.
    value : (nodes,) float64
        What a leaf adds to the log odds.
    base : (1,) float64
        Log odds before the first tree.
    """

    root: NDArray[np.int32]
    feature: NDArray[np.int16]
    limit: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    base: NDArray[np.float64]


def tree_ensemble(arrays: Mapping[str, NDArray[Any]]) -> TreeEnsemble:
    """Return the trees in the arrays of a weights file."""
    return TreeEnsemble(*(np.ascontiguousarray(arrays[name]) for name in TreeEnsemble._fields))


def tree_logits(features: NDArray[np.float32], trees: TreeEnsemble) -> NDArray[np.float32]:
    """Return the log odds of each row of finite features, (n, features) -> (n,) float32.

    Notes
    -----
    Gradient boosting (Friedman 2001, Ann. Stat. 29, 1189) adds up one leaf of each tree.
    """
    out = np.empty(len(features), np.float32)
    _add_up(features, trees, out)
    return out


@njit(**FAST, parallel=True)
def _add_up(features: NDArray[np.float32], trees: TreeEnsemble, out: NDArray[np.float32]) -> None:
    for n in prange(features.shape[0]):
        row, total = features[n], trees.base[0]
        for tree in range(trees.root.shape[0]):
            node = trees.root[tree]
            while trees.feature[node] >= 0:
                goes_left = row[trees.feature[node]] <= trees.limit[node]
                node = trees.left[node] if goes_left else trees.right[node]
            total += trees.value[node]
        out[n] = total
