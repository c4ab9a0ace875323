"""Stage: classification as star, galaxy or quasar, and of stars by type, from photometry and image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.objects.class_model import (
    SKY_STARS,
    ClassModel,
    ClassVerdict,
    at_shares,
    bands_present,
    class_model,
    judged,
    superclass_verdict,
)
from kernels.objects.colour_terms import to_sdss
from kernels.objects.sky_prior import in_r, sky_shares
from kernels.objects.source_photometry import object_photometry
from schemas.archive_columns import BANDS
from schemas.class_table import SPECTRAL_CLASS, STAR_GALAXY, TYPE_COLUMNS, Reason, class_columns, class_table
from schemas.classes import STELLAR_CLASSES, SUPERCLASSES
from schemas.dataset import DatasetError
from schemas.errors import BadInput
from schemas.objects import OBJECT
from schemas.photometric_systems import SystemName, system_of
from schemas.settings import SpectralClassSettings
from schemas.stage import Context, Model, Stage, Weights


def classify(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the superclass probabilities of each object, and the stellar class probabilities of each star.

    Parameters
    ----------
    inputs
        ``object``, n rows, and if available ``star_galaxy`` with the same rows in the same order.
    context
        ``models["superclass"]`` and ``models["star_subclass"]``, each a `kernels.objects.class_model.ClassModel` of
        photometry only, since a night has no spectra. The superclass model should use only colours: the magnitudes of
        a survey's targets do not apply to a night. Class priors are those of the sky at the object's magnitude and
        galactic latitude. Also the section `SpectralClassSettings`, and the exposures of the patch, whose instrument
        gives the photometric system.

    Returns
    -------
    pyarrow.Table
        Rows of `SPECTRAL_CLASS`, in the order of the objects. Magnitudes are converted to SDSS, the system of the
        models. An object is unknown if it has magnitudes in two or more bands but none can be converted (`to_sdss`),
        if it has neither a classified image nor colours with u, or if it is outside the training data of the models.

    Raises
    ------
    DatasetError
        The rows of ``star_galaxy`` are not those of ``object``.
    BadInput
        The settings do not give the photometric system, and the exposures that would give it cannot be read.
    """
    objects, models = inputs["object"], context.models
    system = _system(context)
    magnitudes, errors = object_photometry(objects)
    columns, _, untransformed = to_sdss(magnitudes, errors, system)
    ids = objects["objectId"].to_numpy()
    model, types = models["superclass"], models["star_subclass"]
    bands = bands_present(columns)
    point, point_outlier, of_image = _of_image(inputs.get(STAR_GALAXY.name), ids)
    sky = sky_shares(objects["ra"].to_numpy(), objects["dec"].to_numpy(), in_r(magnitudes))
    verdict = superclass_verdict(
        model(columns), _shares(model, SUPERCLASSES), sky, np.isfinite(columns["u"]), point, point_outlier
    )
    verdict = _without(verdict, untransformed != "")
    result = class_columns(SUPERCLASSES, ids, verdict.probability, verdict.outlier, model.version)
    versions = [
        ", ".join(filter(None, (model.version if coloured or not image else "", image)))
        for coloured, image in zip((bands > 1).tolist(), of_image, strict=True)
    ]
    result["modelVersion"] = pa.array(versions, pa.string())
    stars = np.array([label == "star" for label in result["classLabel"].to_pylist()], np.bool_)
    type_verdict = types(columns)
    of_stars = np.array([SKY_STARS[name] for name in STELLAR_CLASSES])
    shifted = at_shares(type_verdict.probability, _shares(types, STELLAR_CLASSES), of_stars)
    result |= _types(type_verdict._replace(probability=shifted), stars)
    result["typeModelVersion"] = pa.array([types.version] * len(objects), pa.string())
    result["unknownReason"] = _reasons(untransformed, bands, verdict, np.where(stars, type_verdict.outlier, 0.0))
    result["photometricSystem"] = pa.array([system] * len(objects), pa.string())
    result["nBands"] = pa.array(bands_present(magnitudes).astype(np.int32))
    return class_table(SPECTRAL_CLASS, result)


def _system(context: Context) -> SystemName | None:
    """Return the photometric system of the settings, or that of the instrument of the night's exposures."""
    settings: SpectralClassSettings = context.settings
    stated = settings.photometric_system
    if stated != "auto":
        return stated
    try:
        exposures = context.pixels.exposures() if context.pixels is not None else ()
    except BadInput as error:  # their tiles were removed
        remedy = "state spectral_class.photometric_system, or run the night's images again."
        raise BadInput("no_instrument", "stage spectral_class", f"cannot see the exposures: {error}", remedy) from error
    return system_of(info.instrument for info in exposures if info.band in BANDS)


def _without(verdict: ClassVerdict, silent: NDArray[np.bool_]) -> ClassVerdict:
    return ClassVerdict(
        np.where(silent[:, None], np.nan, verdict.probability), np.where(silent, np.nan, verdict.outlier)
    )


def _reasons(
    untransformed: NDArray[np.object_],
    bands: NDArray[np.int64],
    verdict: ClassVerdict,
    type_outlier: NDArray[np.float64],
) -> pa.Array:
    """Return why the class or the type of a star is unknown; null if neither is.

    Parameters
    ----------
    untransformed : (n,)
        Reason why there are no SDSS magnitudes; "" if there are.
    bands : (n,)
        Number of SDSS magnitudes.
    verdict
        Result for the superclass.
    type_outlier : (n,)
        Outlier score of the type of stars; 0 for all others.
    """
    outlier = np.nan_to_num(verdict.outlier) > 1
    reason = np.where(outlier | (type_outlier > 1), Reason.OUTLIER, "")
    reason = np.where(np.isnan(type_outlier), Reason.NO_COLOUR, reason)
    nothing = np.where(bands > 1, Reason.NO_IMAGE, Reason.NO_COLOUR)
    reason = np.where(np.isfinite(verdict.outlier), reason, nothing)
    reason = np.where(untransformed != "", untransformed, reason)
    return pa.array([str(one) or None for one in reason], pa.string())


def _shares(model: ClassModel, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the shares of the classes in the training data of a model."""
    count = model.card.training["rows_per_class"]
    return np.array([count[name] for name in classes]) / sum(count.values())


def _of_image(
    verdicts: pa.Table | None, ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """Return the probability of a point source, the outlier score of the image, and the model; "" if it is not used."""
    if verdicts is None:
        nothing = np.full(len(ids), np.nan, np.float32)
        return nothing, nothing, [""] * len(ids)
    if not np.array_equal(verdicts["objectId"].to_numpy(), ids):
        raise DatasetError("star_galaxy must have the rows of object, in their order. To fix, run it on these objects.")
    point, outlier = (verdicts[name].to_numpy() for name in ("pStar", "outlierScore"))
    judges = zip(verdicts["modelVersion"].to_pylist(), judged(point, outlier), strict=True)
    return point, outlier, [one if seen else "" for one, seen in judges]


def _types(verdict: ClassVerdict, stars: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """Return the columns of the stellar class; null except for stars."""
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


def _class_model(weights: Weights, settings: SpectralClassSettings) -> ClassModel:
    return class_model(weights.card, weights.arrays)


STAGE = Stage(
    name="spectral_class",
    version="7",
    per="patch",
    needs=(OBJECT,),
    optional=(STAR_GALAXY,),
    gives=SPECTRAL_CLASS,
    run=classify,
    settings=SpectralClassSettings,
    models=(
        Model("superclass", "spectral_class.model", _class_model),
        Model("star_subclass", "spectral_class.star_model", _class_model),
    ),
    pixels=True,
)
