"""Labelled cutouts in an ``.npz`` file: ``X`` and ``y``."""

import zipfile
from pathlib import Path

import numpy as np

from flows.adapters.content_limit import require_allowed
from flows.adapters.cutout_files import LabelledCutouts, labels_of
from kernels.star_galaxy_model import LEAST_SIDE
from schemas.errors import BadInput


def read_cutout_npz(path: Path) -> LabelledCutouts:
    """Read ``X``, (n, height, width) or (n, planes, height, width), and ``y``, n times "star" or "galaxy".

    Parameters
    ----------
    path
        Of the file. Any kind of real number is taken; NaN is a missing pixel. Nothing in the file is unpickled.

    Raises
    ------
    BadInput
        There is no such file, it is not of this form or too large (see `content_limit`), or cutouts are smaller than
        16 px.
    """
    where = str(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            if missing := {"X", "y"} - set(data.files):
                raise BadInput(
                    "bad_npz", where, f"has no {sorted(missing)}, only {data.files}.", "save it with X and y."
                )
            require_allowed(sum(part.file_size for part in data.zip.infolist()), where, "the file")
            cutouts, names = data["X"], data["y"]
    except FileNotFoundError as error:
        raise BadInput("missing_file", where, "does not exist.", "name an .npz file.") from error
    except (ValueError, OSError, EOFError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        problem = f"is not an .npz file of plain arrays ({type(error).__name__}: {error})."
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
