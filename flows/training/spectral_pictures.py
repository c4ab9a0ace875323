"""Pictures of a comparison of classifiers."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt  # the backend comes first
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flows.training.spectral_compare import Compared, pipeline, split
from flows.training.spectral_sample import Sample
from kernels.statistics.class_scores import ClassScores

mpl.use("Agg")

_DOTS = 4000
_IMPORTANCE_ROWS = 4000


def principal_components(
    matrix: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return two principal components of standardised features, each component's fraction of variance, and the rows.

    At most 200,000 rows, drawn at random, are used.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(matrix))[:200_000])
    steps = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), PCA())
    return steps.fit_transform(matrix[rows])[:, :2], steps[-1].explained_variance_ratio_, rows


def importances(
    sample: Sample, features: tuple[str, ...], rebalance: str, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the accuracy that boosted trees lose when a feature of unseen rows is shuffled, and its scatter.

    Notes
    -----
    Permutation importance (Breiman 2001, Machine Learning 45, 5). Redundant features share it.
    """
    fit, validate = next(split(sample, seed))
    fit, validate = fit[:200_000], validate[:_IMPORTANCE_ROWS]
    matrix = sample.matrix(features)
    model = pipeline("boosted", sample.code[fit], rebalance, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(matrix[fit], sample.code[fit])
    found = permutation_importance(model, matrix[validate], sample.code[validate], n_repeats=5, random_state=seed)
    return found.importances_mean, found.importances_std


def draw_comparison(
    sample: Sample,
    features: tuple[str, ...],
    found: Sequence[Compared],
    weight: tuple[NDArray[np.float64], NDArray[np.float64]],
    path: Path,
    seed: int,
) -> NDArray[np.float64]:
    """Draw components, importances, scores and the best confusion matrix; return the components' variance fractions."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
    places, shares, rows = principal_components(sample.matrix(features), seed)
    _components(axes[0, 0], places, shares, sample.code[rows], sample.classes)
    _importance(axes[0, 1], features, *weight)
    _scores(axes[1, 0], found)
    best = max(found, key=lambda one: one.validation.macro_f1)
    _confusion(axes[1, 1], best.validation, sample.classes, best.name)
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return shares


def _components(
    axis: Any,
    places: NDArray[np.float64],
    shares: NDArray[np.float64],
    code: NDArray[np.int16],
    classes: tuple[str, ...],
) -> None:
    palette = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20")
    shown = np.random.default_rng(0).permutation(len(code))[:_DOTS]
    for k, name in enumerate(classes):
        dots = places[shown[code[shown] == k]]
        axis.plot(dots[:, 0], dots[:, 1], ".", ms=3, alpha=0.5, color=palette(k), label=name)
    low, high = np.quantile(places, (0.002, 0.998), axis=0)
    margin = 0.1 * (high - low) + 1e-6
    axis.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    second = shares[1] if len(shares) > 1 else 0.0
    axis.set(xlabel=f"component 1 ({shares[0]:.0%})", ylabel=f"component 2 ({second:.0%})", title="PCA")
    axis.legend(frameon=False, fontsize=8, markerscale=3, ncols=2 if len(classes) > 5 else 1)


def _importance(axis: Any, features: tuple[str, ...], mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
    order = np.argsort(mean)
    axis.barh([features[k] for k in order], mean[order], xerr=std[order], color="0.6")
    axis.set(xlabel="accuracy lost when shuffled", title="importance (boosted trees, unseen rows)")


def _scores(axis: Any, found: Sequence[Compared]) -> None:
    order = sorted(found, key=lambda one: one.validation.macro_f1)
    y = np.arange(len(order))
    for shift, mark, label in ((-0.15, "accuracy", "accuracy"), (0.15, "macro_f1", "macro F1")):
        value = np.array([getattr(one.validation, mark) for one in order])
        low, high = np.array([getattr(one.validation, f"{mark}_interval") for one in order]).T
        reach = np.maximum([value - low, high - value], 0)
        axis.errorbar(value, y + shift, xerr=reach, fmt="o", ms=4, label=label)
    axis.set(xlabel="unseen rows, 95 % intervals", title="classifiers")
    axis.set_yticks(y, [one.name for one in order])
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _confusion(axis: Any, scores: ClassScores, classes: tuple[str, ...], name: str) -> None:
    share = scores.confusion / np.maximum(scores.confusion.sum(1, keepdims=True), 1)
    axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    size = 9 if len(classes) <= 5 else 6
    for true, row in enumerate(scores.confusion):
        for given, count in enumerate(row):
            if count:
                shade = "white" if share[true, given] > 0.6 else "black"
                axis.text(given, true, str(count), ha="center", va="center", fontsize=size, color=shade)
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="given", ylabel="true", title=f"{name}: rows, shaded by share of the true class")


def draw_regression(
    temperature: NDArray[np.float64],
    colour: NDArray[np.float64],
    line: NDArray[np.float64],
    words: tuple[str, str],
    path: Path,
) -> None:
    """Draw colours against temperature with the line in 5040 K / T; ``words`` are the axis label and the title."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    shown = np.random.default_rng(0).permutation(len(colour))[:_DOTS]
    axis.plot(temperature[shown], colour[shown], ".", ms=3, alpha=0.4)
    warm = np.geomspace(temperature.min(), temperature.max(), 200)
    axis.plot(warm, line[0] * 5040 / warm + line[1], color="C1")
    axis.set(xscale="log", xlabel="effective temperature, K", ylabel=words[0], title=words[1])
    ticks = [kelvin for kelvin in (2000, 3000, 5000, 10000, 20000, 40000) if warm[0] <= kelvin <= warm[-1]]
    axis.set_xticks(ticks, list(map(str, ticks)))
    axis.set_xticks([], minor=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
