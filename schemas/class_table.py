"""Tables of classified objects: class, probabilities and model."""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.classes import STELLAR_CLASSES, SUPERCLASSES
from schemas.dataset import DatasetError, TableOf, column

UNKNOWN = "unknown"
"""Label of an object unlike those that the model was trained on, or without a usable band."""


class Reason(StrEnum):
    """Reasons for an unknown spectral class."""

    SYSTEM = "system"  # the photometric system is not known, or not supported
    COLOUR_TERM = "colour_term"  # a band is missing that the relation to SDSS needs
    COLOUR_RANGE = "colour_range"  # outside the colours for which that relation holds
    NO_COLOUR = "no_colour"  # fewer than two bands
    NO_IMAGE = "no_image"  # colours without u, and no classification of the image
    OUTLIER = "outlier"  # outside what the model was trained on


REASONS_DOC = (
    "system: photometric system not known or not supported; colour_term: a band is missing that the relation to SDSS "
    "needs; colour_range: outside the colours for which it holds; no_colour: fewer than two bands; no_image: no u, and "
    "no verdict on the image; outlier: outside what the model was trained on."
)


def probability_column(label: str) -> str:
    """Return the name of a class's probability column: ``p`` and the capitalised words of the label."""
    return "p" + "".join(f"{word[:1].upper()}{word[1:]}" for word in re.split("[ -]", label))


_OUTLIER = "How far outside the training distribution; above 1 the label is unknown."


def class_dataset(
    name: str,
    classes: Sequence[str],
    more: Iterable[pa.Field] = (),
    *,
    outlier: bool = True,
    others: Sequence[str] = (),
) -> TableOf:
    """Return the dataset of the classifications of one stage, with a row per object.

    Parameters
    ----------
    name
        Name of the dataset and of its stage.
    classes
        At least two labels, as in `classLabel`, without ``unknown``.
    more
        Further columns, inserted before `modelVersion`.
    outlier
        Whether to add a column `outlierScore`.
    others
        Labels besides the classes and ``unknown``.

    Raises
    ------
    DatasetError
        There are fewer than two classes, or ``unknown`` is one of them, or two column names differ only in case or not
        at all (SQL ignores case).
    """
    _check(name, classes)
    fields = [
        column("objectId", pa.int64(), "", "Object in `object`: order-29 HEALPix NESTED index of its position."),
        column(
            "classLabel",
            pa.string(),
            "",
            f"Most probable class: {', '.join(classes)}; or {' or '.join([*others, UNKNOWN])}.",
        ),
        *(_float(probability_column(label), f"Calibrated probability of {label}; all sum to 1.") for label in classes),
        _float("classScore", "Calibrated probability of the most probable class."),
        *([_float("outlierScore", _OUTLIER)] if outlier else []),
        *more,
        column("modelVersion", pa.string(), "", "Name and version of the model, or models."),
    ]
    names = [field.name.lower() for field in fields]
    if twice := sorted({field.name for field in fields if names.count(field.name.lower()) > 1}):
        raise DatasetError(f"dataset {name!r}: the columns {twice} have one name to a reader that ignores case")
    return TableOf(name, pa.schema(fields), product=True)


def class_columns(
    classes: Sequence[str],
    object_id: NDArray[np.int64],
    probability: NDArray[np.floating],
    outlier: NDArray[np.floating],
    version: str,
) -> dict[str, pa.Array]:
    """Return the columns of `class_dataset`.

    Parameters
    ----------
    classes
        Labels, as in the dataset.
    object_id : (n,) int64
        Ids.
    probability : (n, classes)
        Calibrated probabilities; each row sums to 1, or is NaN if the object cannot be classified.
    outlier : (n,)
        Outlier score, 1 at the limit; NaN if the object cannot be classified.
    version
        Version of the model.

    Returns
    -------
    dict
        Column -> values. The label is ``unknown`` where `outlier` is above 1 or anything is NaN.

    Raises
    ------
    DatasetError
        The shapes do not match, or a probability is not valid.
    """
    shape = (len(object_id), len(classes))
    if probability.shape != shape or outlier.shape != shape[:1]:
        raise DatasetError(f"verdicts must be {shape} and {shape[:1]}, got {probability.shape} and {outlier.shape}")
    known = np.isfinite(probability).all(1) & np.isfinite(outlier)
    if (stray := known & ((np.abs(probability.sum(1) - 1) > 1e-3) | (probability < 0).any(1))).any():
        row = int(np.flatnonzero(stray)[0])
        raise DatasetError(f"probabilities must be 0 to 1 and sum to 1, got {probability[row].tolist()} in row {row}")
    said = np.where(known[:, None], probability, np.nan)
    best = np.where(known, np.nan_to_num(said).argmax(1), -1)
    label = np.where(known & (np.nan_to_num(outlier) <= 1), best, -1)
    names = np.array([*classes, UNKNOWN], object)
    return {
        "objectId": pa.array(object_id, pa.int64()),
        "classLabel": pa.array(names[label].tolist(), pa.string()),
        **{probability_column(one): _nullable(said[:, k]) for k, one in enumerate(classes)},
        "classScore": _nullable(np.where(known, np.nan_to_num(said).max(1, initial=0), np.nan)),
        "outlierScore": _nullable(np.where(known, outlier, np.nan)),
        "modelVersion": pa.array([version] * len(object_id), pa.string()),
    }


def class_table(dataset: TableOf, columns: dict[str, Any]) -> pa.Table:
    """Return columns as a table in the order and types of a dataset."""
    return pa.Table.from_arrays([columns[field.name] for field in dataset.schema], schema=dataset.schema)


def _check(name: str, classes: Sequence[str]) -> None:
    if len(classes) < 2 or UNKNOWN in classes:
        raise DatasetError(f"dataset {name!r} needs two classes, none of them {UNKNOWN!r}, got {list(classes)}")


def _float(name: str, doc: str) -> pa.Field:
    return column(name, pa.float32(), "", f"{doc} Null where there is no usable band.", nullable=True)


def _nullable(values: NDArray[np.floating]) -> pa.Array:
    return pa.array(values.astype(np.float32), pa.float32(), from_pandas=True)


CLASSES = ("star", "galaxy")
"""Stellar classes, in the order of the probability columns."""

STAR_GALAXY = class_dataset("star_galaxy", CLASSES)


_WORDS = {"D": "WhiteDwarf", "C": "Carbon", "d": "BrownDwarf"}

TYPE_COLUMNS = {name: f"pType{_WORDS.get(name, name)}" for name in STELLAR_CLASSES}
"""Stellar class -> probability column; ``D`` and ``d`` are spelt out because SQL ignores case."""


def _optional_float(name: str, doc: str) -> pa.Field:
    return column(name, pa.float32(), "", f"{doc} Null unless classLabel is star.", nullable=True)


SPECTRAL_CLASS = class_dataset(
    "spectral_class",
    SUPERCLASSES,
    (
        column(
            "typeLabel",
            pa.string(),
            "",
            f"Most probable stellar class: {', '.join(STELLAR_CLASSES)}; or {UNKNOWN}. Null unless classLabel is star.",
            nullable=True,
        ),
        *(
            _optional_float(name, f"Calibrated probability of stellar class {label}.")
            for label, name in TYPE_COLUMNS.items()
        ),
        _optional_float("typeScore", "Calibrated probability of the most probable stellar class."),
        _optional_float("typeOutlierScore", "How far outside the training stars; above 1 the type is unknown."),
        column(
            "unknownReason",
            pa.string(),
            "",
            f"Why classLabel, or of a star typeLabel, is {UNKNOWN}; null where neither is. {REASONS_DOC}",
            nullable=True,
        ),
        column(
            "photometricSystem",
            pa.string(),
            "",
            "System of the magnitudes, which colours are taken from to that of SDSS; null: not known or not supported.",
            nullable=True,
        ),
        column("nBands", pa.int32(), "", "Bands of ugriz with a usable magnitude."),
        column("typeModelVersion", pa.string(), "", "Name and version of the model of the stellar class."),
    ),
)
