"""The score at which a number of false alarms is allowed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def false_level(scores: Sequence[NDArray[np.floating]], false_per_image: float) -> float:
    """Give the least score at which there are at most ``false_per_image`` false ones per image.

    Parameters
    ----------
    scores
        Of the false ones of each image.
    false_per_image
        How many are allowed.

    Returns
    -------
    float
        Minus infinity if there are never more.
    """
    ordered = np.sort(np.concatenate(scores))[::-1]  # of their own type: what is next to a number depends on it
    allowed = int(false_per_image * len(scores))
    return float(np.nextafter(ordered[allowed], np.inf)) if allowed < len(ordered) else float("-inf")
