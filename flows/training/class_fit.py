"""Fit, calibration and description of the classifier of catalogue rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.ensemble import HistGradientBoostingClassifier

from flows.training.spectral_sample import Sample, folded_rows
from kernels.objects.class_model import LEAST_BANDS, ClassTrees, bands_present, class_logits, class_means, novelty
from schemas.archive_columns import BANDS
from schemas.errors import BadInput

_BANDS = len(BANDS)


@dataclass(frozen=True)
class ClassFit:
    """Settings for fitting the classifier.

    Attributes
    ----------
    rounds, rate, leaves, ridge
        Parameters of the boosting.
    drops
        Number of copies of each row with missing bands, of which at least two remain; each has half a row's weight.
    noise
        Noise added to the magnitudes of such copies, mag.
    reference
        Number of rows kept, to recognise rows far from all of them.
    familiar
        Fraction of unseen rows of the training table within the novelty limit.
    """

    rounds: int = 150
    rate: float = 0.06
    leaves: int = 15
    ridge: float = 1.0
    drops: int = 2
    noise: float = 0.02
    reference: int = 1500
    familiar: float = 0.995


def fit_class_model(sample: Sample, features: tuple[str, ...], plan: ClassFit, seed: int) -> dict[str, NDArray[Any]]:
    """Fit trees to a sample, calibrate them on folds that they have not seen, and return the model's arrays.

    Parameters
    ----------
    sample
        Training rows of at least three classes.
    features
        See `schemas.archive_columns`.
    plan, seed
        Settings, and seed for everything random.

    Returns
    -------
    dict
        Arrays for `kernels.objects.class_model.class_model`.

    Raises
    ------
    BadInput
        The rows, or those of a class, are of too few plates to be divided (``few_plates``).
    """
    require_values(sample, features)
    codes, bands, logits, far = [], [], [], []
    folds = list(folded_rows(sample, seed))
    for fit, _ in folds:
        _require_classes(sample, sample.code[fit])
    for fit, judge in folds:
        part, other = sample.take(fit), thinned(sample.take(judge), plan, seed + 1)
        trees = _fit(part, features, plan, seed)
        reference, scale = _familiar(part, features, plan, seed)
        seen = other.matrix(features)
        codes.append(other.code)
        bands.append(bands_present(other.columns))
        logits.append(class_logits(seen, trees))
        far.append(novelty(seen, reference, scale))
    slope, offset, limit = _calibration(
        np.concatenate(codes), np.concatenate(bands), np.concatenate(logits), np.concatenate(far), plan
    )
    reference, scale = _familiar(sample, features, plan, seed)
    return {
        **_fit(sample, features, plan, seed)._asdict(),
        "slope": slope,
        "offset": offset,
        "novelty_limit": limit,
        "reference": reference,
        "scale": scale,
        "centroid": class_means(sample.matrix(features), sample.code, len(sample.classes)),
    }


def thinned(sample: Sample, plan: ClassFit, seed: int) -> Sample:
    """Add to each row copies in which bands are missing and magnitudes are noisier."""
    rng, rows = np.random.default_rng(seed), len(sample.code)
    whole = sample.take(np.tile(np.arange(rows), 1 + plan.drops))
    columns = dict(whole.columns)
    copies = rows * plan.drops
    lost = rng.random((copies, _BANDS)).argsort(1) < rng.integers(0, _BANDS - LEAST_BANDS + 1, copies)[:, None]
    for k, band in enumerate(BANDS):
        noisy = columns[band][rows:] + rng.normal(0, plan.noise, copies).astype(np.float32)
        columns[band] = np.concatenate([columns[band][:rows], np.where(lost[:, k], np.float32(np.nan), noisy)])
    return Sample(columns, whole.code, whole.classes, whole.group, whole.notes)


def require_values(sample: Sample, features: tuple[str, ...]) -> None:
    """Raise `BadInput` (``no_values``) unless each feature has a value in some row: trees cannot be fitted else."""
    columns = sample.matrix(features).T
    if absent := [name for name, values in zip(features, columns, strict=True) if not np.isfinite(values).any()]:
        raise BadInput(
            "no_values",
            f"feature {', '.join(absent)}",
            "has no value in any row.",
            "choose --features that the table has values of, or give a table with them.",
        )


def _require_classes(sample: Sample, fitted: NDArray[np.int16]) -> None:
    if absent := [name for k, name in enumerate(sample.classes) if not (fitted == k).any()]:
        raise BadInput(
            "few_plates",
            f"class {', '.join(absent)}",
            "has so few rows, or spectroscopic plates, whose rows stay together, that none is left to learn from.",
            "give rows of more plates, or leave the column plate out: each row is then by itself.",
        )


def _fit(sample: Sample, features: tuple[str, ...], plan: ClassFit, seed: int) -> ClassTrees:
    many = thinned(sample, plan, seed)
    weight = np.where(np.arange(len(many.code)) < len(sample.code), 1.0, 0.5)
    model = HistGradientBoostingClassifier(
        max_iter=plan.rounds,
        learning_rate=plan.rate,
        max_leaf_nodes=plan.leaves,
        l2_regularization=plan.ridge,
        early_stopping=False,
        random_state=seed,
    )
    return trees_of(model.fit(many.matrix(features), many.code, weight))


def trees_of(model: Any) -> ClassTrees:
    """Copy the trees of scikit-learn's model of three classes or more."""
    nodes = [tree.nodes for turn in model._predictors for tree in turn]
    first = np.cumsum([0, *map(len, nodes)])[:-1]
    flat = np.concatenate(nodes)
    shift = np.repeat(first, [len(part) for part in nodes])
    leaf = flat["is_leaf"].astype(bool)
    return ClassTrees(
        first.reshape(len(model._predictors), -1).astype(np.int32),
        np.where(leaf, -1, flat["feature_idx"]).astype(np.int16),
        _rounded_down(np.where(leaf, 0.0, flat["num_threshold"])),
        flat["missing_go_to_left"].astype(np.uint8),
        np.where(leaf, 0, flat["left"] + shift).astype(np.int32),
        np.where(leaf, 0, flat["right"] + shift).astype(np.int32),
        np.where(leaf, flat["value"], 0.0).astype(np.float32),
        np.ravel(model._baseline_prediction).astype(np.float64),
    )


def _rounded_down(limit: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 up to each limit: float32 values go the same way at it."""
    near = limit.astype(np.float32)
    return np.where(near > limit, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


def _familiar(
    sample: Sample, features: tuple[str, ...], plan: ClassFit, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows, each class as the rest in equal number as far as there are, and the scale of each feature."""
    rng, matrix = np.random.default_rng(seed), sample.matrix(features)
    share = plan.reference // len(sample.classes)
    rows = [rng.permutation(np.flatnonzero(sample.code == k))[:share] for k in range(len(sample.classes))]
    scale = np.maximum(np.nanstd(matrix, axis=0), 1e-3)
    return matrix[np.sort(np.concatenate(rows))], scale.astype(np.float32)


def _calibration(
    code: NDArray[np.int16],
    bands: NDArray[np.int64],
    logits: NDArray[np.float64],
    far: NDArray[np.float32],
    plan: ClassFit,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit slope and offsets by maximum likelihood, and the limit of novelty, for each number of bands."""
    classes = logits.shape[1]
    slope, offset, limit = np.ones(_BANDS + 1), np.zeros((_BANDS + 1, classes)), np.ones(_BANDS + 1)
    for count in range(LEAST_BANDS, _BANDS + 1):
        rows = bands == count
        if not rows.any():  # as in a table of two surveys, each without a band of the other's
            slope[count], offset[count], limit[count] = slope[count - 1], offset[count - 1], limit[count - 1]
            continue
        true, seen = code[rows].astype(np.int64), logits[rows]

        def loss(p: NDArray[np.float64], true: NDArray[np.int64] = true, seen: NDArray[np.float64] = seen) -> float:
            odds = log_softmax(np.exp(p[0]) * seen + np.append(p[1:], 0.0), axis=1)
            return -float(odds[np.arange(len(true)), true].mean()) + 1e-3 * float(np.sum(p**2))

        best = minimize(loss, np.zeros(classes), method="L-BFGS-B").x
        slope[count], offset[count, :-1] = np.exp(best[0]), best[1:]
        limit[count] = np.quantile(far[rows], plan.familiar)
    return slope, offset, limit
