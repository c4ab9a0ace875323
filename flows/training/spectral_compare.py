"""All classifiers of the study, side by side."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold

from flows.training.spectral_models import MODELS, pipeline
from flows.training.spectral_sample import Sample, held_out
from kernels.multiclass_scores import ClassScores, class_scores, rounded

_FOLDS = 5
_FOLDED = 50_000  # rows up to which every row is validated, by folds; beyond, a fifth is held out
_SCORED = 50_000  # rows at most that a classifier is scored on, of the training rows and of the others


@dataclass(frozen=True)
class Compared:
    """A classifier's scores.

    Attributes
    ----------
    name
        Of `flows.training.spectral_models.MODELS`.
    train, validation
        Scores of the rows it was fitted to, and of rows it has never seen.
    seconds
        Fitting and judging, all folds together.
    """

    name: str
    train: ClassScores
    validation: ClassScores
    seconds: float

    def figures(self) -> dict[str, Any]:
        """Give the row of the table."""
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
    """Fit and score classifiers on one split.

    Parameters
    ----------
    sample
        Labelled rows; their groups are never divided between training and validation.
    features
        See `schemas.class_features`.
    rebalance
        See `flows.training.spectral_models.pipeline`: of the training rows alone.
    seed
        Of everything.
    say
        Told of each classifier's result.
    models
        Names.

    Raises
    ------
    BadInput
        SMOTE is asked for where a class is too small for it.
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
    """Give rows to fit and rows to validate: five folds, or of more than 50,000 rows one fifth held out."""
    if len(sample.code) > _FOLDED:
        held = held_out(sample, 1 / _FOLDS, seed)
        yield np.flatnonzero(~held), np.flatnonzero(held)
        return
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        yield from folds.split(sample.code, sample.code, sample.group)


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
    """Give the comparison as a Markdown table."""
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
