"""Training of the detector that proposes regions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.pipeline.weights import write_model
from flows.runtime.parallel import map_in_processes, single_thread
from flows.training.candidates import cached_detector
from flows.training.examples import Example, open_field
from flows.training.fits import false_level
from flows.training.region_crops import CropDraw, CropShares, true_boxes
from flows.training.region_fit import RegionFit, fit_regions
from kernels.image.search_image import Places, SearchImage
from kernels.nets.region_net import RegionNet
from kernels.nets.streak_net import CELL
from kernels.search.boxes import box_overlap
from kernels.search.region_search import RegionHits, RegionSearch, region_grid
from kernels.statistics.completeness import Share
from kernels.statistics.matching import Targets, match_detections

LEVELS = (0.5, 1.0)
"""False boxes per image at which completeness is reported."""

_LEAST_SNR = (7.0, 10.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Boxes found on one exposure, and their matches.

    Attributes
    ----------
    score : (n,)
        Log odds.
    target : (n,)
        Index of the source found; -1: none.
    false : (n,)
        Whether nothing real is there.
    shared, apart : (n,)
        Intersection over union with the source's box; distance of the box's middle from the source, px. NaN without
        a source.
    targets, snr
        True sources; their matched-filter S/N.
    """

    score: Floats
    target: NDArray[np.int64]
    false: NDArray[np.bool_]
    shared: Floats
    apart: Floats
    targets: Targets
    snr: Floats


def find_boxes(search: RegionSearch, example: Example) -> RegionHits:
    """Search a whole exposure."""
    field = open_field(example)
    ny, nx = field.pixels.shape
    plane = SearchImage.of(field.info, np.asarray(field.pixels), np.asarray(field.usable))
    return search.boxes(plane, Places(0, 0, ny // CELL, nx // CELL, CELL))[0]


def judge_boxes(found: RegionHits, example: Example) -> Judged:
    """Match boxes found on an exposure to sources by their middles, highest score first."""
    field, score = open_field(example), found.logits.astype(np.float64)
    x, y = (found.boxes[:, :2] + found.boxes[:, 2:]).T / 2
    matches = match_detections(x, y, score, field.targets)
    hit, shared, apart = matches.target >= 0, np.full(len(x), np.nan), np.full(len(x), np.nan)
    of = matches.target[hit]
    true = true_boxes(example.truth)[of]
    shared[hit] = np.array([box_overlap(a[None], b[None])[0, 0] for a, b in zip(found.boxes[hit], true, strict=True)])
    apart[hit] = np.hypot(x[hit] - field.targets.x[of], y[hit] - field.targets.y[of])
    return Judged(score, matches.target, matches.false, shared, apart, field.targets, field.snr)


def region_figures(judged: Mapping[str, Sequence[Judged]]) -> dict[str, Any]:
    """Return completeness with intervals at some numbers of false boxes per image, and the fit of boxes, per preset."""
    return {name: _figures(group) for name, group in judged.items() if group}


def region_level(judged: Sequence[Judged], false_per_image: float) -> float:
    """Return the lowest log odds with at most ``false_per_image`` false boxes per image."""
    false = [one.score[one.false] for one in judged]
    # At least the lowest score of a false box, since cards and reports cannot hold infinity.
    return max(false_level(false, false_per_image), float(min(part.min(initial=0.0) for part in false)))


def _figures(judged: Sequence[Judged]) -> dict[str, Any]:
    figures: dict[str, Any] = {"exposures": len(judged)}
    for false in LEVELS:
        level = region_level(judged, false)
        found = {f"snr_{least:g}": _completeness(judged, level, least) for least in _LEAST_SNR}
        figures[f"at_{false:g}_false_per_image"] = {"log_odds": round(level, 3), **found}
    return figures | {"boxes": _fit(judged, region_level(judged, LEVELS[-1]))}


def _completeness(judged: Sequence[Judged], level: float, least: float) -> dict[str, Any]:
    found = present = 0
    for one in judged:
        asked = one.targets.counted & (one.snr >= least)
        present += int(asked.sum())
        found += int(asked[one.target[(one.score >= level) & (one.target >= 0)]].sum())
    share = Share(found, present)
    bounds = [round(bound, 4) for bound in share.interval]
    return {"found": found, "present": present, "completeness": _rounded(share.value), "interval": bounds}


def _fit(judged: Sequence[Judged], level: float) -> dict[str, Any]:
    """Return quantiles of the agreement between boxes of found trails and true boxes."""
    shared, apart = (
        np.concatenate([getattr(one, name)[(one.score >= level) & (one.target >= 0)] for one in judged])
        for name in ("shared", "apart")
    )
    if not len(shared):
        return {"found": 0}
    quantiles = (0.1, 0.5, 0.9)
    return {
        "found": len(shared),
        "overlap": {f"p{100 * q:g}": _rounded(float(np.quantile(shared, q))) for q in quantiles},
        "overlap_above_0.5": _rounded(float((shared > 0.5).mean())),
        "centre_error_px": {f"p{100 * q:g}": _rounded(float(np.quantile(apart, q))) for q in quantiles},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


Say = Callable[[str], None]


@dataclass(frozen=True)
class RegionPlan:
    """Settings for training the network.

    Attributes
    ----------
    share
        Fraction of the exposures of each preset to learn from; the rest are for the report.
    first, later
        Fit from scratch, and fit with false alarms of the first one on whole exposures.
    mined
        Number of exposures searched for false alarms.
    shares
        Fractions of crops in the second fit.
    floor
        Log odds above which the head scores a proposal.
    hard
        Log odds above which a false box is a hard position.
    false_per_image
        False boxes per image at the threshold of a hit; many, since the reliability model decides.
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
    """Train the network on part of the exposures and report on the rest.

    Parameters as in `flows.training.cells.train_cells`, with exposures per preset.

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
    level = region_level([one for group in judged.values() for one in group], plan.false_per_image)
    write_model(out, _arrays(net), _card(net, plan, about, figures, float(expit(level))))
    return figures


def split_exposures(
    examples: Mapping[str, Sequence[Example]], share: float, seed: int
) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """Split the exposures of each preset into those to learn from and those to report on."""
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
            "normalisation": "S/N of pixels and of a matched filter, squashed; see kernels/search/dense_search.py",
        },
        "classes": ("nothing", "asteroid"),
        "training": {**about, "split": split},
        "metrics": figures,
        "threshold": threshold,
        "false_alarm_rate": f"{plan.false_per_image:g} false boxes per image of those that report",
    }
