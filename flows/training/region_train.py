"""Train the detector that proposes regions."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.adapters.weights import load_model, write_model
from flows.training.detect import TrainPlan
from flows.training.examples import Example, Wanted, make_sets, map_in_processes
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
    exposures
        To simulate: those that the search learns from.
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
        False boxes per image at which the threshold of a hit is set: low, as later stages judge what is found.
    seed
        Of everything.
    """

    exposures: tuple[Wanted, ...] = TrainPlan.train
    share: float = 0.7
    first: RegionFit = field(default_factory=lambda: RegionFit(2000))
    later: RegionFit = field(default_factory=lambda: RegionFit(2000, rate=1e-3))
    mined: int = 30
    shares: CropShares = field(default_factory=lambda: CropShares(0.4, 0.5))
    floor: float = -3.0
    hard: float = -2.0
    false_per_image: float = 20.0
    seed: int = 1


def quick_plan(seed: int) -> RegionPlan:
    """Give a plan of a few steps, to see that everything runs."""
    few = (Wanted("ztf", 2), Wanted("llnl", 2))
    return RegionPlan(few, 0.5, RegionFit(20), RegionFit(20), mined=1, seed=seed)


def simulated_regions(folder: Path, plan: RegionPlan, workers: int, say: Say) -> dict[str, list[Example]]:
    """Make the exposures of a plan, by preset; those of `flows.training.detect` in the same folder are used again."""
    made = make_sets(folder / "train", plan.exposures, 1000 * plan.seed, workers, say)
    names = [part.preset for part in plan.exposures for _ in range(part.count)]
    found: dict[str, list[Example]] = {}
    for name, example in zip(names, made, strict=True):
        found.setdefault(name, []).append(example)
    return found


def train_region(
    out: Path, examples: Mapping[str, Sequence[Example]], plan: RegionPlan, workers: int, say: Say
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
    workers
        Processes that search exposures; the fit keeps to one thread.
    say
        Called with a line for every step.

    Returns
    -------
    dict
        The measured figures, as in the card.
    """
    learn, held = split_exposures(examples, plan.share, plan.seed)
    torch.manual_seed(plan.seed)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    net, chosen = RegionNet(), [one for group in learn.values() for one in group]
    draw = CropDraw(chosen, plan.seed)
    say(f"regions: fit on crops of {len(chosen)} exposures")
    fit_regions(net, draw, plan.first, plan.seed, say)
    write_model(out, _arrays(net), _card(net, plan, examples, {}, 0.5))
    order = np.random.default_rng([plan.seed, 2]).permutation(len(chosen))[: plan.mined]
    hard = dict(map_in_processes(partial(_hard_places, out, plan.hard), [chosen[n] for n in order], workers))
    say(f"regions: {sum(map(len, hard.values()))} false boxes on {len(hard)} exposures")
    draw.show(hard, plan.shares)
    fit_regions(net, draw, plan.later, plan.seed + 1, say)
    write_model(out, _arrays(net), _card(net, plan, examples, {}, 0.5))
    judged = {name: list(map_in_processes(partial(_judged, out), group, workers)) for name, group in held.items()}
    figures = region_figures(judged)
    level = level_at([one for group in judged.values() for one in group], plan.false_per_image)
    write_model(out, _arrays(net), _card(net, plan, examples, figures, float(expit(level))))
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


def _search(folder: Path) -> RegionSearch:
    torch.set_num_threads(1)
    return cast(RegionSearch, load_model("detect", str(folder), device="cpu"))


def _hard_places(folder: Path, least: float, example: Example) -> tuple[str, NDArray[np.float64]]:
    found = find_boxes(_search(folder), example)
    wrong = judge_boxes(found, example).false & (found.logits > least)
    return example.store.stem, (found.boxes[wrong, :2] + found.boxes[wrong, 2:]) / 2


def _judged(folder: Path, example: Example) -> Judged:
    return judge_boxes(find_boxes(_search(folder), example), example)


def _arrays(net: RegionNet) -> dict[str, NDArray[Any]]:
    return {key: value.detach().numpy() for key, value in net.state_dict().items()}


def _card(
    net: RegionNet,
    plan: RegionPlan,
    examples: Mapping[str, Sequence[Example]],
    figures: dict[str, Any],
    threshold: float,
) -> dict[str, Any]:
    made = asdict(plan)
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
        "training": {
            "data": "simulated exposures (nightstride simulate), no real data",
            "licence": "BSD-3-Clause",
            "split": f"by exposure: {plan.share:.0%} of each preset to learn from, the rest reports",
            "exposures": {name: len(group) for name, group in examples.items()},
            "plan": made,
            "digest": hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest(),
            "command": "nightstride train regions",
        },
        "metrics": figures,
        "threshold": threshold,
        "false_alarm_rate": f"{plan.false_per_image:g} false boxes per image of those that report",
    }
