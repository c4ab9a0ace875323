"""Fit of a screen, and the level below which it leaves windows out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flows.pipeline.models import load_model
from flows.training.examples import Example, pixels
from kernels.search.fused_net import Dense
from kernels.search.fused_search import FusedSearch, Screen
from kernels.statistics.completeness import binomial_interval
from schemas.errors import Misconfigured
from schemas.pixels import WINDOW
from schemas.settings import DetectSettings

WORST = 30
"""Hits with the lowest guesses that tell how the guesses of further hits would fall off."""
FOLDS = 3.0
"""How many times the guesses' fall-off the level lies below the lowest: exp(3) = 20 times fewer hits are expected
below than one in as many as it was calibrated on."""


@dataclass(frozen=True)
class Guessed:
    """Guesses for the windows of one exposure, and their true values: (n,) float32 both."""

    guess: NDArray[np.float32]
    logits: NDArray[np.float32]


def safe_level(examples: list[Guessed], floor: float) -> float:
    """Return the level that no hit of these exposures, and hardly one of others, is guessed below.

    Parameters
    ----------
    examples
        Exposures that the screen was not fitted on, with `WORST` hits or more in all.
    floor
        Log odds of a hit.

    Raises
    ------
    Misconfigured
        There are fewer hits.

    Returns
    -------
    level
        Log odds, ``floor`` at most: the lowest guess of a hit, less three times the mean distance by which the lowest
        thirty lie below the highest of them (of an exponential tail, its scale).
    """
    hits = np.concatenate([one.guess[one.logits >= floor] for one in examples]).astype(np.float64)
    if len(hits) < WORST:
        raise Misconfigured(
            "few_hits",
            "the simulated exposures",
            f"hold {len(hits)} hits of this network, {WORST} are needed to set a level.",
            "train the network further, or give it a lower threshold.",
        )
    guess = np.sort(hits)[:WORST]
    return float(min(guess[0] - FOLDS * (guess[-1] - guess[:-1]).mean(), floor))


def screen_figures(examples: list[Guessed], presets: list[str], floor: float, level: float) -> dict[str, Any]:
    """Count hits, hits lost and windows that pass, per preset, with 95 % intervals.

    Parameters
    ----------
    examples
        Exposures that neither the screen nor its level has seen.
    presets
        Of each of them.
    floor, level
        Log odds of a hit, and from which guesses pass.
    """
    figures: dict[str, Any] = {}
    for preset in sorted(set(presets)):
        mine = [one for one, name in zip(examples, presets, strict=True) if name == preset]
        guess, logits = (np.concatenate([getattr(one, name) for one in mine]) for name in ("guess", "logits"))
        hit, passed = logits >= floor, guess >= level
        hits, lost = int(hit.sum()), int((hit & ~passed).sum())
        figures[preset] = {
            "exposures": len(mine),
            "windows": len(guess),
            "windows_passed": _share(int(passed.sum()), len(guess)),
            "hits": hits,
            "hits_lost": lost,
            "share_lost_interval": list(binomial_interval(lost, hits)),
            "lowest_guess_of_a_hit": round(float(guess[hit].min()), 4) if hits else None,
        }
    return figures


def _share(count: int, of: int) -> dict[str, Any]:
    low, high = binomial_interval(count, of)
    return {"count": count, "share": round(count / max(of, 1), 5), "interval": [round(low, 5), round(high, 5)]}


@dataclass(frozen=True)
class Rows:
    """Training windows: features (n, features) float32 and exact log odds (n,) float32."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Rows":
        """Return some of them."""
        return Rows(self.features[index], self.logits[index])

    @classmethod
    def join(cls, parts: "list[Rows]") -> "Rows":
        """Join several into one."""
        return cls(np.concatenate([part.features for part in parts]), np.concatenate([part.logits for part in parts]))


def scored_rows(example: Example, model: str) -> Rows:
    """Return all windows of an example that are scored, in order of the grid."""
    search, settings = exact_search(model), DetectSettings()
    image, usable, background = pixels(example)
    rows, columns = ((n - WINDOW) // settings.stride + 1 for n in image.shape)
    features, scored = search.features(image[None], usable, background, (rows, columns), settings.stride)
    return Rows(features[scored], search.log_odds(features[scored]))


def telling_rows(example: Example, model: str, low: float, share: float) -> Rows:
    """Return the windows of an example whose log odds are above ``low``, and a share of the others."""
    rows = scored_rows(example, model)
    drawn = np.random.default_rng(0).random(len(rows.logits)) < share
    return rows.take((rows.logits > low) | drawn)


def guessed(example: Example, model: str, layers: tuple[Dense, ...]) -> Guessed:
    """Return what a screen of these layers guesses of all scored windows of an example, and their log odds."""
    rows = scored_rows(example, model)
    return Guessed(Screen(layers, -np.inf)(rows.features), rows.logits)


@cache
def exact_search(model: str) -> FusedSearch:
    """Load the search with a network, in float32 on the processor, without a screen.

    Parameters
    ----------
    model
        Shipped name, folder or URL.
    """
    search: FusedSearch = replace(load_model("detect", model), screen=None).windows
    return search


Exact = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class ScreenFit:
    """Settings of the fit.

    Attributes
    ----------
    hidden
        Sizes of the hidden layers.
    epochs, batch, rate, seed
        Passes over the windows, windows per step, Adam's peak learning rate, seed.
    low, high
        Log odds from the floor between which guesses have to be right; beyond, they only have to be beyond.
    near
        Distance from the floor within which windows count five times and are varied more.
    made
        Number of artificial windows, beside real ones.
    """

    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 20
    batch: int = 4096
    rate: float = 5e-3
    seed: int = 0
    low: float = -1.5
    high: float = 1.0
    near: float = 0.7
    made: int = 1_800_000


def fit_screen(
    rows: Rows, exact: Exact, floor: float, plan: ScreenFit, say: Callable[[str], None]
) -> tuple[Dense, ...]:
    """Return the layers of a screen that guesses the log odds of these windows.

    Parameters
    ----------
    rows
        Windows of exposures.
    exact
        Gives log odds of features: the layers that the screen stands in front of.
    floor
        Log odds of a hit.
    plan
        Settings of the fit.
    say
        Called with a line for every epoch.

    Raises
    ------
    Misconfigured
        None of the windows is a hit.

    Notes
    -----
    Squared error, but for guesses that fall short of the floor's neighbourhood: those cost three times as much, and
    the fourth power on top, since the worst of them sets the level. The layers to be guessed can be asked about
    anything: windows that no exposure holds, made by mixing and varying real ones, keep the guess right between and
    around them.
    """
    if not (rows.logits > floor).any():
        raise Misconfigured(
            "no_hits",
            "the simulated exposures",
            f"hold no hit of this network among {len(rows.logits)} windows.",
            "train the network further, or give it a lower threshold.",
        )
    torch.manual_seed(plan.seed)
    everything = Rows.join([rows, _made_up(rows, exact, floor, plan)])
    mean, scale = everything.features.mean(0), everything.features.std(0)
    x = torch.from_numpy((everything.features - mean) / scale)
    y = torch.from_numpy(np.clip(everything.logits - floor, plan.low, plan.high))
    weight = torch.where((y > -plan.near) & (y < plan.high), 5.0, 1.0)
    net = _network(x.shape[1], plan.hidden)
    steps = plan.epochs * (len(x) // plan.batch)
    optimizer = torch.optim.Adam(net.parameters(), lr=plan.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, total_steps=steps)
    for epoch in range(plan.epochs):
        order, total = torch.randperm(len(x)), 0.0
        for part in torch.split(order[: len(x) // plan.batch * plan.batch], plan.batch):
            optimizer.zero_grad()
            loss = (weight[part] * _cost(net(x[part])[:, 0], y[part], plan)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * plan.batch
        say(f"epoch {epoch + 1} of {plan.epochs}: loss {total / len(x):.4f}")
    return _folded(net, mean, scale, floor)


def _made_up(rows: Rows, exact: Exact, floor: float, plan: ScreenFit) -> Rows:
    """Make windows: two real ones mixed (half of the time), each value times a random factor about 1."""
    rng = np.random.default_rng(plan.seed)
    close = np.flatnonzero((rows.logits > floor - plan.near) & (rows.logits < floor + 2))
    above = np.flatnonzero(rows.logits > floor + plan.low)
    parts = []
    for spread in (0.05, 0.15, 0.3):
        for source, count in ((close, 2 * plan.made // 9), (above, plan.made // 9)):
            one, two = (rows.features[source[rng.integers(len(source), size=count)]] for _ in range(2))
            share = (rng.uniform(0, 0.5, (count, 1)) * (rng.random((count, 1)) < 0.5)).astype(np.float32)
            factor = np.exp(spread * rng.standard_normal(one.shape, np.float32))
            parts.append((one + share * (two - one)) * factor)
    features = np.concatenate(parts)
    return Rows(features, exact(features))


def _cost(guess: torch.Tensor, y: torch.Tensor, plan: ScreenFit) -> torch.Tensor:
    short = torch.relu(y - guess) * (y > plan.low)
    over = torch.relu(guess - y) * (y < plan.high)
    return over**2 + 3 * short**2 + 50 * short**4


def _network(inputs: int, hidden: tuple[int, ...]) -> nn.Sequential:
    layers = [nn.Linear(a, b) for a, b in pairwise((inputs, *hidden, 1))]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def _folded(
    net: nn.Sequential, mean: NDArray[np.float32], scale: NDArray[np.float32], floor: float
) -> tuple[Dense, ...]:
    """Return the layers, with the normalisation of the features in the first and the floor in the last."""
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in net
        if isinstance(layer, nn.Linear)
    ]
    layers[0] = (layers[0][0] / scale, layers[0][1] - layers[0][0] @ (mean / scale))
    layers[-1] = (layers[-1][0], layers[-1][1] + floor)
    return tuple(Dense(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers)
