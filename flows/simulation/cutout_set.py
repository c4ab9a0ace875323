"""Set of simulated cutouts, written as a documented dataset."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy

from flows.runtime.parallel import map_in_processes
from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import DEEP, CutoutSurvey
from flows.storage.folder import writable_folder
from flows.storage.writing import BEGINS_AGAIN, replacing, writing
from schemas.errors import Misconfigured

PER_FIELD = 100
PER_SHARD = 20
"""Number of fields per file: 2,000 cutouts, 43 MB in four bands."""

SPLITS = ("train",) * 7 + ("validation",) + ("test",) * 2
"""Split of each field, by its number modulo 10."""

_README = """# Simulated cutouts of stars and galaxies

{count} cutouts of {side} x {side} px ({scale} arcsec each) in {bands}, {fields} fields; made by
`nightstride simulate --preset star-galaxy --seed {seed} --count {count}`, drawn with GalSim; BSD-3-Clause.

- `cutouts-NNN.safetensors`: array `cutouts`, float32 (n, plane, y, x), nJy; planes: images in {bands}, then the PSF of
  each band (sum 1). Noise of sky and source is in the images, not in the PSFs.
- `truth.parquet`: one row per cutout, in the order of the files: `shard`, `row` in it, `field`, `split` (by field),
  `label` (star or galaxy), magnitudes (AB), S/N of an ideal matched filter in each band, seeing (arcsec), centre (px
  off the middle pixel), and of galaxies the half-light radius along the major axis (arcsec), share of the bulge or
  Sersic index, ellipticity (a - b) / (a + b), share of light in knots; `neighbour`: a second source is in the cutout.
- `dataset.json`: the parameters of the simulation.

Stars and galaxies are alike in their distribution of magnitude, and their colours overlap: shape tells them apart.
"""


@dataclass(frozen=True)
class CutoutSet:
    """Set to write: survey, seed, number of cutouts (a multiple of 100, the cutouts of a field) and folder."""

    survey: CutoutSurvey = DEEP
    seed: int = 0
    count: int = 34_000
    folder: Path = Path("simulated")


def write_cutout_set(wanted: CutoutSet, workers: int = 1, progress: Callable[[int], None] = lambda done: None) -> Path:
    """Simulate and write a set of cutouts; return the path of the truth table.

    Parameters
    ----------
    wanted
        Set to simulate.
    workers
        Number of processes; the files do not depend on it.
    progress
        Receives the number of cutouts done.

    Raises
    ------
    Misconfigured
        The number is not a positive multiple of 100, or the folder cannot be written.
    Retryable
        The disk is full.
    """
    if wanted.count < PER_FIELD or wanted.count % PER_FIELD:
        problem = f"{wanted.count} is not a positive multiple of {PER_FIELD}, the cutouts of a field."
        raise Misconfigured("bad_count", "--count", problem, "ask for 1000, say.")
    writable_folder(wanted.folder)
    with writing(wanted.folder, BEGINS_AGAIN):
        return _write(wanted, workers, progress)


def _write(wanted: CutoutSet, workers: int, progress: Callable[[int], None]) -> Path:
    (wanted.folder / "truth.parquet").unlink(missing_ok=True)  # the folder's earlier set is being overwritten
    fields = wanted.count // PER_FIELD
    tables: list[pa.Table] = []
    done = 0
    for table in map_in_processes(partial(_write_shard, wanted), range(-(-fields // PER_SHARD)), workers):
        tables.append(table)
        done += len(table)
        progress(done)
    target = wanted.folder / "truth.parquet"
    about = description(wanted)
    (wanted.folder / "README.md").write_text(_README.format(**about))
    (wanted.folder / "dataset.json").write_text(json.dumps(about, indent=2) + "\n")
    with replacing(target) as staged:  # last: its presence marks a complete set
        pq.write_table(pa.concat_tables(tables), staged)
    return target


def description(wanted: CutoutSet) -> dict[str, Any]:
    """Return the parameters of a set, as written to ``dataset.json``."""
    numbers = {"seed": wanted.seed, "count": wanted.count, "fields": wanted.count // PER_FIELD}
    return asdict(wanted.survey) | numbers


def shard_name(shard: int) -> str:
    """Return the name of a file of cutouts."""
    return f"cutouts-{shard:03d}.safetensors"


def _write_shard(wanted: CutoutSet, shard: int) -> pa.Table:
    last = min((shard + 1) * PER_SHARD, wanted.count // PER_FIELD)
    drawn = [draw_field(wanted.survey, wanted.seed, field, PER_FIELD) for field in range(shard * PER_SHARD, last)]
    cutouts = np.concatenate([one.cutouts for one in drawn])
    rows = [row | {"split": SPLITS[row["field"] % len(SPLITS)]} for one in drawn for row in one.rows]
    safetensors.numpy.save_file({"cutouts": cutouts}, wanted.folder / shard_name(shard))
    return pa.Table.from_pylist([{"shard": shard, "row": n} | row for n, row in enumerate(rows)])
