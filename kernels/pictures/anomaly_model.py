"""Model that says how unlike the normal ones a picture is."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.pictures.compact_net import PictureNet
from kernels.pictures.picture_model import AT_ONCE, squared
from kernels.pictures.svdd import SvddEncoder, contrast_normalised
from schemas.errors import Misconfigured
from schemas.model_card import ModelCard

VERDICTS = (0.0, 0.2, 0.5, 0.8, 1.0)
"""Verdicts: surely normal, normal, undecided, anomalous, surely anomalous."""

NEIGHBOURS = 5
"""Number of nearest normal pictures whose mean distance is the score."""

KINDS = ("codes", "one-class", "soft-boundary")
"""Kinds of scores: distance to the nearest normal codes, or to the centre of all by Deep SVDD."""

_TURNS = 4


class AnomalyModel:
    """Score of pictures, the larger the less normal.

    Parameters
    ----------
    card
        Its ``input`` names ``kind`` (of `KINDS`), ``crop`` and ``side``; its ``calibration`` ``limits``, four scores
        that part the five `VERDICTS`.
    arrays
        Weights, and ``reference`` (n, codes) with ``middle`` and ``spread`` (codes,) of normal pictures; by Deep SVDD
        ``centre`` (codes,), and ``radius2`` (1,) of the sphere.

    Raises
    ------
    Misconfigured
        The card names a kind that is not one of these (``unknown_kind``).
    """

    def __init__(self, card: ModelCard, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.card = card
        if card.input["kind"] not in KINDS:
            raise Misconfigured(
                "unknown_kind",
                card.name,
                f"is of kind {card.input['kind']!r}, must be {', '.join(KINDS[:-1])} or {KINDS[-1]}.",
                "name another model, or install the version of nightstride that has this kind.",
            )
        self._crop, self._side = float(card.input["crop"]), int(card.input["side"])
        codes = card.input["kind"] == "codes"
        net = PictureNet(classes=int(card.input["outputs"])) if codes else SvddEncoder(self._side)
        names = net.state_dict().keys()
        weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items() if name in names}
        net.load_state_dict(weights)
        self._fused = net.fused() if isinstance(net, PictureNet) else None
        self.net, self._arrays = net.eval(), {name: np.array(arrays[name]) for name in arrays if name not in names}

    @property
    def version(self) -> str:
        """Return name and version."""
        return f"{self.card.name} {self.card.version}"

    def __call__(self, pictures: Iterable[NDArray[np.uint8]], *, whole: bool = False) -> NDArray[np.float32]:
        """Return the score of each picture, (n,), of pictures (ny, nx, 3) of any size.

        With ``whole`` all of each is looked at, not its middle.
        """
        prepared = [squared(one, 1.0 if whole else self._crop, self._side) for one in pictures]
        return self.scores(torch.stack(prepared)) if prepared else np.empty(0, np.float32)

    def scores(self, pictures: torch.Tensor) -> NDArray[np.float32]:
        """Return the score of each picture as the network sees it, (n, 3, side, side) uint8 -> (n,)."""
        if self._fused is not None:
            codes = picture_codes(self._fused, pictures)
            return nearest_distance(codes, *(self._arrays[name] for name in ("reference", "middle", "spread")))
        found = sphere_distance(self.net, pictures, torch.from_numpy(self._arrays["centre"]))
        return found - self._arrays["radius2"].astype(np.float32)

    def verdicts(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return one of `VERDICTS` for each score, (n,)."""
        place = np.searchsorted(np.asarray(self.card.calibration["limits"]), scores, side="right")
        return np.asarray(VERDICTS, np.float32)[place]


def picture_codes(net: PictureNet, pictures: torch.Tensor) -> NDArray[np.float32]:
    """Return what a `PictureNet` makes of pictures, (n, 3, side, side) uint8 -> (n, codes), mean over four turns.

    The numbers before the last layer, and those of the last one, weighted so that both parts count the same.
    """
    total = torch.zeros(0)
    with torch.inference_mode():
        for turn in range(_TURNS):
            turned = torch.rot90(pictures, turn, (2, 3))
            parts = []
            for one in torch.split(turned, AT_ONCE):
                codes = net.codes(one.float() / 255)
                parts.append(torch.cat([codes, net.last(codes)], 1))
            total = torch.cat(parts) if not turn else total + torch.cat(parts)
    return np.asarray((total / _TURNS).numpy(), np.float32)


def code_scale(codes: NDArray[np.float32], outputs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return middle and spread of normal codes, (codes,) each, by which the last ``outputs`` count as all others.

    No spread is less than the median of all: what hardly varies among normal pictures would count for too much.
    """
    spread = codes.std(0)
    spread[:-outputs] = np.maximum(spread[:-outputs], np.median(spread[:-outputs]))
    spread += 1e-3
    spread[-outputs:] /= np.sqrt((codes.shape[1] - outputs) / outputs)
    return codes.mean(0), spread.astype(np.float32)


def nearest_distance(
    codes: NDArray[np.float32], reference: NDArray[np.float32], middle: NDArray[np.float32], spread: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the mean distance of each code, (n, codes), to the five nearest of those of normal pictures, (n,).

    Parameters
    ----------
    codes
        To be scored.
    reference : (m, codes)
        Of normal pictures, less ``middle``, over ``spread``.
    """
    scaled = torch.from_numpy((codes - middle) / spread)
    normal = torch.from_numpy(reference.astype(np.float32))
    near = [
        torch.cdist(one, normal).topk(min(NEIGHBOURS, len(normal)), largest=False).values.mean(1)
        for one in torch.split(scaled, 1024)
    ]
    return np.asarray(torch.cat(near).numpy(), np.float32)


def sphere_distance(net: torch.nn.Module, pictures: torch.Tensor, centre: torch.Tensor) -> NDArray[np.float32]:
    """Return the squared distance of each picture's code from a centre, (n,), mean over four turns."""
    total = torch.zeros(len(pictures))
    with torch.inference_mode():
        for turn in range(_TURNS):
            turned = contrast_normalised(torch.rot90(pictures, turn, (2, 3)))
            codes = torch.cat([net(one) for one in torch.split(turned, AT_ONCE)])
            total = total + ((codes - centre) ** 2).sum(1)
    return np.asarray((total / _TURNS).numpy(), np.float32)
