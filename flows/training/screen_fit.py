"""Fit of a screen, and the level below which it leaves out windows."""

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
"""Number of hits with the lowest guesses, from which the tail of further hits is estimated."""
FOLDS = 3.0
"""Distance of the level below the lowest guess, in scales of the tail: of as many hits as it was calibrated on, exp(-3)
= 1/20 of one is expected below."""


@dataclass(frozen=True)
class Guessed:
    """Guesses for the windows of one exposure, and their true values, both (n,) float32."""

    guess: NDArray[np.float32]
    logits: NDArray[np.float32]


def safe_level(examples: list[Guessed], floor: float) -> float:
    """Return a level below which no hit of these exposures, and hardly any hit of others, is guessed.

    Parameters
    ----------
    examples
        Exposures that the screen was not fitted to, with at least `WORST` hits in total.
    floor
        Log odds of a hit.

    Raises
    ------
    Misconfigured
        There are fewer hits.

    Returns
    -------
    level
        Log odds, at most ``floor``: the lowest guess of a hit, minus three times the mean distance of the thirty lowest
        guesses below the highest of them (the scale of an exponential tail).
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
    """Count hits, lost hits and windows that pass, per preset, with 95 % intervals.

    Parameters
    ----------
    examples
        Exposures used neither for the screen nor for its level.
    presets
        Preset of each.
    floor, level
        Log odds of a hit, and lowest guess that passes.
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
        """Return the chosen rows."""
        return Rows(self.features[index], self.logits[index])

    @classmethod
    def join(cls, parts: "list[Rows]") -> "Rows":
        """Return several sets of rows as one."""
        return cls(np.concatenate([part.features for part in parts]), np.concatenate([part.logits for part in parts]))


def scored_rows(example: Example, model: str) -> Rows:
    """Return all scored windows of an example, in the order of the grid."""
    search, settings = exact_search(model), DetectSettings()
    image, usable, background = pixels(example)
    rows, columns = ((n - WINDOW) // settings.stride + 1 for n in image.shape)
    features, scored = search.features(image[None], usable, background, (rows, columns), settings.stride)
    return Rows(features[scored], search.log_odds(features[scored]))


def telling_rows(example: Example, model: str, low: float, share: float) -> Rows:
    """Return the windows of an example with log odds above ``low``, and a random fraction of the others."""
    rows = scored_rows(example, model)
    drawn = np.random.default_rng(0).random(len(rows.logits)) < share
    return rows.take((rows.logits > low) | drawn)


def guessed(example: Example, model: str, layers: tuple[Dense, ...]) -> Guessed:
    """Return the guesses of a screen with these layers for all scored windows of an example, and their log odds."""
    rows = scored_rows(example, model)
    return Guessed(Screen(layers, -np.inf)(rows.features), rows.logits)


@cache
def exact_search(model: str) -> FusedSearch:
    """Load the search with a network, in float32 on the CPU, without a screen.

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
        Range of log odds, relative to the floor, in which guesses must be right; beyond, they only need to be beyond.
    near
        Distance from the floor within which windows have five times the weight and more variations.
    made
        Number of artificial windows, in addition to real ones.
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
        Function from features to log odds: the layers behind the screen.
    floor
        Log odds of a hit.
    plan
        Settings of the fit.
    say
        Receives a line for every epoch.

    Raises
    ------
    Misconfigured
        None of the windows is a hit.

    Notes
    -----
    The loss is the squared error, except for guesses that are too low: these cost three times as much, plus the fourth
    power, since the worst of them sets the level. Since the exact layers can score anything, artificial windows made by
    mixing and varying real ones constrain the guess between and around real ones.
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
    """Make windows by mixing two real ones (half of the time) and multiplying each value by a random factor near 1."""
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
    """Return the layers, with the features' normalisation in the first and the floor in the last."""
    layers = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in net
        if isinstance(layer, nn.Linear)
    ]
    layers[0] = (layers[0][0] / scale, layers[0][1] - layers[0][0] @ (mean / scale))
    layers[-1] = (layers[-1][0], layers[-1][1] + floor)
    return tuple(Dense(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers)
