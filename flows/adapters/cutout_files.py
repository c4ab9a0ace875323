"""Labelled cutouts, from files of several kinds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from schemas.errors import Misconfigured

CLASSES = ("galaxy", "star")
"""Labels by their number, as the LLNL challenge has them."""


@dataclass(frozen=True)
class LabelledCutouts:
    """Cutouts with what they show.

    Attributes
    ----------
    cutouts : (n, planes, side, side) float32
        Images of the bands, then, where they are known, as many PSF images.
    label : (n,) int64
        1 for a star, 0 for a galaxy.
    group : (n,) int64
        Field or frame: what a split must not divide.
    magnitude : (n,) float64
        NaN where it is not known.
    """

    cutouts: NDArray[np.float32]
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    magnitude: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "LabelledCutouts":
        """Give some of the rows."""
        return LabelledCutouts(self.cutouts[rows], self.label[rows], self.group[rows], self.magnitude[rows])


def read_cutout_set(folder: Path, split: str, limit: int | None = None) -> LabelledCutouts:
    """Read one split of a set that `flows.simulation.cutout_set` has written.

    Parameters
    ----------
    folder
        Of the set.
    split
        ``train``, ``validation`` or ``test``.
    limit
        At most so many cutouts, the first.

    Raises
    ------
    Misconfigured
        The folder holds no such set, or the split is empty.
    """
    path = folder / "truth.parquet"
    if not path.exists():
        remedy = "make one: nightstride simulate --preset star-galaxy --out FOLDER."
        raise Misconfigured("no_cutout_set", str(path), "does not exist.", remedy)
    truth = pq.read_table(path)
    truth = truth.filter(pa.compute.equal(truth["split"], split)).slice(0, limit)
    if not len(truth):
        raise Misconfigured("empty_split", str(path), f"no cutout is of the split {split!r}.", "simulate more.")
    shard, row = truth["shard"].to_numpy(), truth["row"].to_numpy()
    parts = []
    for number in np.unique(shard):
        data = safetensors.numpy.load_file(folder / f"cutouts-{number:03d}.safetensors")
        parts.append(data["cutouts"][row[shard == number]])
    return LabelledCutouts(
        np.concatenate(parts), labels_of(truth["label"].to_pylist(), str(path)), truth["field"].to_numpy(),
        truth["iMag"].to_numpy(),
    )  # fmt: skip


def labels_of(names: Sequence[str], where: str) -> NDArray[np.int64]:
    """Give 1 for "star" and 0 for "galaxy".

    Raises
    ------
    Misconfigured
        There are other names.
    """
    if unknown := sorted(set(names) - set(CLASSES)):
        raise Misconfigured("unknown_label", where, f"has the labels {unknown[:5]}.", f"name them as {list(CLASSES)}.")
    return np.array([CLASSES.index(name) for name in names], np.int64)
