"""Labelled cutouts from several kinds of files."""

import csv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from numpy.typing import NDArray

from flows.inputs.source import require_size
from kernels.objects.star_galaxy_model import LEAST_SIDE
from schemas.errors import BadInput, Misconfigured, read_failure

CLASSES = ("galaxy", "star")
"""Labels of the LLNL challenge by number."""


@dataclass(frozen=True)
class LabelledCutouts:
    """Cutouts and their labels.

    Attributes
    ----------
    cutouts : (n, planes, side, side) float32
        Images in the bands, followed by as many PSF images if these are known.
    label : (n,) int64
        1 for a star, 0 for a galaxy.
    group : (n,) int64
        Field or frame; a split must not divide one.
    magnitude : (n,) float64
        Magnitude; NaN if not known.
    """

    cutouts: NDArray[np.float32]
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    magnitude: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "LabelledCutouts":
        """Return the given rows."""
        return LabelledCutouts(self.cutouts[rows], self.label[rows], self.group[rows], self.magnitude[rows])


def read_cutout_set(folder: Path, split: str) -> LabelledCutouts:
    """Read one split of a set written by `flows.simulation.cutout_set`.

    Parameters
    ----------
    folder
        Folder of the set.
    split
        ``train``, ``validation`` or ``test``.

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
    truth = truth.filter(pa.compute.equal(truth["split"], split))
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
    """Return 1 for "star" and 0 for "galaxy".

    Raises
    ------
    Misconfigured
        There are names other than these.
    """
    if unknown := sorted(set(names) - set(CLASSES)):
        raise Misconfigured("unknown_label", where, f"has the labels {unknown[:5]}.", f"name them as {list(CLASSES)}.")
    return np.array([CLASSES.index(name) for name in names], np.int64)


def read_cutout_npz(path: Path) -> LabelledCutouts:
    """Read ``X``, (n, height, width) or (n, planes, height, width), and ``y``, n times "star" or "galaxy".

    Parameters
    ----------
    path
        File to read. Real numbers of any type are accepted; NaN is a missing pixel. Nothing in the file is unpickled.

    Raises
    ------
    BadInput
        The file does not exist, is not of this form, is too large, or its cutouts are smaller than 16 px.
    """
    where = str(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            if missing := {"X", "y"} - set(data.files):
                raise BadInput(
                    "bad_npz", where, f"has no {sorted(missing)}, only {data.files}.", "save it with X and y."
                )
            require_size(sum(part.file_size for part in data.zip.infolist()), where, "the file")
            cutouts, names = data["X"], data["y"]
    except FileNotFoundError as error:
        raise BadInput("missing_file", where, "does not exist.", "name an .npz file.") from error
    except (ValueError, OSError, EOFError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        problem = f"is not an .npz file of plain arrays: {read_failure(error)}."
        raise BadInput("bad_npz", where, problem, "save it with numpy.savez, labels as strings.") from error
    if cutouts.ndim not in (3, 4) or cutouts.dtype.kind not in "fiu":
        problem = (
            f"X is {cutouts.dtype} {cutouts.shape}, not real numbers (n, height, width) or (n, planes, height, width)."
        )
        raise BadInput("bad_cutouts", where, problem, "give it this form.")
    if min(cutouts.shape[-2:]) < LEAST_SIDE:
        problem = f"cutouts are {cutouts.shape[-2]} x {cutouts.shape[-1]} px, less than {LEAST_SIDE} px."
        raise BadInput("small_cutouts", where, problem, "cut them larger.")
    if names.shape != cutouts.shape[:1] or names.dtype.kind not in "US" or not len(names):
        problem = f"y is {names.dtype} {names.shape}, not one string for each of {len(cutouts)} cutouts."
        raise BadInput("bad_labels", where, problem, 'give "star" or "galaxy" for each.')
    label = labels_of([str(name) for name in names.astype(str)], where)
    cutouts = cutouts.astype(np.float32)
    images = cutouts[:, None] if cutouts.ndim == 3 else cutouts
    return LabelledCutouts(images, label, np.zeros(len(label), np.int64), np.full(len(label), np.nan))


NPZ, META = "ztf_star_galaxy_20x20.npz", "meta.csv"


def read_ztf_cutouts(folder: Path) -> LabelledCutouts:
    """Read the cutouts in a folder with `NPZ` and `META`; their group is the number in the frame's name.

    Raises
    ------
    BadInput
        A file is missing, or the two do not match.
    """
    data = read_cutout_npz(folder / NPZ)
    path = folder / META
    if not path.exists():
        raise BadInput("missing_file", str(path), "does not exist.", "put it beside the cutouts.")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if [row.get("label") for row in rows] != [("galaxy", "star")[kind] for kind in data.label]:
        raise BadInput("other_rows", str(path), f"its labels are not those of {NPZ}.", "restore both files.")
    frames = np.unique([row["FILENAME"] for row in rows], return_inverse=True)[1]
    return LabelledCutouts(data.cutouts, data.label, frames.astype(np.int64), data.magnitude)


PLANES = ("g", "r", "i", "z", "psf-g", "psf-r", "psf-i", "psf-z")
SIDE = 26
PIXELS = len(PLANES) * SIDE**2
"""Number of pixel columns, 5,408, after the index and ``y`` (0 galaxy, 1 star)."""


def iter_galstar(path: Path, chunk: int = 1000) -> Iterator[LabelledCutouts]:
    """Read a file in chunks of ``chunk`` rows, (n, 8, 26, 26) each; memory does not grow with the file.

    An empty field is a missing pixel. The group is the row number, as the file has no field identifiers.

    Raises
    ------
    BadInput
        The file does not exist, or a line has another layout.
    """
    if not path.exists():
        raise BadInput("missing_file", str(path), "does not exist.", "name the challenge's galstar.csv.")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().rstrip("\r\n").split(",")
        if len(header) != PIXELS + 2 or header[1].strip('" ') != "y":
            second = [one[:20] for one in header[1:2]]
            problem = f"has {len(header)} columns, the second {second}, not index, y and {PIXELS} pixels."
            raise BadInput("bad_galstar", str(path), problem, "take the file as it was published.")
        first = 0
        while lines := list(islice(file, chunk)):
            rows = np.array([_row(line, f"{path}, line {first + n + 2}") for n, line in enumerate(lines)])
            label = rows[:, 0].astype(np.int64)
            pixels = rows[:, 1:].astype(np.float32).reshape(-1, len(PLANES), SIDE, SIDE)
            group = np.arange(first, first + len(lines))
            yield LabelledCutouts(pixels, label, group, np.full(len(lines), np.nan))
            first += len(lines)


def read_galstar(path: Path) -> LabelledCutouts:
    """Read a whole file: 0.7 GB for its 31,798 rows."""
    parts = list(iter_galstar(path))
    if not parts:
        raise BadInput("bad_galstar", str(path), "has no rows.", "take the file as it was published.")
    fields = [[getattr(part, name) for part in parts] for name in ("cutouts", "label", "group", "magnitude")]
    return LabelledCutouts(*(np.concatenate(one) for one in fields))


def _row(line: str, where: str) -> NDArray[Any]:
    fields = line.rstrip("\r\n").split(",")
    if len(fields) != PIXELS + 2:
        raise BadInput("bad_galstar", where, f"has {len(fields)} fields, not {PIXELS + 2}.", "restore the file.")
    try:
        values = np.array([field or "nan" for field in fields[1:]], np.float64)
    except ValueError as error:
        raise BadInput("bad_galstar", where, f"is not numbers: {error}.", "restore the file.") from error
    if values[0] not in (0, 1):
        raise BadInput("bad_galstar", where, f"y is {values[0]}, not 0 (galaxy) or 1 (star).", "restore the file.")
    return values
