"""The simplest classifier of catalogue rows: the class whose mean is nearest."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax


def nearest_colour(
    features: NDArray[np.float32], centroid: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Give a score for each class that falls with the distance to its mean, (n, classes), summing to 1.

    Parameters
    ----------
    features : (n, features) float32
        NaN where there is no value: left out of the distance.
    centroid : (classes, features) float32
        Means of the classes.
    scale : (features,) float32
        Unit of each feature.
    """
    step = (features[:, None, :].astype(np.float64) - centroid) / scale
    return np.asarray(softmax(-0.5 * np.nansum(step**2, axis=2), axis=1), np.float64)


def class_means(features: NDArray[np.float32], code: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """Give the mean of each class over the rows that have a value, (classes, features) float32."""
    return np.stack([np.nanmean(features[code == k], axis=0) for k in range(classes)]).astype(np.float32)
