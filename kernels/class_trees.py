"""Log odds of several classes from boosted decision trees."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.bell import FAST


class ClassTrees(NamedTuple):
    """Trees, one after the other; a node's children are named by their place among all nodes.

    Attributes
    ----------
    root : (rounds, classes) int32
        First node of each tree.
    feature : (nodes,) int16
        What the node looks at; -1 at a leaf.
    limit : (nodes,) float32
        Values up to it go to the left.
    missing_left : (nodes,) uint8
        Whether NaN goes to the left, too.
    left, right : (nodes,) int32
        Children.
    value : (nodes,) float32
        What a leaf adds to the log odds of its tree's class.
    base : (classes,) float64
        Log odds before the first tree.
    """

    root: NDArray[np.int32]
    feature: NDArray[np.int16]
    limit: NDArray[np.float32]
    missing_left: NDArray[np.uint8]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]
    base: NDArray[np.float64]


def class_trees(arrays: Mapping[str, NDArray[Any]]) -> ClassTrees:
    """Take the trees from the arrays of a weights file."""
    return ClassTrees(*(np.ascontiguousarray(arrays[name]) for name in ClassTrees._fields))


def class_logits(features: NDArray[np.float32], trees: ClassTrees) -> NDArray[np.float64]:
    """Give the log odds of each class, up to a constant, of rows of features.

    Parameters
    ----------
    features : (n, features) float32
        NaN where there is no value.

    Returns
    -------
    (n, classes) float64

    Notes
    -----
    Gradient boosting (Friedman 2001, Ann. Stat. 29, 1189) adds up one leaf of each tree; where a value is missing, a
    node goes the way that lost least in training.
    """
    out = np.empty((len(features), len(trees.base)))
    _add_up(np.ascontiguousarray(features), trees, out)
    return out


@njit(**FAST, parallel=True)
def _add_up(features: NDArray[np.float32], trees: ClassTrees, out: NDArray[np.float64]) -> None:
    for n in prange(features.shape[0]):
        row = features[n]
        for k in range(trees.base.shape[0]):
            total = trees.base[k]
            for turn in range(trees.root.shape[0]):
                node = trees.root[turn, k]
                while trees.feature[node] >= 0:
                    seen = row[trees.feature[node]]
                    goes_left = trees.missing_left[node] != 0 if np.isnan(seen) else seen <= trees.limit[node]
                    node = trees.left[node] if goes_left else trees.right[node]
                total += trees.value[node]
            out[n, k] = total
