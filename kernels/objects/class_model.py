"""Classifier of catalogue rows: trees, calibration, limit of novelty, and superclass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit, prange
from kernels.image.gaussian import FAST
from schemas.archive_columns import BANDS, columns_of
from schemas.model_card import ModelCard

SKY_STARS = {
    "O": 1e-5,
    "B": 1e-3,
    "A": 0.01,
    "F": 0.15,
    "G": 0.25,
    "K": 0.30,
    "M": 0.28,
    "D": 0.008,
    "C": 1e-4,
    "d": 1e-4,
}
"""Rough shares of the stellar classes among stars of r 15 to 20 away from the Milky Way, set by hand: mostly dwarfs of
F to M, right within a factor of two; some in a thousand blue stars and white dwarfs; about one in ten thousand a carbon
star (of that order: Green 2013, ApJ 765, 12) or a brown dwarf, right within a factor of ten."""

POINT_SHARE = 0.42
"""Fraction of stars among the cutouts used to train image classifiers, at any magnitude, to which their probabilities
refer.
"""


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
    """Return the trees in the arrays of a weights file."""
    return ClassTrees(*(np.ascontiguousarray(arrays[name]) for name in ClassTrees._fields))


def class_logits(features: NDArray[np.float32], trees: ClassTrees) -> NDArray[np.float64]:
    """Return the log odds of each class, up to a constant, of rows of features.

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


Floats = NDArray[np.float32]


def colour_features(columns: Mapping[str, Floats], features: Sequence[str]) -> Floats:
    """Return the features of n rows.

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


def nearest_colour(
    features: NDArray[np.float32], centroid: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return a score for each class that falls with the distance to its mean, (n, classes), summing to 1.

    Parameters
    ----------
    features : (n, features) float32
        NaN where there is no value: left out of the distance.
    centroid : (classes, features) float32
        Means of the classes.
    scale : (features,) float32
        Unit of each feature.
    """
    from scipy.special import softmax

    step = (features[:, None, :].astype(np.float64) - centroid) / scale
    return np.asarray(softmax(-0.5 * np.nansum(step**2, axis=2), axis=1), np.float64)


def class_means(features: NDArray[np.float32], code: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """Return the mean of each class over the rows that have a value, (classes, features) float32."""
    return np.stack([np.nanmean(features[code == k], axis=0) for k in range(classes)]).astype(np.float32)


def novelty(
    features: NDArray[np.float32], reference: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the distance to the third nearest of some training rows: single strays make nothing familiar.

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


LEAST_BANDS = 2
"""Minimum number of bands: with fewer there is no colour and no class."""

_MOST_BANDS = 5


class ClassVerdict(NamedTuple):
    """Verdict of a model on n rows.

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
    """Map from log odds to probabilities, and the limit of novelty; a row for each number of bands, from 0 to 5.

    Attributes
    ----------
    slope : (6,)
        Factor of the log odds.
    offset : (6, classes)
        Added after the slope is applied.
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
        """Return the names of the features."""
        return tuple(self.card.input["features"])

    @property
    def version(self) -> str:
        """Return the name and version, as catalogues give it."""
        return f"{self.card.name} {self.card.version}"

    def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> ClassVerdict:
        """Judge rows given as columns (`schemas.archive_columns`); one that is not given has no values."""
        bands = np.minimum(bands_present(columns), _MOST_BANDS)
        heard = bands >= LEAST_BANDS
        matrix, count = self.matrix(columns)[heard], bands[heard]
        probability = np.full((len(bands), len(self.trees.base)), np.nan)
        probability[heard] = calibrated(class_logits(matrix, self.trees), count, self.calibration)
        outlier = np.full(len(bands), np.nan)
        outlier[heard] = novelty(matrix, self.reference, self.scale) / self.calibration.limit[count]
        return ClassVerdict(probability, outlier)

    def matrix(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the features of rows, (n, features) float32."""
        absent = np.full(len(next(iter(columns.values()))), np.nan, np.float32)
        return colour_features({name: columns.get(name, absent) for name in columns_of(self.features)}, self.features)

    def by_nearest_colour(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """Return the verdict of the simplest classifier, of the same training rows: `kernels.objects.class_model`."""
        return nearest_colour(self.matrix(columns), self.centroid, self.scale)


def calibrated(logits: NDArray[np.float64], bands: NDArray[np.int64], calibration: Calibration) -> NDArray[np.float64]:
    """Return probabilities (n, classes): the softmax of slope x logits + offset.

    Notes
    -----
    Temperature with an offset per class (Guo et al. 2017, ICML, 1321: matrix scaling with a scalar matrix).
    """
    from scipy.special import softmax

    scaled = logits * calibration.slope[bands, None] + calibration.offset[bands]
    return np.asarray(softmax(scaled, axis=1), np.float64)


def class_model(card: ModelCard, arrays: Mapping[str, NDArray[Any]]) -> ClassModel:
    """Make a model of the arrays of its weights file."""
    calibration = Calibration(arrays["slope"], arrays["offset"], arrays["novelty_limit"])
    return ClassModel(class_trees(arrays), calibration, arrays["reference"], arrays["scale"], arrays["centroid"], card)


def at_shares(
    probability: NDArray[np.floating], training: NDArray[np.floating], shares: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return probabilities as they are where the classes have other shares.

    Parameters
    ----------
    probability : (n, classes)
        At the shares ``training``; NaN stays NaN.
    training, shares : (classes,) or (n, classes)
        Sums of 1, or in proportion to shares.

    Notes
    -----
    A change of shares multiplies each probability by new share / old share (Saerens et al. 2002, Neural Computation 14,
    21).
    """
    changed = probability / training * shares
    return np.asarray(changed / changed.sum(axis=1, keepdims=True), np.float64)


def superclass_verdict(
    colours: ClassVerdict,
    training: NDArray[np.floating],
    sky: NDArray[np.floating],
    has_u: NDArray[np.bool_],
    point: NDArray[np.floating],
    point_outlier: NDArray[np.floating],
) -> ClassVerdict:
    """Judge n sources.

    Parameters
    ----------
    colours
        Of a model of colours; classes star, galaxy, quasar. NaN where there is no colour.
    training : (3,)
        Shares of the classes among the rows it was trained on: its probabilities are of these.
    sky : (n, 3)
        Shares of the classes among what has the source's magnitude at its place:
        `kernels.objects.sky_prior.sky_shares`.
    has_u : (n,)
        Whether its colours include u.
    point : (n,)
        Probability of being a point source, from the image, where `POINT_SHARE` are; NaN where there is none.
    point_outlier : (n,)
        How far outside its training the judge of the image was: above 1 it does not count.

    Returns
    -------
    ClassVerdict
        NaN where nothing can be said: neither an image nor colours with u.

    Notes
    -----
    The image separates point sources from galaxies, colours separate stars from quasars among point sources:
    P(galaxy) = 1 - p, P(star) = p w, P(quasar) = p (1 - w), where p is that of the image and w / (1 - w) are the odds
    of star against quasar by the colours, both at the shares of the sky; without a colour, the odds of these shares.
    Without an image, colours alone. A change of shares multiplies each probability by new share / old share (Saerens
    et al. 2002, Neural Computation 14, 21).
    """
    at_sky = at_shares(colours.probability, training, sky)
    of_points = np.where(np.isfinite(at_sky), at_sky, sky)
    star = of_points[:, 0] / (of_points[:, 0] + of_points[:, 2])
    looks = np.stack([point, 1 - point], axis=1)
    image = at_shares(looks, np.array([POINT_SHARE, 1 - POINT_SHARE]), np.stack([1 - sky[:, 1], sky[:, 1]], axis=1))[
        :, 0
    ]
    together = np.stack([image * star, 1 - image, image * (1 - star)], axis=1)
    seen = judged(point, point_outlier)
    probability = np.where(seen[:, None], together, np.where(has_u[:, None], at_sky, np.nan))
    outlier = np.where(seen, np.fmax(colours.outlier, point_outlier), colours.outlier)
    return ClassVerdict(probability, np.where(np.isfinite(probability[:, 0]), outlier, np.nan))


def judged(point: NDArray[np.floating], point_outlier: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which sources the judge of the image has an opinion of, (n,) bool."""
    return np.isfinite(point) & (point_outlier <= 1)
