"""The verdict on a candidate: a small network on its features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from schemas.model_card import ModelCard


@dataclass(frozen=True)
class VerdictNet:
    """Standardisation, fully connected layers with ReLU between, logistic output; one layer is logistic regression.

    Parameters
    ----------
    mean, scale : (features,)
        Of the training set.
    layers
        Pairs of weights (in, out) and biases (out,); the last has one output.
    card
        What is known of its weights.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    layers: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
    card: ModelCard

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the probability of being real, (n, features) -> (n,) float32 in 0..1."""
        x = (features.astype(np.float64) - self.mean) / self.scale
        for weights, bias in self.layers[:-1]:
            x = np.maximum(x @ weights + bias, 0.0)
        weights, bias = self.layers[-1]
        return expit((x @ weights + bias)[:, 0]).astype(np.float32)
