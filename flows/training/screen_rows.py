"""Windows for a screen to learn from: what the linear layers get, and the log odds that they give."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from flows.adapters.weights import load_model
from flows.training.examples import Example
from flows.training.scan import pixels
from flows.training.screen_level import Guessed
from kernels.fused_net import Dense
from kernels.fused_screen import Screen
from kernels.fused_search import FusedSearch
from schemas.settings import DetectSettings


@dataclass(frozen=True)
class Rows:
    """Windows: features (n, features) float32 and exact log odds (n,) float32."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Rows":
        """Give some of them."""
        return Rows(self.features[index], self.logits[index])

    @classmethod
    def join(cls, parts: "list[Rows]") -> "Rows":
        """Put several into one."""
        return cls(np.concatenate([part.features for part in parts]), np.concatenate([part.logits for part in parts]))


def scored_rows(example: Example, model: str) -> Rows:
    """Give all windows of an example that are scored, in order of the grid."""
    search, settings = exact_search(model), DetectSettings()
    image, usable, background = pixels(example)
    rows, columns = ((n - settings.window) // settings.stride + 1 for n in image.shape)
    features, scored = search.features(image[None], usable, background, (rows, columns), settings.stride)
    return Rows(features[scored], search.log_odds(features[scored]))


def telling_rows(example: Example, model: str, low: float, share: float) -> Rows:
    """Give the windows of an example whose log odds are above ``low``, and a share of the others."""
    rows = scored_rows(example, model)
    drawn = np.random.default_rng(0).random(len(rows.logits)) < share
    return rows.take((rows.logits > low) | drawn)


def guessed(example: Example, model: str, layers: tuple[Dense, ...]) -> Guessed:
    """Give what a screen of these layers guesses of all scored windows of an example, and their log odds."""
    rows = scored_rows(example, model)
    return Guessed(Screen(layers, -np.inf)(rows.features), rows.logits)


@cache
def exact_search(model: str) -> FusedSearch:
    """Load the search with a network, in float32 on the processor.

    Parameters
    ----------
    model
        Shipped name, folder or URL.
    """
    scorer = load_model("detect", model)
    search: FusedSearch = scorer.windows
    return search
