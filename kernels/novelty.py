"""How far a row lies from all that a model was trained on."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

NEIGHBOURS = 3
"""The distance is that of the third nearest row: single strays in the training table make nothing familiar."""


def novelty(
    features: NDArray[np.float32], reference: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give the distance to the third nearest of some training rows.

    Parameters
    ----------
    features : (n, features) float32
        NaN where there is no value.
    reference : (m, features) float32
        Training rows, m at least 3.
    scale : (features,) float32
        Unit of each feature.

    Returns
    -------
    (n,) float32
        Root mean square over the features that both rows have; infinite where there are fewer than three such rows.
    """
    out = np.empty(len(features), np.float32)
    _third_nearest(np.ascontiguousarray(features / scale), np.ascontiguousarray(reference / scale), out)
    return out


@njit(cache=True, nogil=True, parallel=True)
def _third_nearest(features: NDArray[np.float32], reference: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for n in prange(features.shape[0]):
        row = features[n]
        first = second = third = np.float32(np.inf)
        for m in range(reference.shape[0]):
            total, count = np.float32(0), 0
            for k in range(row.shape[0]):
                step = row[k] - reference[m, k]
                if step == step:
                    total += step * step
                    count += 1
            if count:
                total /= np.float32(count)
                if total < first:
                    first, second, third = total, first, second
                elif total < second:
                    second, third = total, second
                elif total < third:
                    third = total
        out[n] = np.sqrt(third)
