"""Simulated cutouts to learn from, on disk."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.adapters.cutout_files import LabelledCutouts, read_cutout_set
from flows.simulation.cutout_set import CutoutSet, description, write_cutout_set
from schemas.errors import Misconfigured

_SPLITS = ("train", "validation", "test")


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
