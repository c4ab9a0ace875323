"""Which boxes hold a trail, and which of them are learnt from."""

import numpy as np
from numpy.typing import NDArray

from flows.training.region_truth import Sources
from kernels.boxes import overlap
from kernels.matching import segment_distance

BESIDE_PX = 8.0
"""Boxes whose middle is so near to what counts neither way count neither way."""


def label_boxes(
    boxes: NDArray[np.float64], sources: Sources, positive: float, negative: float, best: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tell what boxes are.

    Parameters
    ----------
    boxes : (n, 4)
        px.
    sources
        What is there.
    positive, negative
        Intersection over union from which on a box holds a trail, and below which it does not.
    best
        Whether the box that fits a trail best holds it, however badly it fits.

    Returns
    -------
    label : (n,)
        1 a trail, 0 none, -1 neither.
    trail : (n,)
        Index of the trail that fits best; 0 if there is none.
    """
    shared = overlap(boxes, sources.boxes)
    most = shared.max(1, initial=0.0)
    label = np.where(most >= positive, 1, np.where(most < negative, 0, -1))
    trail = shared.argmax(1) if shared.shape[1] else np.zeros(len(boxes), np.int64)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    for line in sources.lines:
        label[(label == 0) & (segment_distance(middle[:, 0], middle[:, 1], *line) <= BESIDE_PX)] = -1
    if best and len(boxes):
        found = shared.max(0, initial=0.0) > 0
        chosen = shared.argmax(0)[found]
        label[chosen], trail[chosen] = 1, np.flatnonzero(found)
    return label, trail


def balanced(label: NDArray[np.int64], count: int, share: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw boxes to learn from: at most ``share`` of ``count`` of label 1, the rest of label 0 (Ren et al. 2015)."""
    trails, others = (rng.permutation(np.flatnonzero(label == kind)) for kind in (1, 0))
    trails = trails[: int(share * count)]
    return np.concatenate([trails, others[: count - len(trails)]])
