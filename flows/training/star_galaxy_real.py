"""The model of a single band: what it learns from, what it is worth on real frames, and its card."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.adapters.cutout_files import CLASSES, LabelledCutouts
from flows.adapters.cutout_ztf import digest_of, read_ztf_cutouts
from flows.adapters.star_galaxy_models import arrays_of
from flows.adapters.weights import write_model
from flows.evaluation.star_galaxy import baselines_of
from flows.simulation.cutout_set import CutoutSet
from flows.simulation.cutout_survey import ZTF
from flows.training.cutout_sets import simulated
from flows.training.star_galaxy_inputs import views_of
from flows.training.star_galaxy_own import Sample, Say, card_of, fit_baselines, fit_own, limits, said_of
from flows.training.star_galaxy_pictures import draw_confusion, draw_mistakes
from flows.training.star_galaxy_report import difference
from flows.training.star_galaxy_single import SinglePlan, cross_validate, held_out, tune
from flows.training.verdict_fit import calibrate
from kernels.class_scores import class_report, class_scores
from kernels.nets.band_set_net import BandSetNet

VERSION = "2"


def train_single(
    out: Path, work: Path, real: Path | None, plan: SinglePlan, seed: int, workers: int, say: Say
) -> dict[str, Any]:
    """Train the model of a single band and write folder ``single_band``; give its figures on real frames.

    Parameters
    ----------
    out, work
        For model and pictures; for simulated cutouts.
    real
        Folder of the real cutouts, or None.
    plan, seed, workers, say
        As of `flows.training.star_galaxy.train_star_galaxy`.
    """
    drawn = simulated(CutoutSet(ZTF, seed + 1, plan.count, work), workers, say)
    made = {split: _sample(data) for split, data in drawn.items()}
    fitted = fit_own(made["train"], made["validation"], plan.own, seed, say, lambda inputs, _: inputs)
    of_drawn = class_scores(expit(said_of(fitted.nets, made["test"].inputs).log_odds), made["test"].label)
    say(f"single band, simulated: accuracy {of_drawn['accuracy']}")
    if real is None:
        _write(out, fitted.nets, made["train"], made["validation"], plan, seed, {"simulated": of_drawn}, None, {})
        return {"simulated": of_drawn}
    data = read_ztf_cutouts(real)
    sample, out_of = _sample(data), held_out(data.group)
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
        "networks_alone": class_scores(expit(crossed.networks), data.label),
        "without_real_cutouts": class_scores(expit(crossed.simulated_only), data.label),
        "ours_against": {name: difference(ways["ours"], ways[name], data.label) for name in crossed.baselines},
        "held_out_frames": {"ours": class_scores(own, held.label)}
        | {name: class_scores(expit(odds), held.label) for name, odds in others.items()},
        "frames": len(np.unique(data.group)),
        "frames_held_out": np.unique(data.group[out_of]).tolist(),
    }
    draw_confusion(out / "star_galaxy_real.png", figures["cross_validated"], CLASSES)
    draw_mistakes(out / "star_galaxy_mistakes.png", data.cutouts, data.label, crossed.ours)
    about = {"data": "star and galaxy cutouts of ZTF i-band frames", "sha256": digest_of(real), "licence": "MIT"}
    everything = _joined(made["train"], sample.take(learn))
    _write(out, nets, everything, sample.take(learn), plan, seed, figures, (slope, offset), {"real": about})
    return figures


def _scores(probability: NDArray[np.float64], label: NDArray[np.int64]) -> dict[str, Any]:
    scores = class_scores(probability, label)
    return scores | {"report": class_report(scores["confusion"], CLASSES)}


def _write(
    out: Path,
    nets: tuple[BandSetNet, ...],
    train: Sample,
    validation: Sample,
    plan: SinglePlan,
    seed: int,
    figures: dict[str, Any],
    calibration: tuple[float, float] | None,
    about: dict[str, Any],
) -> None:
    """Write the model; its limits are set on ``validation``, and its calibration too unless one is given."""
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


def _sample(data: LabelledCutouts) -> Sample:
    """Take the image alone: no PSF is known."""
    images = LabelledCutouts(data.cutouts[:, :1], data.label, data.group, data.magnitude)
    return Sample(views_of(images, 1, ZTF.side), data.label)


def _joined(one: Sample, other: Sample) -> Sample:
    inputs = tuple(torch.cat(pair) for pair in zip(one.inputs, other.inputs, strict=True))
    return Sample(inputs, np.concatenate([one.label, other.label]))
