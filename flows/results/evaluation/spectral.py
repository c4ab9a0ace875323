"""Evaluation of the shipped models of spectral classes on an archive's table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from flows.inputs.archive_table import ArchiveTable, read_archive
from flows.pipeline.models import load_model
from flows.storage.digest import file_digest
from kernels.objects.class_model import ClassModel
from kernels.objects.colour_terms import SdssMagnitudes, to_sdss
from kernels.statistics.class_scores import calibration_error, per_class, probability_scores
from kernels.statistics.completeness import binomial_interval
from schemas.archive_columns import BANDS
from schemas.classes import SUPERCLASSES, map_labels, superclass
from schemas.errors import BadInput
from schemas.photometric_systems import RELATIONS, SystemName

_GALAXY_FROM = 0.0033
"""Redshift for 1,000 km/s: no star of the Galaxy is that fast."""

_FAINT = 0.9
"""Fraction of the training rows that are brighter in r than what counts as faint."""

_QUASAR_FROM = 0.4
"""Redshift above which the baseline of cuts calls everything a quasar."""


def evaluate_spectral(
    path: Path, models: Mapping[str, str] | None = None, system: SystemName = "sdss"
) -> dict[str, Any]:
    """Score the models of the superclass on a labelled table.

    Parameters
    ----------
    path
        SkyServer columns u, g, r, i, z, class, and optionally redshift; for another system, class, the bands with a
        relation to SDSS, at least g and r, and optionally the errors of their magnitudes.
    models
        Shipped names or folders, by their inputs: ``redshift`` and ``photometry``.
    system
        Photometric system of the magnitudes.

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``accuracy_interval``, ``auc`` (mean of each class against the rest), ``macro_f1``,
        ``per_class`` (precision, recall, f1, n), ``confusion`` (true class, given class; in the order of ``classes``)
        and others for the model with redshift, or the other one if there is no redshift; the same for each under
        ``models``, and for its simplest rivals under its ``baselines``. ``purity`` is the fraction of each given class
        that is right, among rows that are not unknown; ``untransformed`` counts the rows without SDSS magnitudes, by
        reason; ``faint_without_u`` those without u that are fainter in r than nine tenths of what the model without
        redshift has learnt from, if it sees r. ``trained_on`` names the models made from four fifths of this very file:
        their figures are not a test.

    Raises
    ------
    BadInput
        The table cannot be used, or no row has one of the three classes.
    """
    names = {"redshift": "redshift", "photometry": "photometry"} | dict(models or {})
    table = _table(path, system)
    mapped = map_labels(table.words["class"], superclass, SUPERCLASSES)
    known = mapped.code >= 0
    if not known.any():
        problem = f"no row has a class of {list(SUPERCLASSES)}; labels are {list(mapped.unknown)[:5]}."
        raise BadInput("no_labels", str(path), problem, "give the column `class` of the archive.")
    columns, reason = _of_sdss({name: values[known] for name, values in table.numbers.items()}, system)
    code = mapped.code[known].astype(np.int64)
    loaded: dict[str, ClassModel] = {what: load_model("superclass", name) for what, name in names.items()}
    found = {}
    if "redshift" in columns and np.isfinite(columns["redshift"]).any():
        found["redshift"] = _figures(loaded["redshift"], columns, code, redshift=True)
    found["photometry"] = _figures(loaded["photometry"], columns, code, redshift=False)
    first = next(iter(found.values()))
    digest = file_digest(path)
    return {
        **first,
        "classes": list(SUPERCLASSES),
        "rows": table.rows,
        "duplicates": table.duplicates,
        "system": system,
        "untransformed": {str(one): int((reason == one).sum()) for one in np.unique(reason[reason != ""])},
        "faint_without_u": _faint_without_u(loaded["photometry"], columns),
        "labels_without_class": dict(list(mapped.unknown.items())[:20]),
        "trained_on": sorted(w for w, one in loaded.items() if one.card.training["data_sha256"] == digest),
        "models": found,
    }


def _table(path: Path, system: SystemName) -> ArchiveTable:
    if system == "sdss":
        return read_archive(path, (*BANDS, "class"), ("redshift", "objid"))
    bands = [band for band in BANDS if band in RELATIONS[system]]
    optional = [*bands[2:], *(f"err_{band}" for band in bands), "redshift", "objid"]
    return read_archive(path, (*bands[:2], "class"), optional)


def _of_sdss(
    columns: Mapping[str, NDArray[np.float32]], system: SystemName
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.object_]]:
    """Return the columns with SDSS magnitudes, and why a row has none; missing errors count as 0."""
    magnitudes = {band: columns[band] for band in BANDS if band in columns}
    none = np.zeros_like(columns["g"])
    errors = {band: np.nan_to_num(columns.get(f"err_{band}", none)) for band in magnitudes}
    found: SdssMagnitudes = to_sdss(magnitudes, errors, system)
    return {**columns, **found.magnitudes}, found.reason


def _faint_without_u(model: ClassModel, columns: Mapping[str, NDArray[np.float32]]) -> int:
    """Count rows that a model may take for quasars because they are faint, as SDSS's other targets are not."""
    if "r" not in model.features:
        return 0
    limit = np.nanquantile(model.reference[:, model.features.index("r")], _FAINT)
    faint = columns["r"] > limit
    return int((faint & ~np.isfinite(columns["u"])).sum() if "u" in columns else faint.sum())


def _figures(
    model: ClassModel, columns: Mapping[str, NDArray[np.float32]], code: NDArray[np.int64], *, redshift: bool
) -> dict[str, Any]:
    """Score a model and its rivals on the rows that it can classify."""
    probability, outlier = model(columns)
    judged = np.isfinite(probability[:, 0])
    if redshift:
        judged &= np.isfinite(columns["redshift"])
    true, inside = code[judged], outlier[judged] <= 1
    rivals = {"nearest_colour": model.by_nearest_colour(columns), "majority": _majority(model, len(code))}
    if redshift:
        rivals["redshift_cuts"] = redshift_cuts(columns["redshift"])
    best = probability[judged].argmax(1)
    return {
        **_scored(true, probability[judged]),
        "model": f"superclass/{model.version}",
        "unjudged": int((~judged).sum()),
        "unknown": int((~inside).sum()),
        "purity": {name: _purity(true[inside] == k, best[inside] == k) for k, name in enumerate(SUPERCLASSES)},
        "accuracy_within_training": round(float((best == true)[inside].mean()), 4) if inside.any() else None,
        "calibration_error": round(calibration_error(true, probability[judged]), 4) if len(true) else None,
        "baselines": {name: _scored(true, values[judged]) for name, values in rivals.items()},
    }


def _purity(is_it: NDArray[np.bool_], said: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how often a class was given, how often rightly, and the interval of the fraction."""
    given, right = int(said.sum()), int((is_it & said).sum())
    interval = [round(edge, 4) for edge in binomial_interval(right, given)] if given else None
    return {"given": given, "right": right, "share": round(right / given, 4) if given else None, "interval": interval}


def _scored(true: NDArray[np.int64], probability: NDArray[np.floating]) -> dict[str, Any]:
    if not len(true):
        return {"n": 0}
    scores = probability_scores(true, probability)
    return scores | {"per_class": per_class(scores["confusion"], SUPERCLASSES)}


def redshift_cuts(redshift: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return star below 1,000 km/s, galaxy up to redshift 0.4, quasar beyond, as (n, 3) scores of 0 and 1."""
    with np.errstate(invalid="ignore"):
        place = np.where(redshift < _GALAXY_FROM, 0, np.where(redshift < _QUASAR_FROM, 1, 2))
    return np.eye(3)[place]


def _majority(model: ClassModel, rows: int) -> NDArray[np.float64]:
    count = np.array([model.card.training["rows_per_class"][name] for name in SUPERCLASSES], float)
    return np.tile(count / count.sum(), (rows, 1))


def spectral_table(figures: Mapping[str, Any]) -> Table:
    """Return a row per model and per rival of `flows.results.evaluation.spectral.evaluate_spectral`."""
    table = Table(title=f"{figures['n']} rows: {', '.join(figures['classes'])}")
    for name in ("model", "n", "accuracy", "95 %", "macro F1", "AUC"):
        table.add_column(name)
    told = []
    for what, one in figures["models"].items():
        shares = [f"{name} {value['share']:.3f}" for name, value in one["purity"].items() if value["given"]]
        if shares:
            told.append(f"right of those called, {what}: {', '.join(shares)}")
        _row(table, what, one)
        for rival, scores in one["baselines"].items():
            _row(table, f"  {rival}", scores)
    table.caption = "\n".join([*told, *_left_out(figures)])
    return table


def _left_out(figures: Mapping[str, Any]) -> list[str]:
    """Return lines that say which rows have no verdict, and why."""
    silent = {what: one["unjudged"] for what, one in figures["models"].items() if one["unjudged"]}
    strange = {what: one["unknown"] for what, one in figures["models"].items() if one["unknown"]}
    lines = {
        "duplicates": {"": figures["duplicates"]} if figures["duplicates"] else {},
        "without a class": figures["labels_without_class"],
        "not judged": silent,
        "not converted to SDSS": figures["untransformed"],
        "unlike the training data, but scored": strange,
    }
    return [
        f"{name}: {', '.join(f'{what} {count}'.strip() for what, count in counts.items())}"
        for name, counts in lines.items()
        if counts
    ]


def _row(table: Table, name: str, scores: Mapping[str, Any]) -> None:
    if not scores["n"]:
        table.add_row(name, "0")
        return
    low, high = scores["accuracy_interval"]
    area = "" if scores["auc"] is None else f"{scores['auc']:.4f}"
    table.add_row(
        name, str(scores["n"]), f"{scores['accuracy']:.4f}", f"{low:.4f}-{high:.4f}", f"{scores['macro_f1']:.4f}", area
    )
