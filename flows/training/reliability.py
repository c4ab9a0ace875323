"""Training of the reliability of a detector's candidates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.preprocessing import StandardScaler

from flows.pipeline.models import load_model
from flows.pipeline.weights import read_card, require_same_detector, write_model
from flows.runtime.parallel import map_in_processes
from flows.training.candidates import (
    Labelled,
    candidate_threshold,
    publishable,
    require_candidates,
    unless_flooded,
    without_science,
)
from flows.training.examples import Example
from flows.training.fits import TreeFit, calibrate, fit_trees
from flows.training.labels import NightLabels, labelled_candidates, repeated
from flows.training.reliability_fit import (
    Rank,
    ReliabilityFit,
    ScoredCandidates,
    features_and_labels,
    fit_reliability,
    report_reliability,
    rivals,
    summed_logit,
)
from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE
from kernels.measure.reliability_net import (
    FURTHEST,
    SHARES,
    TREES,
    KindShares,
    ReliabilityNet,
    kind_shares,
    reliability_of,
)
from kernels.statistics.completeness import binomial_interval
from schemas.dia_source import FEATURES, KINDS
from schemas.model_card import ModelCard
from schemas.settings import NOISE_ALONE

Say = Callable[[str], None]
TOLD = 10
"""Number of exposures between two progress reports of the search for candidates."""


LABEL_SHARE = 0.2
"""Fraction of people's labels in the training data of a reliability model; labels are repeated to reach it."""


@dataclass(frozen=True)
class ReliabilityPlan:
    """Settings for training the reliability model.

    Attributes
    ----------
    fit, trees
        Fits of the networks and of the trees.
    hidden
        Fraction of training candidates without the science image, since not every night has one.
    false_per_image
        False detections per image at the threshold, which is the higher one of drawn and subtracted validation
        exposures; with and without science images it is set separately.
    min_snr
        Least S/N of candidates for calibration and report: fainter ones are not published.
    enough
        Number of training candidates after which no more exposures are searched; the card states the number of
        exposures used.
    """

    fit: ReliabilityFit = field(default_factory=ReliabilityFit)
    trees: TreeFit = field(default_factory=lambda: TreeFit(trees=500, rate=0.05))
    hidden: float = 0.4
    false_per_image: float = 0.3
    min_snr: float = NOISE_ALONE
    enough: int = 60_000


@dataclass(frozen=True)
class Sets:
    """Exposures to learn from, to set calibration and thresholds, and to report on, by sky; and people's labels."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Mapping[str, Sequence[Example]]
    labels: NightLabels | None = None


def train_reliability(
    out: Path,
    detector: str,
    sets: Sets,
    plan: ReliabilityPlan,
    about: dict[str, Any],
    seed: int,
    workers: int,
    say: Say,
) -> dict[str, Any]:
    """Train the reliability model on a detector's candidates, and write ``reliability.*`` and a picture to a folder.

    Parameters
    ----------
    out
        Folder for weights, card and picture.
    detector
        Shipped name or folder.
    sets
        Exposures that the detector has not learnt from.
    plan, about, seed, workers, say
        As in `flows.training.cells.train_cells`.

    Returns
    -------
    dict
        The figures on the test exposures, as in the card.

    Raises
    ------
    Misconfigured
        The detector finds nothing to learn from, to calibrate with or to report on (``no_candidates``).
    """
    find = partial(_find, detector=detector, workers=workers, say=say)
    pairs = find(sets.train, enough=plan.enough)
    found = [one for pair in pairs for one in pair]
    learn = [without_science(one, plan.hidden, seed + n) for n, one in enumerate(found)]
    if sets.labels is not None:
        said = labelled_candidates(sets.labels, detector, workers, say)
        learn += repeated(said, sum(int(one.known.sum()) for one in learn), LABEL_SHARE)
    require_candidates(learn, detector, "to learn from", false=True)
    torch.set_num_threads(workers)
    learnt = about | {"candidates_of": f"the first {len(pairs)} of {len(sets.train)} exposures"}
    judges = learn_reliability(detector, learn, plan, learnt, seed, say)
    return _calibrated(out, judges, sets, plan, find, rivals(learn, seed))


def learn_reliability(
    detector: str, learn: Sequence[Labelled], plan: ReliabilityPlan, about: dict[str, Any], seed: int, say: Say
) -> ReliabilityNet:
    """Return a fitted, uncalibrated reliability model; arguments as in `train_reliability`."""
    nets = fit_reliability(learn, plan.fit, seed, say)
    trees = fit_trees(*features_and_labels(learn), plan.trees, seed)
    return ReliabilityNet(nets, trees, 1.0, 0.0, _card(detector, about, plan), fit_kinds(learn))


def calibrate_reliability(
    out: Path, detector: str, sets: Sets, plan: ReliabilityPlan, about: dict[str, Any], workers: int, say: Say
) -> dict[str, Any]:
    """Repeat calibration and thresholds of a reliability model: like `train_reliability`, without learning.

    Weights are kept. ``about`` is added to the card's description of the training, as ``calibrated``.

    Raises
    ------
    Misconfigured
        The reliability model is of another detector, or the detector finds no candidates.
    """
    require_reliability(detector)
    before: ReliabilityNet = load_model("reliability", detector)
    find = partial(_find, detector=detector, workers=workers, say=say)
    card = before.card.model_copy(update={"training": before.card.training | {"calibrated": about}})
    return _calibrated(out, replace(before, card=card), sets, plan, find, {})


def require_reliability(detector: str) -> None:
    """Raise, reading only cards, unless a detector has its own reliability model.

    Raises
    ------
    Misconfigured
        There is no such detector, or it has no reliability model or that of another detector.
    """
    read_card("detect", detector)
    require_same_detector(detector)


def _calibrated(
    out: Path,
    judges: ReliabilityNet,
    sets: Sets,
    plan: ReliabilityPlan,
    find: Callable[..., list[list[Labelled]]],
    others: Mapping[str, Rank],
) -> dict[str, Any]:
    """Calibrate on candidates, report on the test exposures, and write weights, card and picture."""
    out.mkdir(parents=True, exist_ok=True)
    pairs = find(sets.validation, wrong_psf=False)
    validation = [example for example, pair in zip(sets.validation, pairs, strict=True) if pair]
    known = [publishable(one, plan.min_snr) for pair in pairs for one in pair]
    require_candidates(known, judges.card.name, "to calibrate by")
    chosen = known + [without_science(one) for one in known]
    odds = [_odds(judges, one) for one in chosen]
    asked = np.concatenate([one.known for one in chosen])
    slope, offset = calibrate(np.concatenate(odds)[asked], np.concatenate([one.label > 0 for one in chosen])[asked])
    scores: list[NDArray[np.floating]] = [reliability_of(one, slope, offset) for one in odds]
    threshold, blind = (
        _threshold(validation, known, part, plan.false_per_image)
        for part in (scores[: len(known)], scores[len(known) :])
    )
    kinds = None if judges.kinds is None else with_prior(judges.kinds, known, judges.columns)
    ranked = replace(judges, slope=slope, offset=offset, kinds=kinds)
    scored: list[ScoredCandidates] = []
    variants: dict[str, tuple[list[ScoredCandidates], float]] = {
        "psf_misjudged": ([], threshold),
        "without_science": ([], blind),
    }
    for sky, examples in sets.test.items():
        judged = [[publishable(one, plan.min_snr) for one in pair] for pair in find(examples) if pair]
        if not judged:
            continue
        own, wrong = zip(*judged, strict=True)
        scored.append(_scored(sky, own, ranked, {"summed logit": summed_logit} | dict(others)))
        variants["psf_misjudged"][0].append(_scored(sky, wrong, ranked, {}))
        variants["without_science"][0].append(_scored(sky, list(map(without_science, own)), ranked, {}))
    require_candidates([one for part in scored for one in part.examples], judges.card.name, "to report on")
    figures = report_reliability(out, scored, variants, threshold)
    if kinds is not None:
        figures["kinds"] = kind_figures([one for part in scored for one in part.examples], kinds, known, judges.columns)
    calibration: dict[str, Any] = {
        "kind": "logistic in the mean log odds of the ensemble, fitted on the validation exposures",
        "slope": slope,
        "offset": offset,
        "threshold_without_science": blind,
        "expected_calibration_error": figures["calibration_error"],
    }
    if kinds is not None:
        calibration["kind_shift"] = kinds.shift.tolist()
    card = judges.card.model_copy(
        update={
            "metrics": figures,
            "calibration": calibration,
            "threshold": threshold,
            "false_alarm_rate": f"{plan.false_per_image} false detections per image on the validation exposures",
        }
    )
    write_model(out, _arrays(ranked), card.model_dump(exclude={"sha256"}))
    return figures


def _threshold(
    examples: Sequence[Example], found: Sequence[Labelled], scores: Sequence[NDArray[np.floating]], false: float
) -> float:
    """Return the higher of the thresholds for drawn and for subtracted exposures."""
    levels = [0.0]
    for subtracted in (False, True):
        of = [n for n, example in enumerate(examples) if ("-" in example.sky) == subtracted]
        if of:
            levels.append(candidate_threshold([found[n] for n in of], [scores[n] for n in of], false))
    return max(levels)


def _find(
    examples: Sequence[Example],
    detector: str,
    workers: int,
    say: Say,
    wrong_psf: bool = True,
    enough: int | None = None,
) -> list[list[Labelled]]:
    """Return the result of `unless_flooded` for each exposure, until there are enough candidates."""
    search = partial(unless_flooded, detector=detector, wrong_psf=wrong_psf)
    found, count = [], 0
    for one in map_in_processes(search, examples, workers):
        found.append(one)
        count += sum(len(part.label) for part in one)
        full = enough is not None and count >= enough
        if len(found) % TOLD == 0 or len(found) == len(examples) or full:
            say(f"{count} candidates of {len(found)} of {len(examples)} exposures")
        if full:
            break
    if left_out := found.count([]):
        say(f"{left_out} left out: too many candidates, a night would quarantine them")
    return found


def _odds(net: ReliabilityNet, one: Labelled) -> NDArray[np.float64]:
    return net.log_odds(one.features, one.stamps.astype(np.float32))


def _scored(
    sky: str, examples: Sequence[Labelled], net: ReliabilityNet, others: Mapping[str, Rank]
) -> ScoredCandidates:
    scores = {"verdict": [net(one.features, one.stamps.astype(np.float32)) for one in examples]}
    return ScoredCandidates(
        sky, list(examples), scores | {name: [rank(one) for one in examples] for name, rank in others.items()}
    )


def _arrays(judges: ReliabilityNet) -> dict[str, NDArray[Any]]:
    members = {
        f"{n}.{name}": value.detach().numpy()
        for n, net in enumerate(judges.nets)
        for name, value in net.state_dict().items()
    }
    trees = {f"{TREES}{name}": value for name, value in judges.trees._asdict().items()}
    kinds = {} if judges.kinds is None else judges.kinds._asdict()
    shares = {f"{SHARES}{name}": value for name, value in kinds.items() if name != "shift"}  # stored in the card
    return trees | members | shares


def _card(detector: str, about: dict[str, Any], plan: ReliabilityPlan) -> ModelCard:
    """Return the card of a reliability model without calibration and weights."""
    search = read_card("detect", detector)
    return ModelCard(
        stage="reliability",
        name=search.name,
        version=f"{search.name}-{search.version}/verdict-5",
        sha256="0" * 64,
        input={
            "features": list(FEATURES),
            "stamps": [STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE],
            "dtype": "float32",
            "normalisation": "mean and scale of the features in the weights; stamps in units of the noise",
            "detector_sha256": search.sha256,
            "networks": plan.fit.networks,
            "centred": True,
        },
        classes=("false", "real"),
        training=about,
        metrics={},
        threshold=0.0,
        false_alarm_rate="not calibrated yet",
    )


def fit_kinds(learn: Sequence[Labelled]) -> KindShares:
    """Fit the kinds of real candidates, with equal weight for all kinds."""
    features, kind = _real(learn)
    scaler = StandardScaler().fit(features)
    standard = np.clip(scaler.transform(features), -FURTHEST, FURTHEST)
    weight, bias = np.zeros((len(KINDS), len(FEATURES))), np.zeros(len(KINDS))
    for n, there in enumerate(np.isin(range(len(KINDS)), kind)):
        if there and not (kind == n).all():
            line = LogisticRegression(max_iter=2000, class_weight="balanced").fit(standard, kind == n)
            weight[n], bias[n] = line.coef_[0], line.intercept_[0]
    return KindShares(scaler.mean_, scaler.scale_, weight, bias, np.zeros(len(KINDS)))


def with_prior(shares: KindShares, known: Sequence[Labelled], columns: tuple[int, ...] | None = None) -> KindShares:
    """Return the shares with the frequencies of kinds among given candidates as prior.

    ``columns`` are the features used for the shares; None: all.
    """
    features, kind = _real(known)
    even = shares._replace(shift=np.zeros(len(KINDS)))
    return shares._replace(shift=_prior_shift(kind_shares(features, even, columns), kind))


def _prior_shift(shares: NDArray[np.float64], kind: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the shift that makes mean shares equal frequencies (Saerens et al. 2002, Neural Comput. 14, 21)."""
    frequency = (np.bincount(kind, minlength=len(KINDS)) + 1) / (len(kind) + len(KINDS))
    shift = np.zeros(len(KINDS))
    for _ in range(100):
        scaled = shares * np.exp(shift)
        shift += np.log(frequency / np.maximum((scaled / scaled.sum(1, keepdims=True)).mean(0), 1e-9))
    return shift - shift[0]


def kind_figures(
    scored: Sequence[Labelled], shares: KindShares, prior: Sequence[Labelled], columns: tuple[int, ...] | None = None
) -> dict[str, Any]:
    """Return accuracy with interval, confusion matrix, calibration error, and the baseline, for the card.

    ``columns`` are those of `with_prior`. The baseline calls candidates with a fitted length of half the FWHM or more
    trails, and all others points.
    """
    features, kind = _real(scored)
    stated = kind_shares(features, shares, columns)
    right, fitted = stated.argmax(1) == kind, np.expm1(features[:, FEATURES.index("log_length")])
    frequency = np.bincount(_real(prior)[1], minlength=len(KINDS)) / max(len(_real(prior)[1]), 1)
    top = stated.max(1)
    bins = np.digitize(top, np.linspace(0.3, 1.0, 8))
    gaps = [abs(top[bins == n].mean() - right[bins == n].mean()) * (bins == n).mean() for n in np.unique(bins)]
    return {
        "kinds": list(KINDS),
        "prior": [round(float(share), 4) for share in frequency],
        "candidates": len(kind),
        "accuracy": round(float(right.mean()), 4),
        "interval": [round(float(end), 4) for end in binomial_interval(int(right.sum()), len(kind))],
        "baseline_accuracy": round(float((np.where(fitted >= 0.5, 0, 1) == kind).mean()), 4),
        "confusion": confusion_matrix(kind, stated.argmax(1), labels=range(len(KINDS))).tolist(),
        "calibration_error": round(float(np.sum(gaps)), 4),
    }


def _real(examples: Sequence[Labelled]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    kinds = [one.kind for one in examples]
    features = [one.features[kind >= 0] for one, kind in zip(examples, kinds, strict=True)]
    return np.concatenate(features), np.concatenate([kind[kind >= 0] for kind in kinds])
