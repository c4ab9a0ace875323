"""Fits of Deep SVDD (first the autoencoder, then the sphere), and of simple rivals on the same pictures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kernels.pictures.augment import Augment, augmented
from kernels.pictures.svdd import SvddDecoder, SvddEncoder, contrast_normalised
from schemas.errors import Misconfigured

Say = Callable[[str], None]

WARM_UP = 10
"""Number of passes before the radius of a soft boundary is set."""

Score = Callable[[torch.Tensor], NDArray[np.float64]]
"""Function from pictures, (n, planes, side, side) uint8, to (n,) scores: the larger, the less normal."""

COMPONENTS = 32
_APERTURES = (0.05, 0.1, 0.2, 0.3)

_LEAST = 0.1
_SMALLEST_BATCH = 8


@dataclass(frozen=True)
class SvddPlan:
    """Settings of Deep SVDD; the defaults are the published ones.

    Attributes
    ----------
    objective
        ``one-class``: mean squared distance from the centre; ``soft-boundary``: radius plus excess beyond it.
    nu
        Fraction of normal pictures that may be beyond the radius.
    rate, epochs, milestone, batch, decay
        Settings of Adam; the rate falls to a tenth at the milestone.
    pretrain_rate, pretrain_epochs, pretrain_milestone
        The same for the autoencoder.
    side
        Side of a picture, px.
    augment
        Changes of pictures.
    """

    objective: Literal["one-class", "soft-boundary"] = "one-class"
    nu: float = 0.1
    rate: float = 1e-4
    epochs: int = 100
    milestone: int = 50
    batch: int = 200
    decay: float = 0.5e-6
    pretrain_rate: float = 1e-4
    pretrain_epochs: int = 100
    pretrain_milestone: int = 50
    side: int = 256
    augment: Augment = field(default_factory=lambda: Augment(zoom=1.05, shift=0.02, gain=0.0, tint=0.0, noise=0.01))


def fit_autoencoder(
    encoder: SvddEncoder, decoder: SvddDecoder, pictures: torch.Tensor, plan: SvddPlan, seed: int, say: Say
) -> None:
    """Fit encoder and decoder in place to reproduce pictures, (n, planes, side, side) uint8."""

    def loss(batch: torch.Tensor) -> torch.Tensor:
        return ((decoder(encoder(batch)) - batch) ** 2).mean()

    nets = nn.ModuleList([encoder, decoder])
    settings = (plan.pretrain_rate, plan.pretrain_epochs, plan.pretrain_milestone)
    for number, value in enumerate(_passes(nets, pictures, plan, settings, seed, loss), 1):
        say(f"autoencoder, pass {number} of {plan.pretrain_epochs}: loss {value:.5f}")


def fit_sphere(
    encoder: SvddEncoder, pictures: torch.Tensor, plan: SvddPlan, seed: int, say: Say
) -> tuple[torch.Tensor, float]:
    """Fit an encoder in place so that the codes of normal pictures are close together.

    Parameters
    ----------
    encoder
        Encoder from `fit_autoencoder`.
    pictures : (n, planes, side, side) uint8
        Normal pictures.
    plan, seed, say
        Settings; seed of order and changes; receives a line on each pass.

    Returns
    -------
    centre : (codes,) float32
        Mean code before the fit; values near zero are moved to 0.1 or -0.1, since a network of zeros would reach zero.
    radius2 : float
        Squared radius; 0 for ``one-class``.

    Notes
    -----
    Ruff et al. 2018, PMLR 80, 4393, equations 3 and 4.
    """
    centre = _codes(encoder, pictures).mean(0)
    centre = torch.where(centre.abs() < _LEAST, torch.where(centre < 0, -_LEAST, _LEAST), centre)
    soft, radius2 = plan.objective == "soft-boundary", 0.0

    def loss(batch: torch.Tensor) -> torch.Tensor:
        distance = ((encoder(batch) - centre) ** 2).sum(1)
        if not soft:
            return distance.mean()
        return radius2 + (distance - radius2).clamp(min=0).mean() / plan.nu

    for number, value in enumerate(
        _passes(encoder, pictures, plan, (plan.rate, plan.epochs, plan.milestone), seed + 1, loss), 1
    ):
        if soft and number >= min(WARM_UP, plan.epochs):
            distance = ((_codes(encoder, pictures) - centre) ** 2).sum(1)
            radius2 = float(torch.quantile(distance, 1 - plan.nu))
            encoder.train()
        say(f"sphere, pass {number} of {plan.epochs}: loss {value:.5f}")
    return centre, radius2


def reconstruction_error(encoder: SvddEncoder, decoder: SvddDecoder, pictures: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference between pictures and their reconstruction by the autoencoder, (n,)."""
    encoder.eval()
    decoder.eval()
    found = []
    with torch.inference_mode():
        for one in torch.split(pictures, 64):
            seen = contrast_normalised(one)
            found.append(((decoder(encoder(seen)) - seen) ** 2).mean((1, 2, 3)))
    return torch.cat(found)


def _codes(encoder: SvddEncoder, pictures: torch.Tensor) -> torch.Tensor:
    encoder.eval()
    with torch.no_grad():
        return torch.cat([encoder(contrast_normalised(one)) for one in torch.split(pictures, 64)])


def _passes(
    nets: nn.Module,
    pictures: torch.Tensor,
    plan: SvddPlan,
    settings: tuple[float, int, int],
    seed: int,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
) -> Iterable[float]:
    """Make passes over the pictures, and yield the mean loss of each.

    Raises
    ------
    Misconfigured
        The loss is no longer a number (``diverged``).
    """
    rate, epochs, milestone = settings
    optimiser = torch.optim.Adam(nets.parameters(), lr=rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [milestone], gamma=0.1)
    generator = torch.Generator().manual_seed(seed)
    batches = max(1, round(len(pictures) / min(plan.batch, len(pictures))))
    for _ in range(epochs):
        nets.train()
        total = 0.0
        for chosen in torch.tensor_split(torch.randperm(len(pictures), generator=generator), batches):
            if len(chosen) < min(_SMALLEST_BATCH, len(pictures)):
                continue
            batch = contrast_normalised(augmented(pictures[chosen].float() / 255, plan.augment, generator))
            loss = loss_of(batch)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach()) * len(chosen)
        schedule.step()
        if not np.isfinite(total):
            raise Misconfigured("diverged", "rate", f"is {rate}: the loss is no longer a number.", "give a lower one.")
        yield total / len(pictures)


def check_plan(plan: SvddPlan) -> None:
    """Check a plan.

    Raises
    ------
    Misconfigured
        A number is out of range.
    """
    if not 0 < plan.nu < 1:
        raise Misconfigured("out_of_range", "nu", f"is {plan.nu}.", "give a share between 0 and 1.")
    if plan.side % 64 or plan.side <= 0:
        raise Misconfigured("out_of_range", "side", f"is {plan.side} px.", "give a multiple of 64.")
    if min(plan.batch, plan.epochs, plan.pretrain_epochs) < 1:
        raise Misconfigured("out_of_range", "batch and epochs", "are less than 1.", "give 1 or more.")
    for name, value in (("rate", plan.rate), ("pretrain_rate", plan.pretrain_rate)):
        if not 0 < value < np.inf:
            raise Misconfigured("out_of_range", name, f"is {value}.", "give a number above 0.")
    if not 0 <= plan.decay < np.inf:
        raise Misconfigured("out_of_range", "decay", f"is {plan.decay}.", "give 0 or more.")


def fit_rivals(normal: torch.Tensor, seed: int) -> dict[str, Score]:
    """Fit an isolation forest on moments, and principal components, to normal pictures (n, planes, side, side)."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=300, random_state=seed).fit(picture_moments(normal))
    least = min(COMPONENTS, len(normal) // 2)
    components = PCA(least, random_state=seed).fit(_flat(normal))

    def left_over(pictures: torch.Tensor) -> NDArray[np.float64]:
        seen = _flat(pictures)
        return np.asarray(((seen - components.inverse_transform(components.transform(seen))) ** 2).mean(1), np.float64)

    return {
        "isolation forest on moments": lambda pictures: -np.asarray(forest.score_samples(picture_moments(pictures))),
        f"rest of {least} principal components": left_over,
    }


def picture_moments(pictures: torch.Tensor) -> NDArray[np.float64]:
    """Return shape and light of the bright part of each picture, (n, planes, side, side) -> (n, 13).

    For light more than three deviations above the median: fraction of pixels, offset of the centre in x and y, size,
    ellipticity, asymmetry under a half turn, and fractions within four circles; then the means of the three planes
    relative to that of all.
    """
    planes = pictures.double()
    grey = planes.mean(1)
    side = grey.shape[-1]
    flat = grey.flatten(1)
    middle = flat.median(1).values
    scatter = 1.4826 * (flat - middle[:, None]).abs().median(1).values.clamp(min=0.5)
    light = (grey - (middle + 3 * scatter)[:, None, None]).clamp(min=0)
    total = light.sum((1, 2)).clamp(min=1e-9)
    y, x = torch.meshgrid(*[(torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / side] * 2, indexing="ij")

    def mean(what: torch.Tensor) -> torch.Tensor:
        return (light * what).sum((1, 2)) / total

    cx, cy = mean(x), mean(y)
    xx, yy, xy = mean(x * x) - cx**2, mean(y * y) - cy**2, mean(x * y) - cx * cy
    size2 = (xx + yy).clamp(min=1e-9)
    r = torch.hypot(x, y)
    parts = [
        (light > 0).double().mean((1, 2)), cx.abs(), cy.abs(), size2.sqrt(), torch.hypot(xx - yy, 2 * xy) / size2,
        (light - light.flip((1, 2))).abs().sum((1, 2)) / total,
        *((light * (r < aperture)).sum((1, 2)) / total for aperture in _APERTURES),
        *(planes.mean((2, 3)) / planes.mean((1, 2, 3))[:, None].clamp(min=1e-9)).T,
    ]  # fmt: skip
    return torch.stack(parts, 1).numpy()


def _flat(pictures: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(contrast_normalised(pictures).flatten(1).numpy(), np.float32)
