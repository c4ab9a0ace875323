"""The verdict on a candidate: a few small networks on its features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from schemas.model_card import ModelCard


def reliability(features: NDArray[np.float32], arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Give the probability of being real, from the mean log odds of an ensemble of networks.

    Parameters
    ----------
    features : (n, features) float32
    arrays
        ``mean`` and ``scale`` (features,) of the training set; ``weight0`` (networks, in, out), ``bias0``
        (networks, out), ``weight1`` and so on of fully connected layers with ReLU between; the last has one output.

    Returns
    -------
    (n,) float32
        0 to 1.
    """
    x = ((features.astype(np.float64) - arrays["mean"]) / arrays["scale"])[None]
    last = sum(name.startswith("weight") for name in arrays) - 1
    for n in range(last):
        x = np.maximum(x @ arrays[f"weight{n}"] + arrays[f"bias{n}"][:, None], 0.0)
    odds = x @ arrays[f"weight{last}"] + arrays[f"bias{last}"][:, None]
    return expit(odds[..., 0].mean(0)).astype(np.float32)


@dataclass(frozen=True)
class VerdictNet:
    """`reliability` with its arrays and its card."""

    arrays: Mapping[str, NDArray[Any]]
    card: ModelCard

    def __call__(self, features: NDArray[np.float32], stamps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the probability of being real, (n, features) -> (n,) float32 in 0..1."""
        return reliability(features, self.arrays)
