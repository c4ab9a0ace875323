"""The matrix that classifiers of catalogue rows see."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.archive_columns import BANDS

Floats = NDArray[np.float32]


def colour_features(columns: Mapping[str, Floats], features: Sequence[str]) -> Floats:
    """Give the features of n rows.

    Parameters
    ----------
    columns
        Name -> (n,) magnitudes or other values; NaN where there is none.
    features
        Names of columns, or of differences of two (``g-r``, mag).

    Returns
    -------
    (n, features) float32
        NaN where a column has no value.
    """
    rows = len(next(iter(columns.values())))
    matrix = np.empty((rows, len(features)), np.float32)
    for k, feature in enumerate(features):
        first, *second = (columns[name] for name in feature.split("-"))
        matrix[:, k] = first - second[0] if second else first
    return matrix


def bands_present(columns: Mapping[str, Floats]) -> NDArray[np.int64]:
    """Count the bands of ugriz with a magnitude, (n,)."""
    return np.sum([np.isfinite(columns[band]) for band in BANDS if band in columns], axis=0, dtype=np.int64)
