"""Stage: anomaly scores of the galaxies of a patch of the sky."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.class_table import class_table
from schemas.dataset import DatasetError
from schemas.galaxy_pictures import ANOMALY, GALAXY, GALAXY_PICTURE
from schemas.settings import AnomalySettings
from schemas.stage import Context, Model, Stage, Weights


def score(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return an anomaly score for each galaxy with a picture.

    Parameters
    ----------
    inputs
        ``galaxy``, n rows, and ``galaxy_picture``, n pictures in the same order.
    context
        ``models["anomaly"]``, see `kernels.pictures.anomaly_model.AnomalyModel`.

    Returns
    -------
    pyarrow.Table
        Rows of `ANOMALY`, in the order of the galaxies.

    Raises
    ------
    DatasetError
        The numbers of rows and pictures differ.
    """
    galaxies, pictures = inputs[GALAXY.name], inputs[GALAXY_PICTURE.name]
    if len(galaxies) != len(pictures):
        raise DatasetError(f"one picture per galaxy is required, got {len(pictures)} for {len(galaxies)}")
    model = context.models["anomaly"]
    rows = np.flatnonzero(pictures.any((1, 2, 3)))
    scores = model(pictures[rows], whole=True)
    columns = {
        "objectId": pa.array(galaxies["objectId"].to_numpy()[rows]),
        "anomalyScore": pa.array(scores, pa.float32()),
        "anomalyVerdict": pa.array(model.verdicts(scores), pa.float32()),
        "modelVersion": pa.array([model.version] * rows.size, pa.string()),
    }
    return class_table(ANOMALY, columns)


def _anomaly(weights: Weights, settings: AnomalySettings) -> Any:
    from kernels.pictures.anomaly_model import AnomalyModel  # import torch only if needed

    return AnomalyModel(weights.card, weights.arrays)


STAGE = Stage(
    name="anomaly",
    version="1",
    per="patch",
    needs=(GALAXY, GALAXY_PICTURE),
    gives=ANOMALY,
    run=score,
    settings=AnomalySettings,
    models=(Model("anomaly", "anomaly.model", _anomaly),),
)
