"""Training of the single-band model: first on simulated cutouts, then on real ones split by frame."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.inputs.cutout_files import CLASSES, NPZ, LabelledCutouts, read_ztf_cutouts
from flows.pipeline.weights import write_model
from flows.results.evaluation.star_galaxy import baselines_of
from flows.simulation.cutout_set import CutoutSet
from flows.simulation.cutout_survey import ZTF
from flows.storage.digest import file_digest
from flows.training.cutout_fit import CutoutFit, fit_cutouts
from flows.training.fits import TreeFit, calibrate
from flows.training.star_galaxy_inputs import simulated, views_of
from flows.training.star_galaxy_own import CutoutSample, OwnPlan, Say, card_of, fit_baselines, fit_own, limits, said_of
from flows.training.star_galaxy_report import difference, draw_confusion, draw_mistakes
from kernels.nets.cutout_nets import BandSetNet
from kernels.objects.star_galaxy_weights import arrays_of, new_net
from kernels.statistics.class_scores import binary_scores, class_report

HELD_OUT = 6
"""Every sixth frame by name is held out of training."""


@dataclass(frozen=True)
class SinglePlan:
    """Settings for training the model.

    Attributes
    ----------
    count
        Number of simulated cutouts.
    own
        Fit to simulated cutouts; its trees are also used for the baseline on real frames.
    tune
        Fit to real cutouts, starting from that.
    members
        Number of networks, each with different frames for early stopping.
    folds
        Number of folds of the cross-validation by frame.
    share
        Weight of the trees' log odds relative to those of the networks.
    """

    count: int = 10_000
    own: OwnPlan = field(
        default_factory=lambda: OwnPlan(
            CutoutFit(epochs=8, patience=8, batch=128, rate=3e-3),
            trees=TreeFit(trees=60, rate=0.06, leaves=8, least=15),
            copies=0,
        )
    )
    tune: CutoutFit = field(default_factory=lambda: CutoutFit(epochs=10, patience=10, batch=32, rate=8e-4, decay=1e-2))
    members: int = 3
    folds: int = 5
    share: float = 0.5


class CrossValidated(NamedTuple):
    """Log odds of a star for each cutout, from models that have not seen its frame."""

    ours: NDArray[np.float64]
    networks: NDArray[np.float64]
    baselines: dict[str, NDArray[np.float64]]
    simulated_only: NDArray[np.float64]


def cross_validate(
    start: BandSetNet, data: CutoutSample, group: NDArray[np.int64], plan: SinglePlan, seed: int, say: Say
) -> CrossValidated:
    """Judge each frame with models fitted or tuned only on other frames."""
    ours, alone = np.full((2, len(data.label)), np.nan)
    others: dict[str, NDArray[np.float64]] = {}
    for number, (learn, judge) in enumerate(by_group(group, plan.folds, seed)):
        rest, left = data.take(learn), data.take(judge)
        nets = tune(start, rest, group[learn], plan, seed)
        alone[judge] = said_of(nets, left.inputs).log_odds
        baselines = fit_baselines(rest, plan.own, seed)
        found = baselines_of(baselines, *(one.numpy() for one in left.inputs[1:]))
        for name, odds in found.items():
            others.setdefault(name, np.full(len(data.label), np.nan))[judge] = odds
        ours[judge] = (1 - plan.share) * alone[judge] + plan.share * found["boosted_moments"]
        right = ((ours[judge] > 0) == (left.label == 1)).mean()
        say(f"fold {number + 1} of {plan.folds}: {len(judge)} cutouts, accuracy {right:.3f}")
    return CrossValidated(ours, alone, others, said_of([start], data.inputs).log_odds.astype(np.float64))


def tune(
    start: BandSetNet, data: CutoutSample, group: NDArray[np.int64], plan: SinglePlan, seed: int
) -> tuple[BandSetNet, ...]:
    """Tune copies of a network to real cutouts, each stopped early by frames that it does not learn from."""
    nets = []
    splits = by_group(group, max(plan.members, 2), seed + 1)
    for n, (learn, check) in zip(range(plan.members), splits, strict=False):
        torch.manual_seed(seed + n)
        net = new_net()
        net.load_state_dict(start.state_dict())
        part, held = data.take(learn), data.take(check)
        fit_cutouts(net, part, held, plan.tune, seed + n)
        nets.append(net)
    return tuple(nets)


def by_group(group: NDArray[np.int64], folds: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split rows into folds of similar size without dividing groups; yield the rows outside and inside each fold."""
    names, count = np.unique(group, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.zeros(folds)
    fold = np.zeros(len(names), int)
    for name in order[np.argsort(-count[order], kind="stable")]:
        fold[name] = int(sizes.argmin())
        sizes[fold[name]] += count[name]
    of_row = fold[np.searchsorted(names, group)]
    for number in range(folds):
        if sizes[number]:
            yield np.flatnonzero(of_row != number), np.flatnonzero(of_row == number)


def held_out_frames(group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows are of frames held out of training the shipped model."""
    names = np.unique(group)
    return np.isin(group, names[HELD_OUT // 2 :: HELD_OUT])


VERSION = "2"


def train_single(
    out: Path, work: Path, real: Path | None, plan: SinglePlan, seed: int, workers: int, say: Say
) -> dict[str, Any]:
    """Train the single-band model and write folder ``single_band``; return its figures on real frames.

    Parameters
    ----------
    out, work
        Folder for the model and pictures; folder for simulated cutouts.
    real
        Folder of the real cutouts; None: only simulated ones are used.
    plan, seed, workers, say
        As in `flows.training.star_galaxy.train_star_galaxy`.
    """
    drawn = simulated(CutoutSet(ZTF, seed + 1, plan.count, work), workers, say)
    made = {split: _sample(data) for split, data in drawn.items()}
    fitted = fit_own(made["train"], made["validation"], plan.own, seed, say, lambda inputs, _: inputs)
    of_drawn = binary_scores(expit(said_of(fitted.nets, made["test"].inputs).log_odds), made["test"].label)
    say(f"single band, simulated: accuracy {of_drawn['accuracy']}")
    if real is None:
        _write(out, fitted.nets, made["train"], made["validation"], plan, seed, {"simulated": of_drawn}, None, {})
        return {"simulated": of_drawn}
    data = read_ztf_cutouts(real)
    sample, out_of = _sample(data), held_out_frames(data.group)
    crossed = cross_validate(fitted.nets[0], sample, data.group, plan, seed, say)
    learn = np.flatnonzero(~out_of)
    nets = tune(fitted.nets[0], sample.take(learn), data.group[learn], plan, seed)
    slope, offset = calibrate(crossed.ours[learn], data.label[learn] == 1)
    held = sample.take(np.flatnonzero(out_of))
    baselines = fit_baselines(sample.take(learn), plan.own, seed)
    ways = {"ours": expit(slope * crossed.ours + offset)} | {
        name: expit(odds) for name, odds in crossed.baselines.items()
    }
    others = baselines_of(baselines, *(one.numpy() for one in held.inputs[1:]))
    said = (1 - plan.share) * said_of(nets, held.inputs).log_odds + plan.share * others["boosted_moments"]
    own = expit(slope * said + offset)
    figures = {
        "simulated": of_drawn,
        "cross_validated": {name: _scores(probability, data.label) for name, probability in ways.items()},
        "networks_alone": binary_scores(expit(crossed.networks), data.label),
        "without_real_cutouts": binary_scores(expit(crossed.simulated_only), data.label),
        "ours_against": {name: difference(ways["ours"], ways[name], data.label) for name in crossed.baselines},
        "held_out_frames": {"ours": binary_scores(own, held.label)}
        | {name: binary_scores(expit(odds), held.label) for name, odds in others.items()},
        "frames": len(np.unique(data.group)),
        "frames_held_out": np.unique(data.group[out_of]).tolist(),
    }
    draw_confusion(out / "star_galaxy_real.png", figures["cross_validated"])
    draw_mistakes(out / "star_galaxy_mistakes.png", data.cutouts, data.label, crossed.ours)
    about = {
        "data": "star and galaxy cutouts of ZTF i-band frames",
        "sha256": file_digest(real / NPZ),
        "licence": "MIT",
    }
    everything = made["train"].joined(sample.take(learn))
    _write(out, nets, everything, sample.take(learn), plan, seed, figures, (slope, offset), {"real": about})
    return figures


def _scores(probability: NDArray[np.float64], label: NDArray[np.int64]) -> dict[str, Any]:
    scores = binary_scores(probability, label)
    return scores | {"report": class_report(scores["confusion"], CLASSES)}


def _write(
    out: Path,
    nets: tuple[BandSetNet, ...],
    train: CutoutSample,
    validation: CutoutSample,
    plan: SinglePlan,
    seed: int,
    figures: dict[str, Any],
    calibration: tuple[float, float] | None,
    about: dict[str, Any],
) -> None:
    """Write the model; limits, and calibration unless given, are set on ``validation``."""
    known, slope, offset = limits(partial(said_of, nets), train, validation, seed)
    slope, offset = calibration or (slope, offset)
    baselines = fit_baselines(validation if about else train, plan.own, seed)
    card = card_of(
        "single_band", VERSION, "without", ZTF.side, len(nets), known, slope, offset, plan.share if about else 0.0
    )
    card |= {
        "training": about
        | {
            "simulated": f"{plan.count} cutouts like ZTF's i band, seed {seed + 1}",
            "split": "by frame; limits and calibration by cross-validation on frames that are not held out",
            "seed": seed,
            "command": "nightstride train star-galaxy",
        },
        "metrics": figures,
    }
    write_model(out / "single_band", arrays_of(nets, known, baselines), card)


def _sample(data: LabelledCutouts) -> CutoutSample:
    """Return a sample of images only, without PSFs."""
    images = LabelledCutouts(data.cutouts[:, :1], data.label, data.group, data.magnitude)
    return CutoutSample(views_of(images, 1, ZTF.side), data.label)
