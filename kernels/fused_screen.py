"""A cheap look at every window that leaves few of them to the linear layers of the network."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kernels.fused_dense import LinearChain
from kernels.fused_net import Dense


@dataclass(frozen=True)
class Screen:
    """A small network that says about what the linear layers of a window network would say.

    Parameters
    ----------
    layers
        Linear layers with ReLU between them, from the features of a window to a guess of its log odds.
    level
        Windows whose guess reaches it are worth the whole network. It is at most the log odds of a hit: a guess below
        it is no hit.
    batch
        Windows at a time.
    """

    layers: tuple[Dense, ...]
    level: float
    batch: int = 4096

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the guessed log odds of each row of (n, features) float32, (n,) float32.

        A guess does not depend, to the bit, on the rows around it.
        """
        return self._chain(features)

    @cached_property
    def _chain(self) -> LinearChain:
        return LinearChain(self.layers, "float32", self.batch)


def screen_arrays(layers: tuple[Dense, ...]) -> dict[str, NDArray[np.float32]]:
    """Name the arrays of a screen's layers, to be stored."""
    return {
        f"{kind}{n}": values
        for n, layer in enumerate(layers)
        for kind, values in (("weight", layer.weight), ("bias", layer.bias))
    }


def screen_layers(arrays: dict[str, NDArray[np.float32]]) -> tuple[Dense, ...]:
    """Make the layers of a screen from their arrays; the inverse of `screen_arrays`."""
    return tuple(Dense(arrays[f"weight{n}"].copy(), arrays[f"bias{n}"].copy()) for n in range(len(arrays) // 2))
