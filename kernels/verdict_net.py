"""The verdict on a candidate: a small network on its features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from schemas.model_card import ModelCard


def reliability(features: NDArray[np.float32], arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Give the probability of being real.

    Parameters
    ----------
    features : (n, features) float32
    arrays
        ``mean`` and ``scale`` (features,) of the training set; ``weight0`` (in, out), ``bias0`` (out,), ``weight1`` and
        so on of fully connected layers with ReLU between; the last has one output. One is logistic regression.

    Returns
    -------
    (n,) float32
        0 to 1.
    """
    x = (features.astype(np.float64) - arrays["mean"]) / arrays["scale"]
    last = sum(name.startswith("weight") for name in arrays) - 1
    for n in range(last):
        x = np.maximum(x @ arrays[f"weight{n}"] + arrays[f"bias{n}"], 0.0)
    return expit((x @ arrays[f"weight{last}"] + arrays[f"bias{last}"])[:, 0]).astype(np.float32)


@dataclass(frozen=True)
class VerdictNet:
    """`reliability` with its arrays and its card."""

    arrays: Mapping[str, NDArray[Any]]
    card: ModelCard

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the probability of being real, (n, features) -> (n,) float32 in 0..1."""
        return reliability(features, self.arrays)
