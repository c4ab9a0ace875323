"""Judges of candidates that have learned."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.line_bank import line_bank
from kernels.line_cutouts import line_cutouts
from kernels.line_peaks import Peaks
from kernels.line_refine import refine_lines
from kernels.line_search import CLIP
from kernels.nets.candidate_cnn import CandidateCnn
from kernels.plane import Plane
from kernels.shape_features import shape_features
from kernels.tree_ensemble import TreeEnsemble, tree_logits

_BATCH = 64


@dataclass(frozen=True)
class TreeJudge:
    """Boosted trees on shape features."""

    trees: TreeEnsemble

    def __call__(self, plane: Plane, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float32]:
        """Give the log odds of candidates: see `kernels.candidate_search.Judge`."""
        return tree_logits(shape_features(plane, snr, peaks, lines_of(plane, snr, peaks)), self.trees)


@dataclass(frozen=True)
class TwoStageJudge:
    """Boosted trees sort out what is plainly false; a network judges what is left.

    Parameters
    ----------
    trees
        The first stage.
    floor
        Log odds of the trees from which on the network is asked; others keep theirs, less 10.
    net
        The second, in evaluation mode, on ``device``.
    share
        Weight of the network's log odds in the sum; that of the trees is 1 less it.
    device
        Where the network lies.
    """

    trees: TreeEnsemble
    floor: float
    net: CandidateCnn
    share: float
    device: torch.device

    def __call__(self, plane: Plane, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float32]:
        """Give the log odds of candidates: see `kernels.candidate_search.Judge`."""
        lines = lines_of(plane, snr, peaks)
        features = shape_features(plane, snr, peaks, lines)
        odds = tree_logits(features, self.trees)
        asked = np.flatnonzero(odds >= self.floor)
        cutouts = line_cutouts(plane, snr, peaks.take(asked), lines[asked])
        judged = np.float32(self.share) * net_logits(self.net, cutouts, features[asked], self.device)
        out = odds - np.float32(10)
        out[asked] = judged + np.float32(1 - self.share) * odds[asked]
        return out


def lines_of(plane: Plane, snr: NDArray[np.float32], peaks: Peaks) -> NDArray[np.float64]:
    """Give the refined lines of candidates, (n, 5): see `kernels.line_refine.refine_lines`."""
    return refine_lines(snr, peaks, line_bank(plane.fwhm_px, plane.correlation), CLIP)


def net_logits(
    net: CandidateCnn, cutouts: NDArray[np.float32], features: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Give the network's log odds of candidates, (n,) float32, batch by batch of one size.

    Batches are filled up with zeros: equal sizes give equal bits, however many candidates a tile has.
    """
    out = np.empty(len(features), np.float32)
    for start in range(0, len(out), _BATCH):
        part = [torch.zeros(_BATCH, *values.shape[1:]) for values in (cutouts, features)]
        count = min(_BATCH, len(out) - start)
        for batch, values in zip(part, (cutouts, features), strict=True):
            batch[:count] = torch.from_numpy(values[start : start + count])
        with torch.inference_mode():
            out[start : start + count] = net(*(batch.to(device) for batch in part))[:count].cpu().numpy()
    return out
