"""Figures that stand for an array, to hold what a seed stands for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

NUMBERS = ("x", "y", "ra", "dec", "flux", "snr", "length_px", "angle_deg")


def summary(values: ArrayLike) -> list[float]:
    """Return how many values are not 0, and sums: of positive ones, negative ones, squares, and moduli times place.

    The last is there for each axis, counted from 1. NaN counts as 0. Nothing cancels in a sum, so rounding hardly
    shows.
    """
    exact = np.nan_to_num(np.asarray(values, float))
    modulus = np.abs(exact)
    axes = range(exact.ndim)
    ramps = [modulus.sum(tuple(set(axes) - {axis})) @ np.arange(1, exact.shape[axis] + 1) for axis in axes]
    sums = (exact[exact > 0].sum(), exact[exact < 0].sum(), (exact**2).sum(), *ramps)
    return [float(np.count_nonzero(exact)), *map(float, sums)]


def layers(canvas: Any) -> list[list[float]]:
    """Return the summaries of the layers of a canvas: signal, excess, sharp and mask."""
    return [summary(layer) for layer in (canvas.signal, canvas.excess, canvas.sharp, canvas.mask)]


def numbers(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the summary of places, fluxes and shapes of sources, a row of the truth table each."""
    return summary([[row[name] for name in NUMBERS] for row in rows])
