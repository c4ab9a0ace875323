"""The LLNL challenge's ``galstar.csv``: 26 x 26 px cutouts of stars and galaxies in eight planes."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.adapters.cutout_files import LabelledCutouts
from schemas.errors import BadInput

PLANES = ("g", "r", "i", "z", "psf-g", "psf-r", "psf-i", "psf-z")
SIDE = 26
PIXELS = len(PLANES) * SIDE**2
"""5,408 pixel columns, after the index and ``y`` (0 galaxy, 1 star)."""


def iter_galstar(path: Path, chunk: int = 1000) -> Iterator[LabelledCutouts]:
    """Read the file in parts of ``chunk`` rows, (n, 8, 26, 26) each; memory does not grow with the file.

    An empty field is a missing pixel. The group is the number of the row: the file says nothing of fields.

    Raises
    ------
    BadInput
        There is no such file, or a line has another layout.
    """
    if not path.exists():
        raise BadInput("missing_file", str(path), "does not exist.", "name the challenge's galstar.csv.")
    with path.open() as file:
        header = file.readline().rstrip("\r\n").split(",")
        if len(header) != PIXELS + 2 or header[1].strip('" ') != "y":
            problem = f"has {len(header)} columns, the second {header[1:2]}, not index, y and {PIXELS} pixels."
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
    """Read the whole file: 0.7 GB for its 31,798 rows."""
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
