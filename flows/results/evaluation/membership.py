"""Evaluation of cluster membership on labelled galaxies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.inputs.cluster_table import ClusterTable, read_clusters
from flows.pipeline.weights import building, read_weights
from kernels.objects.membership import REGIONS, colour_region, membership_model, redness
from kernels.statistics.class_scores import binary_scores, per_class
from schemas.errors import BadInput

CLASSES = ("not member", "member")

LEARNT = "learnt"
"""Array beside the weights: `place_numbers` of the galaxies that the model has learnt from, (n,) int64."""

_DRAWS = 2000
_STEP = 1e-4  # degrees
_ROW = 4_000_000  # more than the steps of a declination


def evaluate_membership(path: Path, model: str = "default", *, unseen: bool = False) -> dict[str, Any]:
    """Score a model, and two simple rules, on a table of galaxies.

    Parameters
    ----------
    path
        See `flows.inputs.cluster_table.read_clusters`.
    model
        Shipped name, or folder.
    unseen
        Whether to leave out galaxies that the model has learnt from, recognised by their position to 0.5 arcsec.

    Returns
    -------
    dict
        As in `membership_figures`, with ``truth`` (source of the class), ``unjudged`` (rows with a class but no
        photometric redshift), ``unlabelled`` (rows without a class), ``assumed_errors`` (judged rows whose photometric
        redshift has no error, for which a typical one was assumed), ``star_redshifts`` (rows left out), ``not_given``
        (values beyond the limits of their column), ``trained_on`` (rows that the model has learnt from, whose figures
        are not a test), and, if the table has another classification, the same for it under ``published``.

    Raises
    ------
    BadInput
        The table cannot be used, or no row has a class.
    Misconfigured
        The table or model does not exist.
    """
    card, arrays = read_weights("membership", model)
    with building("membership", model):
        judge = membership_model(card, arrays)
    table = read_clusters(path)
    seen = _learnt_from(table, arrays[LEARNT])
    probability = judge(table.columns)
    said = {
        "photometric redshift cut": judge.by_photometric_redshift(table.columns),
        "red sequence": judge.by_red_sequence(table.columns),
    }
    region = colour_region(redness(table.columns, judge.sequence))
    chosen = ~seen if unseen else np.ones(table.rows, bool)
    known = chosen & np.isfinite(table.columns["member"])
    judged = known & np.isfinite(probability)
    if not judged.any():
        problem = "has no row with a class or a redshift, and a photometric redshift, that may be used."
        raise BadInput("no_labels", str(path), problem, "give the column member or redshift.")

    def scored(truth: NDArray[np.floating], rows: NDArray[np.bool_]) -> dict[str, Any]:
        one = truth[rows].astype(np.int64)
        rivals = {name: values[rows] for name, values in said.items()}
        return membership_figures(probability[rows], one, rivals, region[rows], table.cluster[rows])

    figures = scored(table.columns["member"], judged)
    other = chosen & np.isfinite(table.columns["published"]) & np.isfinite(probability)
    return {
        **figures,
        "model": f"membership/{judge.version}",
        "truth": table.truth,
        "unjudged": int((known & ~judged).sum()),
        "unlabelled": int((chosen & ~known).sum()),
        "assumed_errors": int((judged & ~np.isfinite(table.columns["zphot_err"])).sum()),
        "star_redshifts": table.star_redshifts,
        "not_given": dict(table.not_given),
        "trained_on": int(seen.sum()),
        "published": scored(table.columns["published"], other) if other.any() else None,
    }


def place_numbers(table: ClusterTable) -> NDArray[np.int64]:
    """Return a number for each position, in steps of 0.36 arcsec, (n,); -1 if none is given."""
    ra, dec = table.columns["ra"], table.columns["dec"]
    known = np.isfinite(ra) & np.isfinite(dec)
    x, y = (np.rint(np.where(known, one, 0) / _STEP).astype(np.int64) for one in (np.mod(ra, 360.0), dec))
    return np.where(known, x * _ROW + y + 1_000_000, -1)


def _learnt_from(table: ClusterTable, learnt: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which galaxies lie where a model has learnt from one, or a step beside: others measure places anew."""
    number = place_numbers(table)
    beside = number[:, None] + [x * _ROW + y for x in (-1, 0, 1) for y in (-1, 0, 1)]
    return (number >= 0) & np.isin(beside, learnt[learnt >= 0]).any(1)


def membership_figures(
    probability: NDArray[np.floating],
    truth: NDArray[np.int64],
    rivals: Mapping[str, NDArray[np.int64]],
    region: NDArray[np.int64],
    cluster: NDArray[np.str_],
) -> dict[str, Any]:
    """Compare probabilities of membership with the truth, and with the verdicts of simple rules.

    Parameters
    ----------
    probability, truth : (n,)
        Probability of membership; 1 for members, else 0.
    rivals
        Name of a rule -> its verdicts, (n,), 0 or 1.
    region : (n,)
        Index in `kernels.objects.membership.REGIONS`; -1: not known.
    cluster : (n,)
        Cluster of each galaxy.

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``accuracy_interval``, ``auc``, ``macro_f1``, ``confusion`` ``[truth][said]`` in the order
        of ``classes``, ``ece``, ``per_class``; the same by colour under ``regions``, and for the rules under
        ``baselines``, where ``gain`` is the model's accuracy minus the rule's, and ``gain_interval`` its 95 % interval
        over resampled clusters, null for a single cluster; ``outside_red_sequence`` is the same for galaxies not on the
        red sequence.
    """
    figures = _scores(probability, truth)
    outside = region > 0
    baselines = {}
    for name, values in rivals.items():
        baselines[name] = _scores(values.astype(np.float64), truth) | _gain(probability, values, truth, cluster)
        if outside.any():
            part = _gain(probability[outside], values[outside], truth[outside], cluster[outside])
            baselines[name]["outside_red_sequence"] = part
    regions = {
        name: _scores(probability[region == k], truth[region == k])
        for k, name in enumerate(REGIONS)
        if (region == k).any()
    }
    return {**figures, "classes": list(CLASSES), "regions": regions, "baselines": baselines}


def _scores(probability: NDArray[np.floating], truth: NDArray[np.int64]) -> dict[str, Any]:
    figures = binary_scores(probability, truth)
    return figures | {"per_class": per_class(figures["confusion"], CLASSES)}


def _gain(
    probability: NDArray[np.floating], rule: NDArray[np.int64], truth: NDArray[np.int64], cluster: NDArray[np.str_]
) -> dict[str, Any]:
    """Return the gain in accuracy, and its interval over clusters drawn with replacement (Efron 1979)."""
    better = ((probability >= 0.5) == truth).astype(float) - (rule == truth)
    _, code = np.unique(cluster, return_inverse=True)
    total, rows = (np.bincount(code, weights) for weights in (better, None))
    gain = round(float(better.mean()), 5)
    if len(rows) < 2:  # one cluster does not tell how clusters differ
        return {"gain": gain, "gain_interval": None}
    drawn = np.random.default_rng(1).integers(0, len(rows), (_DRAWS, len(rows)))
    low, high = np.quantile(total[drawn].sum(1) / rows[drawn].sum(1), [0.025, 0.975])
    return {"gain": gain, "gain_interval": [round(float(low), 5), round(float(high), 5)]}
