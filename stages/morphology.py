"""Stage: morphology of the galaxies of a patch of the sky, from their pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.class_table import STAR_GALAXY, class_columns, class_table
from schemas.dataset import DatasetError
from schemas.galaxy_pictures import GALAXY, GALAXY_PICTURE, MORPHOLOGY, UNRESOLVED
from schemas.picture_classes import MORPHOLOGIES
from schemas.settings import MorphologySettings
from schemas.stage import Context, Model, Stage, Weights


def classify(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the morphology of each galaxy.

    Parameters
    ----------
    inputs
        ``star_galaxy``; ``galaxy``; and ``galaxy_picture``, with one picture per galaxy in the same order.
    context
        ``models["morphology"]``, see `kernels.pictures.picture_model.PictureModel`.

    Returns
    -------
    pyarrow.Table
        Rows of `MORPHOLOGY`, in the order of ``star_galaxy``: its objects labelled galaxy, and all of ``galaxy``. The
        label is ``unresolved`` for objects that are not in ``galaxy``, and ``unknown`` for those without a picture.

    Raises
    ------
    DatasetError
        The numbers of galaxies and pictures differ.
    """
    classes, galaxies, pictures = inputs[STAR_GALAXY.name], inputs[GALAXY.name], inputs[GALAXY_PICTURE.name]
    if len(galaxies) != len(pictures):
        raise DatasetError(f"one picture per galaxy is required, got {len(pictures)} for {len(galaxies)}")
    model = context.models["morphology"]
    there = pictures.any((1, 2, 3))
    said = np.full((len(galaxies) + 1, len(MORPHOLOGIES)), np.nan, np.float32)  # the last row: not in `galaxy`
    said[:-1][there] = model(pictures[there], whole=True)
    known = {one: n for n, one in enumerate(galaxies["objectId"].to_pylist())}
    named = zip(classes["objectId"].to_pylist(), classes["classLabel"].to_pylist(), strict=True)
    ids = [one for one, label in named if label == "galaxy" or one in known]
    row = np.array([known.get(one, -1) for one in ids], np.int64)
    columns = class_columns(MORPHOLOGIES, np.array(ids, np.int64), said[row], np.zeros(len(ids)), model.version)
    labels = np.array(columns["classLabel"].to_pylist(), object)
    labels[row < 0] = UNRESOLVED
    return class_table(MORPHOLOGY, columns | {"classLabel": pa.array(labels.tolist(), pa.string())})


def _morphology(weights: Weights, settings: MorphologySettings) -> Any:
    from kernels.pictures.picture_model import build_picture_model  # import torch only if needed

    return build_picture_model(weights.card, weights.arrays)


STAGE = Stage(
    name="morphology",
    version="1",
    per="patch",
    needs=(STAR_GALAXY, GALAXY, GALAXY_PICTURE),
    gives=MORPHOLOGY,
    run=classify,
    settings=MorphologySettings,
    models=(Model("morphology", "morphology.model", _morphology),),
)
