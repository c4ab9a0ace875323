"""Train the detector that proposes regions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.adapters.weights import write_model
from flows.training.candidates import cached_detector
from flows.training.examples import Example, map_in_processes, single_thread
from flows.training.region_crops import CropDraw, CropShares
from flows.training.region_fit import RegionFit, fit_regions
from flows.training.region_report import Judged, find_boxes, judge_boxes, level_at, region_figures
from kernels.nets.region_net import RegionNet
from kernels.region_search import RegionSearch, region_grid

Say = Callable[[str], None]


@dataclass(frozen=True)
class RegionPlan:
    """How the network is trained.

    Attributes
    ----------
    share
        Of the exposures of each preset, to learn from; the rest reports.
    first, later
        Fit from nothing, and with the false alarms of the first over whole exposures.
    mined
        Exposures whose false alarms are sought.
    shares
        Of the crops of the second fit.
    floor
        Log odds of a proposal above which it is judged.
    hard
        Log odds above which a false box is a hard place.
    false_per_image
        False boxes per image at which the threshold of a hit is set: many, for the verdict decides.
    """

    share: float = 0.7
    first: RegionFit = field(default_factory=lambda: RegionFit(2000))
    later: RegionFit = field(default_factory=lambda: RegionFit(2000, rate=1e-3))
    mined: int = 30
    shares: CropShares = field(default_factory=lambda: CropShares(0.4, 0.5))
    floor: float = -3.0
    hard: float = -2.0
    false_per_image: float = 50.0


def train_region(
    out: Path,
    examples: Mapping[str, Sequence[Example]],
    plan: RegionPlan,
    about: Mapping[str, Any],
    seed: int,
    workers: int,
    say: Say,
) -> dict[str, Any]:
    """Train the network on a part of the exposures and report on the rest.

    Parameters
    ----------
    out
        Gets ``detect.safetensors`` and ``detect.json``.
    examples
        Exposures per preset.
    plan
        What to do.
    about
        What the card says of the training.
    seed
        Of everything.
    workers
        Processes that search exposures; the fit keeps to one thread.
    say
        Called with a line for every step.

    Returns
    -------
    dict
        The measured figures, as in the card.
    """
    learn, held = split_exposures(examples, plan.share, seed)
    torch.manual_seed(seed)
    net, chosen = RegionNet(), [one for group in learn.values() for one in group]
    draw = CropDraw(chosen, seed)
    say(f"regions: fit on crops of {len(chosen)} exposures")
    with single_thread():
        fit_regions(net, draw, plan.first, seed, say)
    write_model(out, _arrays(net), _card(net, plan, about, {}, 0.5))
    order = np.random.default_rng([seed, 2]).permutation(len(chosen))[: plan.mined]
    hard = dict(map_in_processes(partial(_hard_places, out, plan.hard), [chosen[n] for n in order], workers))
    say(f"regions: {sum(map(len, hard.values()))} false boxes on {len(hard)} exposures")
    draw.show(hard, plan.shares)
    with single_thread():
        fit_regions(net, draw, plan.later, seed + 1, say)
    write_model(out, _arrays(net), _card(net, plan, about, {}, 0.5))
    judged = {name: list(map_in_processes(partial(_judged, out), group, workers)) for name, group in held.items()}
    figures = region_figures(judged)
    level = level_at([one for group in judged.values() for one in group], plan.false_per_image)
    write_model(out, _arrays(net), _card(net, plan, about, figures, float(expit(level))))
    return figures


def split_exposures(
    examples: Mapping[str, Sequence[Example]], share: float, seed: int
) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """Split the exposures of each preset, whole ones, into those to learn from and those to report on."""
    rng = np.random.default_rng([seed, 0])
    learn: dict[str, list[Example]] = {}
    held: dict[str, list[Example]] = {}
    for name, group in examples.items():
        order = rng.permutation(len(group))
        cut = round(share * len(group))
        learn[name], held[name] = ([group[n] for n in part] for part in (order[:cut], order[cut:]))
    return learn, held


def _hard_places(folder: Path, least: float, example: Example) -> tuple[str, NDArray[np.float64]]:
    found = find_boxes(cast(RegionSearch, cached_detector(str(folder))), example)
    wrong = judge_boxes(found, example).false & (found.logits > least)
    return example.store.stem, (found.boxes[wrong, :2] + found.boxes[wrong, 2:]) / 2


def _judged(folder: Path, example: Example) -> Judged:
    return judge_boxes(find_boxes(cast(RegionSearch, cached_detector(str(folder))), example), example)


def _arrays(net: RegionNet) -> dict[str, NDArray[Any]]:
    return {key: value.detach().numpy() for key, value in net.state_dict().items()}


def _card(
    net: RegionNet,
    plan: RegionPlan,
    about: Mapping[str, Any],
    figures: dict[str, Any],
    threshold: float,
) -> dict[str, Any]:
    split = f"{about['split']}; of those to learn from, by preset, {plan.share:.0%} fit and the rest reports"
    return {
        "stage": "detect",
        "name": "region_proposal",
        "version": "1",
        "input": {
            "kind": "regions",
            "channels": net.channels,
            "dilations": net.dilations,
            "floor": plan.floor,
            "grid": asdict(region_grid(net.reach)),
            "normalisation": "S/N of pixels and of a matched filter, squashed; see kernels/dense_input.py",
        },
        "classes": ("nothing", "asteroid"),
        "training": {**about, "split": split},
        "metrics": figures,
        "threshold": threshold,
        "false_alarm_rate": f"{plan.false_per_image:g} false boxes per image of those that report",
    }
