"""Real ZTF cutouts of stars and galaxies, with the frame each is from."""

import csv
import hashlib
from pathlib import Path

import numpy as np

from flows.adapters.cutout_files import LabelledCutouts
from flows.adapters.cutout_npz import read_cutout_npz
from schemas.errors import BadInput

NPZ, META = "ztf_star_galaxy_20x20.npz", "meta.csv"


def read_ztf_cutouts(folder: Path) -> LabelledCutouts:
    """Read the cutouts of a folder with `NPZ` and `META`; the group is the number of the frame, by its name.

    Raises
    ------
    BadInput
        A file is missing, or the two do not belong together.
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


def digest_of(folder: Path) -> str:
    """SHA-256 of the cutouts' file, for the card."""
    return hashlib.sha256((folder / NPZ).read_bytes()).hexdigest()
