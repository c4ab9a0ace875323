"""The classifiers that are compared."""

from collections.abc import Callable
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
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from schemas.errors import BadInput

REBALANCING = ("none", "smote", "rarest")

KNN_MOST = 200_000
"""Neighbours are sought among so many rows at most, drawn at random."""

SVM_EXACT = 10_000
"""Beyond so many rows the kernel is approximated by 300 Nystroem features of up to `KNN_MOST` rows."""

FOREST_MOST = 200_000
"""Each tree of a forest is grown on so many rows at most."""

_NEIGHBOURS = 5  # of SMOTE
_BATCH = 2048
_LEAST_STEPS = 250  # of the network's optimiser, however few the rows


class ClusterLabels(ClassifierMixin, BaseEstimator):
    """k-means, each cluster called by the most frequent class of its training rows."""

    def __init__(self, clusters: int = 24, seed: int = 0) -> None:
        self.clusters, self.seed = clusters, seed

    def fit(self, features: NDArray[np.floating], code: NDArray[np.integer]) -> "ClusterLabels":
        """Find the clusters, then their names."""
        self.classes_ = np.unique(code)
        clusters = min(self.clusters, len(features))
        self.means_ = MiniBatchKMeans(clusters, random_state=self.seed, n_init=3, batch_size=4096).fit(features)
        place = np.searchsorted(self.classes_, code)
        count = np.zeros((clusters, len(self.classes_)))
        np.add.at(count, (self.means_.labels_, place), 1)
        self.label_ = self.classes_[count.argmax(1)]
        return self

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.integer]:
        """Give the class of the nearest cluster."""
        return self.label_[self.means_.predict(features)]


class Thinned(ClassifierMixin, BaseEstimator):
    """Another classifier, fitted to at most ``most`` rows drawn at random."""

    def __init__(self, inner: Any = None, most: int = KNN_MOST, seed: int = 0) -> None:
        self.inner, self.most, self.seed = inner, most, seed

    def fit(self, features: NDArray[np.floating], code: NDArray[np.integer]) -> "Thinned":
        """Draw, and fit."""
        if len(code) > self.most:
            kept = np.sort(np.random.default_rng(self.seed).permutation(len(code))[: self.most])
            features, code = features[kept], code[kept]
        self.inner.fit(features, code)
        self.classes_ = self.inner.classes_
        return self

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.integer]:
        """Give the inner classifier's answer."""
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
    "knn_5": lambda rows, seed: Thinned(KNeighborsClassifier(5), seed=seed),
    "knn_20": lambda rows, seed: Thinned(KNeighborsClassifier(20), seed=seed),
    "knn_100": lambda rows, seed: Thinned(KNeighborsClassifier(100), seed=seed),
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
"""Name -> maker of the classifier, from the number of training rows and the seed."""


def pipeline(name: str, code: NDArray[np.integer], rebalance: str, seed: int) -> Pipeline:
    """Make a classifier with its preparation: medians for missing values, standard scores, rebalancing.

    Parameters
    ----------
    name
        Of `MODELS`.
    code : (n,)
        Classes of the training rows.
    rebalance
        ``none``; ``smote``, which makes rows of the smaller classes (Chawla et al. 2002, JAIR 16, 321); or ``rarest``,
        which draws as many rows of each class as the rarest has. Both only ever see the rows that are fitted.
    seed
        Of everything.

    Raises
    ------
    BadInput
        SMOTE is asked for where a class has a single row (``class_too_small``).
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
    """Give the neighbours that SMOTE draws between: 5, or as many as the smallest class allows.

    Raises
    ------
    BadInput
        The class has one row: there is nothing to draw between.
    """
    if smallest < 2:
        raise BadInput(
            "class_too_small",
            "the smallest class",
            f"SMOTE needs two rows of each class, got {smallest}.",
            "ask for more rows per class (--least-class), or use another rebalancing.",
        )
    return min(_NEIGHBOURS, smallest - 1)
