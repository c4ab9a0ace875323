"""Star, galaxy or quasar, and which kind of star: the verdicts on the objects of a night."""

import pyarrow as pa

from schemas.class_table import UNKNOWN, class_dataset
from schemas.dataset import column
from schemas.stellar_class import STELLAR_CLASSES
from schemas.superclass import SUPERCLASSES

_WORDS = {"D": "WhiteDwarf", "C": "Carbon", "d": "BrownDwarf"}

TYPE_COLUMNS = {name: f"pType{_WORDS.get(name, name)}" for name in STELLAR_CLASSES}
"""Stellar class -> column of its probability; ``D`` and ``d`` by words, for SQL tells no case apart."""


def _float(name: str, doc: str) -> pa.Field:
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
        *(_float(name, f"Calibrated probability of stellar class {label}.") for label, name in TYPE_COLUMNS.items()),
        _float("typeScore", "Calibrated probability of the most probable stellar class."),
        _float("typeOutlierScore", "How far outside the training stars; above 1 the type is unknown."),
        column("nBands", pa.int32(), "", "Bands of ugriz with a usable magnitude."),
        column("typeModelVersion", pa.string(), "", "Name and version of the model of the stellar class."),
    ),
)
