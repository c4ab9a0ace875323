"""Windows that a network is wrong about."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.adapters.zarr_tiles import TileStore
from flows.training.candidates import search
from flows.training.examples import Example
from flows.training.window_sample import away, cut_windows
from schemas.mask import UNUSABLE
from schemas.settings import DetectSettings


def hard_negatives(example: Example, weights: Path, most: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give windows that the network takes for asteroids and that hold nothing real: worst first, ``most`` at most.

    Returns
    -------
    windows : (n, 1, 26, 26) float32
    corners : (n, 2) int64
        Their first pixels.
    """
    store = TileStore.open(example.store)
    planes = {name: store.read_all(name) for name in ("difference", "mask")}
    hits = search(planes, store.info, str(weights))
    corners = np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64)
    order = np.argsort(-hits["logit"].to_numpy(), kind="stable")
    corners = corners[order] * DetectSettings().stride
    corners = corners[away(example.truth, corners)][:most]
    return cut_windows(*pixels(example), corners), corners


def pixels(example: Example) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Give image, usable pixels and background of an example."""
    store = TileStore.open(example.store)
    usable = (store.read_all("mask") & np.uint16(UNUSABLE)) == 0
    return store.read_all("difference"), usable, store.info.background
