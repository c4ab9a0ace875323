"""Comparison of classifiers of catalogue rows."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import Pipeline
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from flows.training.spectral_sample import FOLDS, Sample, folded_rows, held_out_rows, require_plates
from kernels.statistics.class_scores import ClassScores, class_scores, rounded
from schemas.errors import BadInput

REBALANCING = ("none", "smote", "rarest")

KNN_MOST = 200_000
"""Largest number of rows, drawn at random, used by nearest-neighbour classifiers."""

SVM_EXACT = 10_000
"""Number of rows above which the kernel is approximated by 300 Nystroem features of up to `KNN_MOST` rows."""

FOREST_MOST = 200_000
"""Largest number of rows for each tree of a forest."""

_NEIGHBOURS = 5  # for SMOTE
_BATCH = 2048
_LEAST_STEPS = 250  # minimum number of steps of the network's optimiser, however few rows there are


class ClusterLabels(ClassifierMixin, BaseEstimator):
    """Classifier by k-means: each cluster gets the most frequent class of its training rows."""

    def __init__(self, clusters: int = 24, seed: int = 0) -> None:
        self.clusters, self.seed = clusters, seed

    def fit(self, features: NDArray[np.floating], code: NDArray[np.integer]) -> "ClusterLabels":
        """Find the clusters, then their classes."""
        self.classes_ = np.unique(code)
        clusters = min(self.clusters, len(features))
        self.means_ = MiniBatchKMeans(clusters, random_state=self.seed, n_init=3, batch_size=4096).fit(features)
        place = np.searchsorted(self.classes_, code)
        count = np.zeros((clusters, len(self.classes_)))
        np.add.at(count, (self.means_.labels_, place), 1)
        self.label_ = self.classes_[count.argmax(1)]
        return self

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.integer]:
        """Return the class of the nearest cluster."""
        return self.label_[self.means_.predict(features)]


class Thinned(ClassifierMixin, BaseEstimator):
    """Wrapper that fits a classifier to at most ``most`` rows, drawn at random."""

    def __init__(self, inner: Any = None, most: int = KNN_MOST, seed: int = 0) -> None:
        self.inner, self.most, self.seed = inner, most, seed

    def fit(self, features: NDArray[np.floating], code: NDArray[np.integer]) -> "Thinned":
        """Draw rows, and fit."""
        if len(code) > self.most:
            kept = np.sort(np.random.default_rng(self.seed).permutation(len(code))[: self.most])
            features, code = features[kept], code[kept]
        self.inner.fit(features, code)
        self.classes_ = self.inner.classes_
        return self

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.integer]:
        """Return the prediction of the inner classifier."""
        return self.inner.predict(features)


def _svm(rows: int, seed: int) -> Any:
    if rows <= SVM_EXACT:
        return SVC(C=10.0, random_state=seed)
    approximate = Pipeline([("kernel", Nystroem(n_components=300, random_state=seed)), ("svm", LinearSVC(C=10.0))])
    return Thinned(approximate, KNN_MOST, seed)


def _network(rows: int, seed: int) -> Any:
    epochs = max(5, -(-_LEAST_STEPS * _BATCH // max(rows, _BATCH)))
    return MLPClassifier((512, 128), batch_size=min(_BATCH, rows), max_iter=epochs, random_state=seed)


MODELS: dict[str, Callable[[int, int], Any]] = {
    "majority": lambda rows, seed: DummyClassifier(),
    "nearest_colour": lambda rows, seed: NearestCentroid(),
    "k_means": lambda rows, seed: ClusterLabels(seed=seed),
    "knn_5": lambda rows, seed: Thinned(KNeighborsClassifier(min(5, rows)), seed=seed),
    "knn_20": lambda rows, seed: Thinned(KNeighborsClassifier(min(20, rows)), seed=seed),
    "knn_100": lambda rows, seed: Thinned(KNeighborsClassifier(min(100, rows)), seed=seed),
    "logistic": lambda rows, seed: LogisticRegression(max_iter=500),
    "svm": _svm,
    "tree": lambda rows, seed: DecisionTreeClassifier(min_samples_leaf=3, random_state=seed),
    "forest": lambda rows, seed: RandomForestClassifier(
        100, max_samples=min(rows, FOREST_MOST) / rows, random_state=seed
    ),
    "ffnn": _network,
    "boosted": lambda rows, seed: HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
    ),
}
"""Name -> function that makes the classifier from the number of training rows and the seed."""


def pipeline(name: str, code: NDArray[np.integer], rebalance: str, seed: int) -> Pipeline:
    """Return a classifier with its preparation: medians for missing values, standard scores, rebalancing.

    Parameters
    ----------
    name
        Name in `MODELS`.
    code : (n,)
        Classes of the training rows.
    rebalance
        ``none``; ``smote``, which creates rows of the smaller classes (Chawla et al. 2002, JAIR 16, 321); or
        ``rarest``, which draws as many rows of each class as the rarest has. Both only use the rows that are fitted.
    seed
        Seed for everything.

    Raises
    ------
    BadInput
        SMOTE is requested and a class has a single row (``class_too_small``).
    """
    steps: list[tuple[str, Any]] = [("impute", SimpleImputer(strategy="median", keep_empty_features=True))]
    steps.append(("scale", StandardScaler()))
    count = np.bincount(code)
    count = count[count > 0]
    rows = len(code)
    if rebalance == "smote":
        steps.append(("smote", SMOTE(k_neighbors=smote_neighbours(int(count.min())), random_state=seed)))
        rows = int(count.max()) * len(count)
    elif rebalance == "rarest":
        steps.append(("rarest", RandomUnderSampler(random_state=seed)))
        rows = int(count.min()) * len(count)
    return Pipeline([*steps, ("model", MODELS[name](rows, seed))])


def smote_neighbours(smallest: int) -> int:
    """Return the number of neighbours for SMOTE: 5, or as many as the smallest class allows.

    Raises
    ------
    BadInput
        The class has only one row.
    """
    if smallest < 2:
        raise BadInput(
            "class_too_small",
            "the smallest class",
            f"SMOTE needs two rows of each class, got {smallest}.",
            "ask for more rows per class (--least-class), or use another rebalancing.",
        )
    return min(_NEIGHBOURS, smallest - 1)


_FOLDED = 50_000  # rows up to which all rows are validated, in folds; for more, a fifth is held out
_SCORED = 50_000  # largest number of training rows, and of others, on which a classifier is scored


@dataclass(frozen=True)
class Compared:
    """Scores of a classifier.

    Attributes
    ----------
    name
        Name in `flows.training.spectral_compare.MODELS`.
    train, validation
        Scores on the rows it was fitted to, and on unseen rows.
    seconds
        Time for fitting and scoring, summed over folds.
    """

    name: str
    train: ClassScores
    validation: ClassScores
    seconds: float

    def figures(self) -> dict[str, Any]:
        """Return the row of the comparison."""
        return {
            "model": self.name,
            "seconds": round(self.seconds, 2),
            "train": rounded(self.train._replace(confusion=np.empty(0, np.int64))),
            "validation": rounded(self.validation),
        }


def compare(
    sample: Sample,
    features: tuple[str, ...],
    rebalance: str,
    seed: int,
    say: Callable[[str], None],
    models: Sequence[str] = tuple(MODELS),
) -> list[Compared]:
    """Fit and score classifiers on the same split.

    Parameters
    ----------
    sample
        Labelled rows; groups are never divided between training and validation.
    features
        See `schemas.archive_columns`.
    rebalance
        See `pipeline`; only for the training rows.
    seed
        Seed for everything.
    say
        Receives a message on each classifier's result.
    models
        Names in `MODELS`.

    Raises
    ------
    BadInput
        SMOTE is requested and a class is too small for it, or there are too few plates (`folded_rows`).
    """
    matrix, splits = sample.matrix(features), list(split(sample, seed))
    found = []
    for name in models:
        one = _one(name, matrix, sample, splits, rebalance, seed)
        score = one.validation
        say(f"{name}: accuracy {score.accuracy:.4f}, macro F1 {score.macro_f1:.4f}, {one.seconds:.1f} s")
        found.append(one)
    return found


def split(sample: Sample, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows to fit and rows to validate: `folded_rows`, or for more than 50,000 rows one fifth held out."""
    if len(sample.code) > _FOLDED:
        require_plates(sample, FOLDS)
        held = held_out_rows(sample, 1 / FOLDS, seed)
        yield np.flatnonzero(~held), np.flatnonzero(held)
        return
    yield from folded_rows(sample, seed)


def _one(
    name: str,
    matrix: NDArray[np.float32],
    sample: Sample,
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    rebalance: str,
    seed: int,
) -> Compared:
    rng, start = np.random.default_rng(seed), time.perf_counter()
    known: list[list[NDArray[np.int64]]] = [[], []]
    given: list[list[NDArray[np.int64]]] = [[], []]
    for fit, validate in splits:
        model = pipeline(name, sample.code[fit], rebalance, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(matrix[fit], sample.code[fit])
        for side, rows in enumerate((fit, validate)):
            scored = rows if len(rows) <= _SCORED else np.sort(rng.permutation(rows)[:_SCORED])
            known[side].append(sample.code[scored].astype(np.int64))
            given[side].append(np.asarray(model.predict(matrix[scored]), np.int64))
    seconds = time.perf_counter() - start
    scores = [
        class_scores(np.concatenate(known[side]), np.concatenate(given[side]), len(sample.classes)) for side in (0, 1)
    ]
    return Compared(name, scores[0], scores[1], seconds)


def table(found: Sequence[Compared]) -> str:
    """Return the comparison as a Markdown table."""
    lines = [
        "| model | run time, s | train: accuracy | macro F1 | validation: accuracy (95 %) | precision | recall "
        "| macro F1 (95 %) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        train, val = one.train, one.validation
        lines.append(
            f"| {one.name} | {one.seconds:.1f} | {train.accuracy:.4f} | {train.macro_f1:.4f} | {val.accuracy:.4f} "
            f"({val.accuracy_interval[0]:.4f}-{val.accuracy_interval[1]:.4f}) | {val.precision:.4f} "
            f"| {val.recall:.4f} | {val.macro_f1:.4f} ({val.macro_f1_interval[0]:.4f}-{val.macro_f1_interval[1]:.4f}) |"
        )
    return "\n".join(lines) + "\n"
