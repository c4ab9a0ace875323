"""Training of the model of cluster membership."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from flows.inputs.cluster_table import ClusterTable, read_clusters
from flows.pipeline.weights import write_model
from flows.results.evaluation.membership import CLASSES, LEARNT, membership_figures, place_numbers
from flows.storage.folder import writable_folder
from kernels.nets.tree_ensemble import TreeEnsemble
from kernels.objects.membership import (
    FEATURES,
    RedSequence,
    colour_region,
    membership_features,
    photometric_offset,
    platt_scaled,
    raw_probability,
    redness,
    ridge_terms,
)
from schemas.errors import BadInput, Misconfigured

Say = Callable[[str], None]

SHIPPED_DATA = "09_cluster_membership/cluster.gals.sel.dens_zspec020_membership_probs_r200n.dat"


@dataclass(frozen=True)
class MembershipPlan:
    """Number of trees, least galaxies per leaf, folds by cluster, and repetitions with other folds."""

    trees: int = 200
    least: int = 8
    folds: int = 5
    repeats: int = 3


@dataclass(frozen=True)
class _Fit:
    """Result of learning: trees, red sequence, and the limits of the two simplest rules."""

    trees: TreeEnsemble
    sequence: RedSequence
    offset_cut: float
    red_cut: float


def train_membership(path: Path | None, out: Path, plan: MembershipPlan, seed: int, say: Say) -> dict[str, Any]:
    """Fit randomised trees to labelled galaxies, and write weights, card and figures.

    Parameters
    ----------
    path
        Table, see `flows.inputs.cluster_table.read_clusters`; None: the S-PLUS table in ``NIGHTSTRIDE_DATA``.
    out
        Folder for ``membership.*``.
    plan, seed
        Plan; seed of folds and trees.
    say
        Receives a line on each step.

    Returns
    -------
    dict
        Figures of `membership_figures` of galaxies in clusters that their model never saw, with ``repeats``.

    Raises
    ------
    BadInput
        There are fewer clusters than folds, or galaxies of only one class.
    Misconfigured
        There is no table, or ``out`` cannot be written.

    Notes
    -----
    Extremely randomised trees (Geurts, Ernst & Wehenkel 2006, Mach. Learn. 63, 3). The written model has learnt from
    all galaxies; its figures are from the folds.
    """
    path = path or _of_environment()
    table = _usable(read_clusters(path))
    truth = table.columns["member"].astype(np.int64)
    if len(np.unique(table.cluster)) < plan.folds or truth.min() == truth.max():
        problem = (
            f"has {len(np.unique(table.cluster))} clusters and {int(truth.sum())} members of {len(truth)} galaxies."
        )
        raise BadInput(
            "too_few", str(path), problem, f"give {plan.folds} clusters or more, with galaxies of both classes."
        )
    writable_folder(out)
    start = perf_counter()
    repeats = []
    for number in range(plan.repeats):
        raw, rules, red = _folded(table, truth, plan, seed + number)
        line = np.array(_line(raw, truth))
        figures = membership_figures(platt_scaled(raw, *line), truth, rules, colour_region(red), table.cluster)
        repeats.append((line, figures))
        say(f"folds {number + 1} of {plan.repeats}: accuracy {figures['accuracy']}, area {figures['auc']}")
    kept = _fitted(table, truth, plan, seed)
    accuracy = [figures["accuracy"] for _, figures in repeats]
    line, figures = repeats[0]
    figures = figures | {
        "repeats": [
            {"seed": seed + k, "accuracy": one["accuracy"], "auc": one["auc"]} for k, (_, one) in enumerate(repeats)
        ],
        "accuracy_mean": round(float(np.mean(accuracy)), 4),
        "accuracy_spread": round(float(np.std(accuracy, ddof=1)), 4) if len(accuracy) > 1 else None,
        "minutes": round((perf_counter() - start) / 60, 2),
    }
    arrays = dict(kept.trees._asdict()) | {
        "ridge": kept.sequence.coefficients,
        "scatter": kept.sequence.scatter,
        LEARNT: np.sort(place_numbers(table)),
    }
    write_model(out, arrays, _card(path, table, plan, seed, kept, line, figures))
    return figures


def _of_environment() -> Path:
    found = Path(os.environ.get("NIGHTSTRIDE_DATA", "")) / SHIPPED_DATA
    if "NIGHTSTRIDE_DATA" not in os.environ or not found.is_file():
        remedy = "give --data TABLE, or name the folder of the real data in NIGHTSTRIDE_DATA."
        raise Misconfigured("no_data", "train membership", "there are no galaxies to learn from.", remedy)
    return found


def _usable(table: ClusterTable) -> ClusterTable:
    return _rows(table, np.isfinite(table.columns["member"]) & np.isfinite(photometric_offset(table.columns)))


def _rows(table: ClusterTable, which: NDArray[Any]) -> ClusterTable:
    columns = {name: values[which] for name, values in table.columns.items()}
    return replace(table, columns=columns, cluster=table.cluster[which])


def _folded(
    table: ClusterTable, truth: NDArray[np.int64], plan: MembershipPlan, seed: int
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.int64]], NDArray[np.float64]]:
    """Return verdicts by models that have not seen a galaxy's cluster: trees, the simplest rules, and redness."""
    from sklearn.model_selection import StratifiedGroupKFold

    raw, red = np.empty(table.rows), np.empty(table.rows)
    offset, sequence = (np.empty(table.rows, np.int64) for _ in range(2))
    folds = StratifiedGroupKFold(plan.folds, shuffle=True, random_state=seed)
    for learnt, held in folds.split(truth, truth, table.cluster):
        fit, columns = _fitted(_rows(table, learnt), truth[learnt], plan, seed), _rows(table, held).columns
        raw[held] = raw_probability(membership_features(columns, fit.sequence), fit.trees)
        red[held] = redness(columns, fit.sequence)
        offset[held] = np.abs(photometric_offset(columns)) < fit.offset_cut
        sequence[held] = np.abs(red[held]) < fit.red_cut
    return raw, {"photometric redshift cut": offset, "red sequence": sequence}, red


def _fitted(table: ClusterTable, truth: NDArray[np.int64], plan: MembershipPlan, seed: int) -> _Fit:
    from sklearn.ensemble import ExtraTreesClassifier

    sequence = fit_red_sequence(table, truth)
    features = membership_features(table.columns, sequence)
    model = ExtraTreesClassifier(plan.trees, min_samples_leaf=plan.least, random_state=seed).fit(features, truth)
    offset_cut = _best_cut(np.abs(photometric_offset(table.columns)), truth)
    return _Fit(_trees(model), sequence, offset_cut, _best_cut(np.abs(redness(table.columns, sequence)), truth))


def fit_red_sequence(table: ClusterTable, truth: NDArray[np.int64]) -> RedSequence:
    """Fit the red sequence of members, leaving out those more than 2.5 scatters away, ten times."""
    columns = table.columns
    colour, terms = columns["g"] - columns["z"], ridge_terms(columns["cluster_z"], columns["r"])
    near = (truth == 1) & np.isfinite(colour) & np.isfinite(terms).all(1)
    if near.sum() <= terms.shape[1]:
        problem = f"has {int(near.sum())} members with magnitudes in g, r and z."
        raise BadInput("too_few", "red sequence", problem, "give more galaxies.")
    for _ in range(10):
        coefficients = np.linalg.lstsq(terms[near], colour[near], rcond=None)[0]
        rest = colour - terms @ coefficients
        scatter = max(1.4826 * float(np.median(np.abs(rest[near]))), 1e-3)
        near &= np.abs(rest) < 2.5 * scatter
    return RedSequence(coefficients, np.array([scatter]))


def _best_cut(distance: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the upper limit for members with the most correct decisions."""
    places = np.unique(distance[np.isfinite(distance)])
    limits = np.append((places[1:] + places[:-1]) / 2, places[-1] + 1)
    right = [int(((distance < limit) == truth).sum()) for limit in limits]
    return round(float(limits[int(np.argmax(right))]), 6)


def _trees(model: Any) -> TreeEnsemble:
    """Copy scikit-learn's trees, whose leaves add up to the probability of class 1."""
    trees = [one.tree_ for one in model.estimators_]
    first = np.cumsum([0, *(tree.node_count for tree in trees)])
    shift = np.repeat(first[:-1], np.diff(first))
    left, right, feature, limit = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("children_left", "children_right", "feature", "threshold")
    )
    leaf = left < 0
    share = np.concatenate([tree.value[:, 0, 1] / tree.value[:, 0].sum(1) for tree in trees])
    return TreeEnsemble(
        first[:-1].astype(np.int32),
        np.where(leaf, -1, feature).astype(np.int16),
        np.where(leaf, 0.0, limit),
        np.where(leaf, 0, left + shift).astype(np.int32),
        np.where(leaf, 0, right + shift).astype(np.int32),
        np.where(leaf, share / len(trees), 0.0),
        np.zeros(1),
    )


def _line(raw: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Return slope and offset of the log odds that calibrate probabilities."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6).fit(logit(raw)[:, None], truth)
    return round(float(model.coef_[0, 0]), 5), round(float(model.intercept_[0]), 5)


def _card(
    path: Path, table: ClusterTable, plan: MembershipPlan, seed: int, kept: _Fit, line: NDArray[np.float64],
    figures: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    shown = (
        "n", "accuracy", "accuracy_interval", "auc", "macro_f1", "confusion", "ece", "regions", "baselines", "repeats",
    )  # fmt: skip
    return {
        "stage": "membership",
        "name": "default",
        "version": datetime.now(UTC).strftime("%Y.%m.%d"),
        "input": {"kind": "table", "features": list(FEATURES)},
        "classes": CLASSES,
        "training": {
            "data": path.name,
            "rows": table.rows,
            "clusters": len(np.unique(table.cluster)),
            "truth": table.truth,
            "split": f"{plan.folds} folds by cluster; the weights have learnt from all rows",
            "seed": seed,
            "trees": plan.trees,
            "least_in_leaf": plan.least,
            "command": f"nightstride train membership --seed {seed}",
            "minutes": figures["minutes"],
        },
        "metrics": {name: figures[name] for name in shown},
        "calibration": {
            "slope": float(line[0]),
            "offset": float(line[1]),
            "photometric_redshift_cut": kept.offset_cut,
            "red_sequence_cut": kept.red_cut,
        },
        "threshold": 0.5,
        "false_alarm_rate": "a probability of 0.5 or more is called a member",
    }
