"""Training inputs of the networks for stars and galaxies."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.inputs.cutout_files import LabelledCutouts, read_cutout_set, read_galstar
from flows.simulation.cutout_set import CutoutSet, description, write_cutout_set
from flows.training.cutout_fit import Inputs
from kernels.objects.cutout_features import BandViews, band_views, make_planes
from schemas.errors import BadInput, Misconfigured

CONFIGURATIONS = {
    "all": (0, 1, 2, 3, 4, 5, 6, 7),
    "0-3": (0, 1, 2, 3),
    "(0,4)": (0, 4),
    "(1,5)": (1, 5),
    "(2,6)": (2, 6),
    "(3,7)": (3, 7),
}
"""Planes of the six comparisons: all; images only; g, r, i or z with its PSF."""

_PART = 1000  # number of cutouts prepared at a time


def standardised(cutouts: NDArray[np.float32]) -> torch.Tensor:
    """Return planes scaled to mean 0 and standard deviation 1 (ddof 0), as float16; missing pixels are 0."""
    parts = []
    for first in range(0, len(cutouts), _PART):
        part = cutouts[first : first + _PART].astype(np.float32)
        known = np.isfinite(part)
        count = np.maximum(known.sum((2, 3), keepdims=True), 1)
        away = np.where(known, part, 0)
        away = np.where(known, away - away.sum((2, 3), keepdims=True) / count, 0)
        spread = np.sqrt((away**2).sum((2, 3), keepdims=True) / count)
        parts.append((away / np.where(spread > 0, spread, 1)).astype(np.float16))
    return torch.from_numpy(np.concatenate(parts))


def views_of(data: LabelledCutouts, bands: int, side: int) -> Inputs:
    """Return the inputs of `kernels.nets.cutout_nets.BandSetNet`, with pictures as float16."""
    found = []
    for first in range(0, len(data), _PART):
        views = band_views(make_planes(data.cutouts[first : first + _PART], bands, side))
        found.append(views._replace(pictures=views.pictures.astype(np.float16)))
    joined = BandViews(*(np.concatenate(field) for field in zip(*found, strict=True)))
    return tuple(torch.from_numpy(one) for one in joined)


def hide_bands(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Hide bands and PSFs in a batch, so that a network learns to do without them.

    40 % of the cutouts keep all bands; in the others each band is kept with probability 0.45, but at least one. A
    quarter have no PSF.
    """
    pictures, features, usable, has_psf = inputs
    n, bands = usable.shape
    whole = torch.rand(n, 1, generator=generator) < 0.4
    kept = (torch.rand(n, bands, generator=generator) < 0.45) | whole
    one = torch.nn.functional.one_hot(torch.randint(bands, (n,), generator=generator), bands).bool()
    kept = torch.where((kept & usable).any(1, keepdim=True), kept, kept | one)
    bare = torch.rand(n, 1, generator=generator) < 0.25
    seen = usable & kept
    seen = torch.where(seen.any(1, keepdim=True), seen, usable)
    return pictures, features, seen, has_psf & seen & ~bare


def chosen_bands(inputs: Inputs, planes: tuple[int, ...]) -> Inputs:
    """Return the inputs with only some planes: images are planes 0 to 3, PSFs 4 to 7."""
    pictures, features, usable, has_psf = inputs
    bands = usable.shape[1]
    seen = usable & torch.tensor([band in planes for band in range(bands)])
    return pictures, features, seen, has_psf & seen & torch.tensor([band + bands in planes for band in range(bands)])


_SPLITS = ("train", "validation", "test")
_ENDS = (0.7, 0.8)  # ends of the fractions for training and validation


def simulated(wanted: CutoutSet, workers: int, say: Callable[[str], None]) -> dict[str, LabelledCutouts]:
    """Simulate a set unless it exists; return its splits.

    Parameters
    ----------
    wanted
        Survey, seed, number, and folder; a complete set in the folder is reused.
    workers
        Number of processes.
    say
        Receives a message if a set is simulated.

    Raises
    ------
    Misconfigured
        The existing set is different or cannot be read.
    """
    folder = wanted.folder
    if not (folder / "truth.parquet").exists():
        say(f"{wanted.count} cutouts like {wanted.survey.name}")
        write_cutout_set(wanted, workers)
    elif (found := _recorded(folder / "dataset.json")) != json.loads(json.dumps(description(wanted))):
        raise Misconfigured(
            "other_cutouts",
            str(folder),
            f"holds other cutouts ({_words(found)}) than those wanted ({_words(description(wanted))}).",
            "remove it, or name another --work folder.",
        )
    return {split: read_cutout_set(folder, split) for split in _SPLITS}


def challenge(path: Path, seed: int) -> dict[str, LabelledCutouts]:
    """Read the challenge's ``galstar.csv`` and split its rows at random, 70, 10 and 20 %, since it has no fields.

    Raises
    ------
    BadInput
        The file cannot be read, or a split has no stars or no galaxies.
    """
    data = read_galstar(path)
    order = np.random.default_rng(seed).permutation(len(data))
    ends = [round(share * len(data)) for share in _ENDS]
    sets = {split: data.take(rows) for split, rows in zip(_SPLITS, np.split(order, ends), strict=True)}
    for split, some in sets.items():
        if len(np.unique(some.label)) < 2:
            problem = f"of its {len(data)} rows {len(some)} are for {split}, and these are not of both classes."
            raise BadInput("bad_galstar", str(path), problem, "give more rows, of stars and of galaxies.")
    return sets


def _recorded(path: Path) -> dict[str, Any]:
    """Return the metadata of a set; empty if they cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(about: Mapping[str, Any]) -> str:
    named = {name: about.get(name) for name in ("name", "count", "seed")}
    return ", ".join(f"{name} {value}" for name, value in named.items()) if about else "of which nothing is known"
