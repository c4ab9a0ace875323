"""Training and comparison of the classifiers of catalogue rows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.pipeline.weights import write_model
from flows.simulation.star_colours import star_table
from flows.storage.digest import file_digest
from flows.storage.folder import writable_folder
from flows.training.class_fit import ClassFit, fit_class_model, require_values
from flows.training.spectral_compare import MODELS, REBALANCING, Compared, compare, table
from flows.training.spectral_sample import (
    FOLDS,
    Sample,
    archive_sample,
    filtered,
    held_out_rows,
    large_classes,
    require_plates,
    with_stars,
)
from flows.training.tables import galaxy_sample, is_galaxy_table, is_star_table, star_sample, temperature_and_colour
from kernels.objects.class_model import ClassModel, class_model
from kernels.statistics.class_scores import calibration_error, probability_scores
from schemas.archive_columns import BANDS, FEATURE_SETS
from schemas.classes import STELLAR_CLASSES
from schemas.errors import BadInput, Misconfigured, choice
from schemas.model_card import ModelCard

Say = Callable[[str], None]

TASKS = ("superclass", "star", "galaxy", "kind")
"""Classification tasks; ``kind`` only for tables of stars or of galaxies."""

SIMULATED_STARS = 40_000
_HELD_OUT = 0.2
_MODEL_OF = {"superclass": "superclass", "star": "star_subclass"}
_DRAWS = 1000


@dataclass(frozen=True)
class SpectralPlan:
    """Models to compare, and the rows to compare them on.

    Attributes
    ----------
    task
        ``superclass``, ``star``, ``galaxy``, or ``kind`` for the tables of stars and galaxies.
    features
        Name of a feature set (`schemas.archive_columns`).
    rebalance
        ``none``, ``smote`` or ``rarest``.
    least_class
        Classes with fewer rows are left out.
    brighter, larger
        Filters: upper limit of r (mag) and lower limit of the Petrosian radius (arcsec); None: no filter.
    models
        Models of the comparison; empty: no comparison.
    stars
        Number of simulated stars added to the rows for superclasses.
    name
        Name of the model for the pipeline; None: none is made.
    seed
        Random seed.
    """

    task: str = "superclass"
    features: str = "photometry-redshift"
    rebalance: str = "none"
    least_class: int = 20
    brighter: float | None = None
    larger: float | None = None
    models: tuple[str, ...] = tuple(MODELS)
    stars: int = 0
    name: str | None = None
    seed: int = 1


def train_spectral(path: Path | None, out: Path, plan: SpectralPlan, say: Say) -> dict[str, Any]:
    """Read rows, compare the classifiers, draw, and make a model if the plan names one.

    Parameters
    ----------
    path
        Table of the archive, of stars or of galaxies; None: simulated stars (task ``star`` only).
    out
        Folder for ``comparison.md``, ``comparison.json``, ``comparison.png`` and the model's files.
    plan
        Plan.
    say
        Receives progress messages.

    Raises
    ------
    BadInput
        The rows cannot be used.
    Misconfigured
        The task, feature set, classifier or table is unknown, or the pipeline has no such model.
    """
    require_names(plan)
    sample, features = _sample(path, plan)
    sample = filtered(sample, plan.brighter, plan.larger)
    sample = large_classes(sample, plan.least_class, path.name if path else "simulated stars")
    if plan.stars:
        sample = with_stars(sample, plan.stars, plan.seed)
    require_plates(sample, FOLDS + (plan.name is not None))  # the model is tested on plates outside its folds
    count = np.bincount(sample.code, minlength=len(sample.classes))
    rows = dict(zip(sample.classes, count.tolist(), strict=True))
    if plan.name is not None:
        _require_model(sample, plan)
        require_values(sample, features)
    writable_folder(out)
    say(f"{len(sample.code)} rows, features {list(features)}, rows per class {rows}")
    about = {"plan": asdict(plan), "rows_per_class": rows, "notes": dict(sample.notes)}
    figures: dict[str, Any] = about | {"classes": list(sample.classes)}
    if plan.models:
        figures |= _compare(sample, features, plan, out, say)
    if path is not None and not is_galaxy_table(path) and is_star_table(path):
        figures["temperature_to_colour"] = regress_colour(path, out)
    if plan.name is not None:
        figures["model"] = _ship(sample, features, plan, out, path)
    (out / "comparison.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def require_names(plan: SpectralPlan) -> None:
    """Raise unless all names in a plan are known.

    Raises
    ------
    Misconfigured
        The task (``no_task``), feature set (``no_features``), rebalancing (``no_rebalancing``) or classifier
        (``no_model``) is unknown.
    """
    for code, option, given, known in (
        ("no_task", "--task", plan.task, TASKS),
        ("no_features", "--features", plan.features, tuple(FEATURE_SETS)),
        ("no_rebalancing", "--rebalance", plan.rebalance, REBALANCING),
        *(("no_model", "--models", one, tuple(MODELS)) for one in plan.models),
    ):
        if given not in known:
            raise Misconfigured(code, option, f"{given!r} is not known.", choice(given, known))


def _sample(path: Path | None, plan: SpectralPlan) -> tuple[Sample, tuple[str, ...]]:
    features = FEATURE_SETS[plan.features]
    if path is None:
        if plan.task != "star" or not set("".join(features)) <= set("ugriz-"):
            remedy = "name a table, or use --task star --features photometry."
            raise Misconfigured("no_table", "TABLE", "only stars in ugriz are simulated.", remedy)
        return simulated_stars(SIMULATED_STARS, plan.seed), features
    if is_galaxy_table(path):
        return galaxy_sample(path, plan.task)
    if path.exists() and path.suffix != ".fits" and is_star_table(path):
        return star_sample(path, plan.task)
    if plan.task not in ("superclass", "star", "galaxy"):
        raise BadInput("wrong_task", str(path), f"has no labels for {plan.task!r}.", "choose another --task.")
    return archive_sample(path, plan.task, features), features


def simulated_stars(count: int, seed: int) -> Sample:
    """Return stars of the ten classes from `flows.simulation.star_colours`."""
    columns, code = star_table(count, seed)
    notes = {"table": "simulated", "rows": count, "recipe": "flows/simulation/star_colours.py", "split_by": "row"}
    return Sample(columns, code, STELLAR_CLASSES, np.arange(count), notes)


def _compare(sample: Sample, features: tuple[str, ...], plan: SpectralPlan, out: Path, say: Say) -> dict[str, Any]:
    from flows.training.spectral_pictures import draw_comparison, importances

    found: list[Compared] = compare(sample, features, plan.rebalance, plan.seed, say, plan.models)
    mean, spread = importances(sample, features, plan.rebalance, plan.seed)
    shares = draw_comparison(sample, features, found, (mean, spread), out / "comparison.png", plan.seed)
    (out / "comparison.md").write_text(table(found))
    return {
        "comparison": [one.figures() for one in found],
        "pca_variance": [round(float(share), 4) for share in shares],
        "importance": {name: round(float(value), 4) for name, value in zip(features, mean, strict=True)},
    }


def regress_colour(path: Path, out: Path) -> dict[str, Any]:
    """Fit colour = a x + b, where x is the temperature or 5040 K over it, by least squares; draw ``temperature.png``.

    The interval of R squared is from 1,000 bootstrap draws. If either does not vary, there is no line and no picture.
    """
    from flows.training.spectral_pictures import draw_regression

    temperature, colour, what = temperature_and_colour(path)
    figures: dict[str, Any] = {"stars": len(colour), "colour": what}
    if min(len(np.unique(temperature)), len(np.unique(colour))) < 2:
        return figures
    for name, x in (("temperature", temperature), ("5040/temperature", 5040 / temperature)):
        figures[name] = _r_squared(x, colour)
    line = np.polyfit(5040 / temperature, colour, 1)
    low, high = figures["5040/temperature"]["interval"]
    title = f"R² {figures['5040/temperature']['r2']:.3f} ({low:.3f}-{high:.3f})"
    draw_regression(temperature, colour, line, (what, title), out / "temperature.png")
    return figures | {"slope": round(float(line[0]), 4), "offset": round(float(line[1]), 4)}


def _r_squared(x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        rows = rng.integers(0, len(x), len(x))
        drawn.append(np.corrcoef(x[rows], y[rows])[0, 1] ** 2)
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = float(np.corrcoef(x, y)[0, 1] ** 2)
    return {"r2": round(value, 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def _require_model(sample: Sample, plan: SpectralPlan) -> None:
    if plan.task not in _MODEL_OF or not set(BANDS) <= sample.columns.keys() or len(sample.classes) < 3:
        problem = f"the pipeline has no model of {plan.task!r} of {len(sample.classes)} classes from this table."
        raise Misconfigured("no_model", "--name", problem, "leave --name out.")


def _ship(
    sample: Sample, features: tuple[str, ...], plan: SpectralPlan, out: Path, path: Path | None
) -> dict[str, Any]:
    """Fit the pipeline's model to four fifths of the rows, score it on the rest, and write weights and card."""
    held = held_out_rows(sample, _HELD_OUT, plan.seed)
    fit, test = sample.take(~held), sample.take(held)
    settings = ClassFit()
    arrays = fit_class_model(fit, features, settings, plan.seed)
    card = _card(sample, fit, features, plan, settings, path)
    assert plan.name is not None
    blank = ModelCard.model_validate(card | {"sha256": "", "metrics": {}})
    card["metrics"] = _measured(class_model(blank, arrays), test)
    return {"card": write_model(out, arrays, card, plan.name).model_dump(mode="json")["metrics"]}


def _measured(model: ClassModel, test: Sample) -> Mapping[str, Any]:
    """Score a model, and for comparison the simplest classifier, on rows not used in training."""
    verdict = model(test.columns)
    judged = np.isfinite(verdict.probability[:, 0])
    code, probability = test.code[judged].astype(np.int64), verdict.probability[judged]
    rival = model.by_nearest_colour(test.columns)[judged]
    return {
        "held_out": probability_scores(code, probability),
        "held_out_nearest_colour": probability_scores(code, rival),
        "calibration_error": round(calibration_error(code, probability), 4),
        "unknown_share": round(float((verdict.outlier[judged] > 1).mean()), 4),
    }


def _card(
    sample: Sample,
    fit: Sample,
    features: tuple[str, ...],
    plan: SpectralPlan,
    settings: ClassFit,
    path: Path | None,
) -> dict[str, Any]:
    digest = file_digest(path) if path else "made by the command"
    options = f"--task {plan.task} --features {plan.features} --name {plan.name} --seed {plan.seed}"
    options += f" --stars {plan.stars}" if plan.stars else ""
    data = path.name if path else "simulated stars: flows/simulation/star_colours.py"
    count = np.bincount(fit.code, minlength=len(fit.classes)).tolist()
    return {
        "stage": _MODEL_OF[plan.task],
        "name": plan.name,
        "version": "1",
        "input": {"features": list(features), "unit": "AB mag", "least_bands": 2, "dtype": "float32"},
        "classes": sample.classes,
        "training": {
            "data": f"{data}, and {plan.stars} simulated stars" if plan.stars else data,
            "data_sha256": digest,
            "data_licence": "SDSS: public" if path else "BSD-3-Clause",
            "rows_per_class": dict(zip(fit.classes, count, strict=True)),
            "split": f"a fifth held out, by {sample.notes['split_by']}; the probabilities are of these class shares",
            "fit": asdict(settings),
            "seed": plan.seed,
            "command": f"nightstride train spectral-class {path.name + ' ' if path else ''}{options}",
        },
        "calibration": {"method": "slope and offsets per number of bands, on five folds", "outlier_limit": 1.0},
        "threshold": 1.0,
        "false_alarm_rate": f"{1 - settings.familiar:.1%} of unseen rows of the training table are called unknown",
    }
