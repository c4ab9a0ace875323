"""Star, galaxy or quasar, and which kind of star, from the photometry of each object."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kernels.class_model import ClassVerdict
from kernels.colour_features import bands_present
from kernels.object_photometry import object_photometry
from schemas.class_table import class_columns, class_table
from schemas.object import OBJECT
from schemas.spectral_class import SPECTRAL_CLASS, TYPE_COLUMNS
from schemas.stage import Context, Stage
from schemas.stellar_class import STELLAR_CLASSES
from schemas.superclass import SUPERCLASSES


def classify(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Give each object the probability of each superclass, and each star those of the stellar classes.

    Parameters
    ----------
    inputs
        ``object``, n rows.
    context
        ``models["superclass"]`` and ``models["star_subclass"]``, each a `kernels.class_model.ClassModel` of
        photometry alone: a night has no spectra.

    Returns
    -------
    pyarrow.Table
        Of `SPECTRAL_CLASS`, in the order of the objects. An object with fewer than two bands is unknown, and so is one
        outside what the model was trained on.
    """
    objects, models = inputs["object"], context.models
    columns = object_photometry(objects)
    ids = objects["objectId"].to_numpy()
    model = models["superclass"]
    verdict: ClassVerdict = model(columns)
    result = class_columns(SUPERCLASSES, ids, verdict.probability, verdict.outlier, model.version)
    stars = np.array([label == "star" for label in result["classLabel"].to_pylist()], np.bool_)
    result |= _types(models["star_subclass"](columns), stars)
    result["typeModelVersion"] = pa.array([models["star_subclass"].version] * len(objects), pa.string())
    result["nBands"] = pa.array(bands_present(columns).astype(np.int32))
    return class_table(SPECTRAL_CLASS, result)


def _types(verdict: ClassVerdict, stars: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, pa.Array]:
    """Fill the columns of the stellar class; null but for stars."""
    probability = np.where(stars[:, None], verdict.probability, np.nan)
    outlier = np.where(stars, verdict.outlier, np.nan)
    filled = class_columns(STELLAR_CLASSES, np.zeros(len(stars), np.int64), probability, outlier, "")
    labels = [label if star else None for label, star in zip(filled["classLabel"].to_pylist(), stars, strict=True)]
    shares = {
        TYPE_COLUMNS[name]: pa.array(probability[:, k].astype(np.float32), from_pandas=True)
        for k, name in enumerate(STELLAR_CLASSES)
    }
    return {
        "typeLabel": pa.array(labels, pa.string()),
        **shares,
        "typeScore": filled["classScore"],
        "typeOutlierScore": filled["outlierScore"],
    }


STAGE = Stage(
    name="spectral_class",
    version="1",
    per="night",
    needs=(OBJECT,),
    gives=SPECTRAL_CLASS,
    run=classify,
    weights=("superclass", "star_subclass"),
)
