"""Fit of a `RegionNet` to crops, and the boxes that it learns from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.training.region_crops import BORDER, SIDE, CropDraw, RegionCrop, Sources
from kernels.nets.region_net import ANCHORS, UNIT, RegionNet
from kernels.nets.streak_net import CELL
from kernels.search.boxes import box_overlap, encode
from kernels.search.region_search import FURTHEST, anchor_boxes, look_at_boxes, propose
from kernels.statistics.matching import segment_distance

BESIDE_PX = 8.0
"""Boxes whose middle is within this distance of an ignored source are ignored."""


def label_boxes(
    boxes: NDArray[np.float64], sources: Sources, positive: float, negative: float, best: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Label boxes by the trails in them.

    Parameters
    ----------
    boxes : (n, 4)
        px.
    sources
        True sources.
    positive, negative
        Intersection over union from which on a box has a trail, and below which it has none.
    best
        Whether the best-fitting box of each trail is positive, however badly it fits.

    Returns
    -------
    label : (n,)
        1 a trail, 0 none, -1 ignored.
    trail : (n,)
        Index of the trail that fits best; 0 if there is none.
    """
    shared = box_overlap(boxes, sources.boxes)
    most = shared.max(1, initial=0.0)
    label = np.where(most >= positive, 1, np.where(most < negative, 0, -1))
    trail = shared.argmax(1) if shared.shape[1] else np.zeros(len(boxes), np.int64)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    for line in sources.lines:
        label[(label == 0) & (segment_distance(middle[:, 0], middle[:, 1], *line) <= BESIDE_PX)] = -1
    if best and len(boxes):
        found = shared.max(0, initial=0.0) > 0
        chosen = shared.argmax(0)[found]
        label[chosen], trail[chosen] = 1, np.flatnonzero(found)
    return label, trail


def balanced(label: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw boxes to learn from: at most half of ``count`` with label 1, the rest label 0 (Ren et al. 2015)."""
    trails, others = (rng.permutation(np.flatnonzero(label == kind)) for kind in (1, 0))
    trails = trails[: count // 2]
    return np.concatenate([trails, others[: count - len(trails)]])


_SHOWN = 100  # number of batches between two reports
_CELLS = SIDE // CELL
_ANCHORS = 64  # anchors learnt from per crop, up to half of them with a trail
_PROPOSALS = 24  # proposals scored per crop
_JITTERED = 3  # copies of each true box that are scored too
_JITTER = 0.12  # relative to its sides

Say = Callable[[str], None]


@dataclass(frozen=True)
class RegionFit:
    """Number of batches, crops per batch, largest learning rate, weight decay."""

    batches: int
    batch: int = 8
    rate: float = 1.5e-3
    decay: float = 1e-3


def fit_regions(net: RegionNet, draw: CropDraw, fit: RegionFit, seed: int, say: Say) -> None:
    """Fit both parts of the network together, in place.

    Parameters
    ----------
    net
        Network in which proposals and head share features; the head learns from the current proposals (Ren et al. 2015,
        section 3.2, approximate joint training).
    draw
        Source of crops.
    fit
        AdamW (Loshchilov & Hutter 2019, ICLR) with a one-cycle schedule (Smith & Topin 2019, SPIE 11006).
    seed
        Seed of the draw of boxes.
    say
        Receives a message on the loss every 100 batches.
    """
    rng = np.random.default_rng([seed, 1])
    optimiser = torch.optim.AdamW(net.parameters(), lr=fit.rate, weight_decay=fit.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, fit.rate, total_steps=fit.batches, pct_start=0.1)
    net.train()
    parts = []
    for number in range(1, fit.batches + 1):
        losses = crop_losses(net, draw.crops(fit.batch), rng)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.sum())
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        parts.append(losses.detach().numpy())
        if number % _SHOWN == 0 or number == fit.batches:
            mean = np.mean(parts, 0)
            say(f"batch {number} of {fit.batches}: loss {' + '.join(f'{part:.4f}' for part in mean)}")
            parts = []
    net.eval()


def crop_losses(net: RegionNet, crops: Sequence[RegionCrop], rng: np.random.Generator) -> torch.Tensor:
    """Return the losses of a batch, (4,): existence and position of trails for anchors, and the same for the head."""
    cells = torch.from_numpy(np.stack([crop.cells for crop in crops])).permute(0, 3, 1, 2)
    features = net.features(cells)
    objectness = net.objectness(features)
    first = _anchor_losses(net, features, objectness, crops, rng)
    return torch.stack([*first, *_head_losses(net, features, objectness, crops, rng)])


def _anchor_losses(
    net: RegionNet,
    features: torch.Tensor,
    objectness: torch.Tensor,
    crops: Sequence[RegionCrop],
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [_anchor_sample(crop.sources, rng) for crop in crops]
    image = np.repeat(np.arange(len(parts)), [len(part[3]) for part in parts])
    row, column, kind, label, shifts = (np.concatenate(values) for values in zip(*parts, strict=True))
    odds = objectness[image, kind, row, column]
    exists = nn.functional.binary_cross_entropy_with_logits(odds, torch.from_numpy(label.astype(np.float32)))
    of = label == 1
    chosen = features.permute(0, 2, 3, 1)[image[of], row[of], column[of]]
    said = net.shifts(chosen)[np.arange(of.sum()), kind[of]]
    return exists, _distance(said, torch.from_numpy(shifts[of]))


def _anchor_sample(sources: Sources, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
    """Draw anchors of a crop; return row, column and kind, label, and the shifts to the trail."""
    middle = (sources.boxes[:, :2] + sources.boxes[:, 2:]) / 2
    steps = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4)), -1).reshape(-1, 2)
    near = (np.round((middle - (CELL - 1) / 2) / CELL).astype(np.int64)[:, None] + steps).reshape(-1, 2)
    anywhere = rng.integers(BORDER, _CELLS - BORDER, (2 * _ANCHORS, 2))
    place = np.unique(np.concatenate([near, anywhere]), axis=0)
    place = place[((place >= BORDER) & (place < _CELLS - BORDER)).all(1)]
    column, row = np.repeat(place, len(ANCHORS), 0).T
    kind = np.tile(np.arange(len(ANCHORS)), len(place))
    boxes = anchor_boxes(place[:, 1], place[:, 0]).reshape(-1, 4)
    label, trail = label_boxes(boxes, sources, 0.55, 0.3, best=True)
    chosen = balanced(label, _ANCHORS, rng)
    shifts = np.zeros((len(chosen), 4), np.float32)
    of = label[chosen] == 1
    shifts[of] = encode(sources.boxes[trail[chosen][of]], boxes[chosen][of])
    return row[chosen], column[chosen], kind[chosen], label[chosen], shifts


def _head_losses(
    net: RegionNet,
    features: torch.Tensor,
    objectness: torch.Tensor,
    crops: Sequence[RegionCrop],
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    image, boxes = _proposals(net, features.detach(), objectness.detach(), crops, rng)
    label, shifts = np.full(len(boxes), -1), np.zeros((len(boxes), 4), np.float32)
    for n, crop in enumerate(crops):
        of = np.flatnonzero(image == n)
        label[of], trail = label_boxes(boxes[of], crop.sources, 0.5, 0.4, best=False)
        hit = label[of] == 1
        shifts[of[hit]] = encode(crop.sources.boxes[trail[hit]], boxes[of[hit]])
    kept = label >= 0
    image, boxes, label, shifts = image[kept], boxes[kept], label[kept], shifts[kept]
    odds, said = look_at_boxes(net, features, image, [crop.cells for crop in crops], boxes)
    verdict = nn.functional.binary_cross_entropy_with_logits(odds, torch.from_numpy(label.astype(np.float32)))
    of = label == 1
    wanted = torch.from_numpy(shifts[of] * np.array(UNIT, np.float32))
    return verdict, 0.3 * _distance(said[of], wanted)


def _proposals(
    net: RegionNet,
    features: torch.Tensor,
    objectness: torch.Tensor,
    crops: Sequence[RegionCrop],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the most likely proposals of each crop, and its true boxes with small random changes."""
    best = objectness.amax(1)[:, BORDER:-BORDER, BORDER:-BORDER]
    highest = nn.functional.max_pool2d(best, 3, 1, 1)
    ranked = torch.where(best == highest, best, -torch.inf).flatten(1).topk(_PROPOSALS).indices.numpy()
    row, column = np.divmod(ranked, best.shape[2])
    image = np.repeat(np.arange(len(crops)), _PROPOSALS)
    with torch.no_grad():
        found = propose(net, features, image, row.ravel() + BORDER, column.ravel() + BORDER)
    jittered = [_jittered(crop.sources.boxes, rng) for crop in crops]
    image = np.concatenate([image, np.repeat(np.arange(len(crops)), [len(part) for part in jittered])])
    return image, np.concatenate([found, *jittered])


def _jittered(boxes: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    many = np.repeat(boxes, _JITTERED, 0)
    sides = many[:, 2:] - many[:, :2]
    middle = (many[:, :2] + many[:, 2:]) / 2
    middle += np.clip(rng.normal(0, _JITTER, sides.shape) * sides, -FURTHEST, FURTHEST)
    half = sides * np.exp(rng.normal(0, _JITTER, sides.shape)) / 2
    return np.concatenate([middle - half, middle + half], 1)


def _distance(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the smooth L1 loss, summed over the four numbers and averaged over boxes; 0 without boxes."""
    return nn.functional.smooth_l1_loss(said, wanted, reduction="sum", beta=0.5) / max(len(wanted), 1)
