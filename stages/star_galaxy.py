"""Stage: classification as star or galaxy, from the cutouts of each object."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from schemas.class_table import CLASSES, STAR_GALAXY, class_columns, class_table
from schemas.dataset import DatasetError
from schemas.errors import Misconfigured
from schemas.objects import CUTOUTS, OBJECT
from schemas.settings import StarGalaxySettings
from schemas.stage import Context, Model, Stage, Weights


def classify(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the probabilities that each object is a star or a galaxy, or unknown to the model.

    Parameters
    ----------
    inputs
        ``object``, n rows, and ``cutouts``, (n, 2 bands, side, side) float32: an image and a PSF of each band, NaN
        for a missing band. The units do not matter.
    context
        ``models["star_galaxy"]``, see `kernels.objects.star_galaxy_model.StarGalaxyModel`.

    Raises
    ------
    DatasetError
        The numbers of objects and cutouts differ.
    Misconfigured
        The model is for images without PSF.
    BadInput
        The model cannot use this number of planes or this size.
    """
    objects, cutouts = inputs["object"], inputs["cutouts"]
    if len(objects) != len(cutouts):
        raise DatasetError(f"one cutout per object is required, got {len(objects)} objects and {len(cutouts)} cutouts")
    model = context.models["star_galaxy"]
    if model.psf != "with":
        problem = "takes every plane for an image, but half of those of a night are PSFs."
        raise Misconfigured(
            "model_without_psf", f"model {model.version}", problem, "name multi_band: it takes any band."
        )
    verdicts = model(cutouts)
    ids = objects["objectId"].to_numpy()
    return class_table(STAR_GALAXY, class_columns(CLASSES, ids, verdicts.probability, verdicts.outlier, model.version))


def _star_galaxy(weights: Weights, settings: StarGalaxySettings) -> Any:
    from kernels.objects.star_galaxy_weights import build_star_galaxy  # import torch only if needed

    return build_star_galaxy(weights.card, weights.arrays)


STAGE = Stage(
    name="star_galaxy",
    version="2",
    per="patch",
    needs=(OBJECT, CUTOUTS),
    gives=STAR_GALAXY,
    run=classify,
    settings=StarGalaxySettings,
    models=(Model("star_galaxy", "star_galaxy.model", _star_galaxy),),
)
