"""Chunks with a halo from `dask.array.map_overlap`, each unfolded by torch in a thread of its own."""

from dataclasses import replace

import dask.array as da
import numpy as np
import torch

from flows.training.bench.ways import Pixels, unfold_logits
from schemas.pixels import Tiling

CHUNK = 1008


def dask_logits(pixels, net):
    """Log odds of every window; as many threads as torch has, one of them for each chunk."""
    threads = torch.get_num_threads()
    tiles = Tiling(pixels.usable.shape, CHUNK, pixels.side, pixels.stride).tiles()
    rows = tuple(tile.rows for tile in tiles if tile.x0 == 0)
    columns = tuple(tile.columns for tile in tiles if tile.y0 == 0)
    # A last chunk smaller than the halo would own no window: it goes to the one before.
    chunks = tuple(_chunks(size, len(parts)) for size, parts in zip(pixels.usable.shape, (rows, columns), strict=True))
    image = da.from_array(pixels.image[0], chunks=chunks)
    usable = da.from_array(pixels.usable, chunks=chunks)
    halo = (0, pixels.side - pixels.stride)

    def search(image, usable):
        torch.set_num_threads(1)
        part = Pixels(np.ascontiguousarray(image[None]), np.ascontiguousarray(usable), pixels.background)
        return unfold_logits(replace(part, side=pixels.side, stride=pixels.stride), net).reshape(part.grid)

    found = da.map_overlap(
        search,
        image,
        usable,
        depth={0: halo, 1: halo},
        boundary="none",
        trim=False,
        chunks=(rows, columns),
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )
    try:
        return found.compute(scheduler="threads", num_workers=threads).ravel()
    finally:
        torch.set_num_threads(threads)


def _chunks(size, parts):
    return (*[CHUNK] * (parts - 1), size - CHUNK * (parts - 1))
