"""A classifier of catalogue rows: trees, calibration, and a limit to what it has seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from kernels.class_trees import ClassTrees, class_logits, class_trees
from kernels.colour_features import bands_present, colour_features
from kernels.nearest_colour import nearest_colour
from kernels.novelty import novelty
from schemas.class_features import columns_of
from schemas.model_card import ModelCard

LEAST_BANDS = 2
"""Fewer have no colour: nothing is said."""

_MOST_BANDS = 5


class ClassVerdict(NamedTuple):
    """What a model says of n rows.

    Attributes
    ----------
    probability : (n, classes) float64
        Calibrated; NaN where there are fewer than two bands.
    outlier : (n,) float64
        1 at the limit of what the model has seen; NaN likewise.
    """

    probability: NDArray[np.float64]
    outlier: NDArray[np.float64]


class Calibration(NamedTuple):
    """How log odds become probabilities, and the limit of novelty; a row for each number of bands, from 0 to 5.

    Attributes
    ----------
    slope : (6,)
        Of the log odds.
    offset : (6, classes)
        Added then.
    limit : (6,)
        Novelty that counts as 1.
    """

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]
    limit: NDArray[np.float64]


@dataclass(frozen=True)
class ClassModel:
    """Model behind `stages.spectral_class`; its card names classes and features."""

    trees: ClassTrees
    calibration: Calibration
    reference: NDArray[np.float32]
    scale: NDArray[np.float32]
    centroid: NDArray[np.float32]
    card: ModelCard

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(self.card.input["features"])

    @property
    def version(self) -> str:
        """Name and version, as catalogues give it."""
        return f"{self.card.name} {self.card.version}"

    def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> ClassVerdict:
        """Judge rows given as columns (`schemas.class_features`); one that is not given has no values."""
        matrix = self.matrix(columns)
        bands = np.minimum(bands_present(columns), _MOST_BANDS)
        probability = calibrated(class_logits(matrix, self.trees), bands, self.calibration)
        outlier = novelty(matrix, self.reference, self.scale) / self.calibration.limit[bands]
        silent = bands < LEAST_BANDS
        probability[silent] = np.nan
        return ClassVerdict(probability, np.where(silent, np.nan, outlier))

    def matrix(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Give the features of rows, (n, features) float32."""
        absent = np.full(len(next(iter(columns.values()))), np.nan, np.float32)
        return colour_features({name: columns.get(name, absent) for name in columns_of(self.features)}, self.features)

    def by_nearest_colour(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """Give what the simplest classifier, of the same training rows, says: `kernels.nearest_colour`."""
        return nearest_colour(self.matrix(columns), self.centroid, self.scale)


def calibrated(logits: NDArray[np.float64], bands: NDArray[np.int64], calibration: Calibration) -> NDArray[np.float64]:
    """Give probabilities (n, classes): the softmax of slope x logits + offset.

    Notes
    -----
    Temperature with an offset per class (Guo et al. 2017, ICML, 1321: matrix scaling with a scalar matrix).
    """
    scaled = logits * calibration.slope[bands, None] + calibration.offset[bands]
    return np.asarray(softmax(scaled, axis=1), np.float64)


def class_model(card: ModelCard, arrays: Mapping[str, NDArray[Any]]) -> ClassModel:
    """Make a model of the arrays of its weights file."""
    calibration = Calibration(arrays["slope"], arrays["offset"], arrays["novelty_limit"])
    return ClassModel(class_trees(arrays), calibration, arrays["reference"], arrays["scale"], arrays["centroid"], card)
