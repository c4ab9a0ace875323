"""Simulated cutouts to learn from, on disk."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flows.adapters.cutout_files import LabelledCutouts, read_cutout_set
from flows.adapters.galstar_csv import read_galstar
from flows.simulation.cutout_set import CutoutSet, description, write_cutout_set
from schemas.errors import BadInput, Misconfigured

_SPLITS = ("train", "validation", "test")
_ENDS = (0.7, 0.8)  # of the shares of training and validation


def simulated(wanted: CutoutSet, workers: int, say: Callable[[str], None]) -> dict[str, LabelledCutouts]:
    """Simulate a set unless it is there; give its splits.

    Parameters
    ----------
    wanted
        Survey, seed, number, and the folder: what is complete there already is used as it is.
    workers
        Processes.
    say
        Told when a set is simulated.

    Raises
    ------
    Misconfigured
        The set that is there is another one, or cannot be read.
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
    """Read the challenge's ``galstar.csv`` and split its rows at random, 70, 10 and 20 %: it names no fields.

    Raises
    ------
    BadInput
        The file cannot be read, or has so few rows that a split is without stars or without galaxies.
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
    """Give what a set says of itself; nothing if it cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(about: Mapping[str, Any]) -> str:
    named = {name: about.get(name) for name in ("name", "count", "seed")}
    return ", ".join(f"{name} {value}" for name, value in named.items()) if about else "of which nothing is known"
