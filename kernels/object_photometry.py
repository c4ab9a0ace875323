"""Magnitudes of objects, as the classifiers of catalogue rows take them."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.archive_columns import BANDS

WORST = 0.3
"""A magnitude with a larger error, mag, is as good as none: S/N 3.6."""


def object_photometry(objects: pa.Table) -> dict[str, NDArray[np.float32]]:
    """Give the magnitudes in the bands of ugriz.

    Parameters
    ----------
    objects
        Of `schemas.object.OBJECT`; or any table with columns ``<band>_apMag`` and ``<band>_apMagErr``, AB mag.

    Returns
    -------
    dict
        Band -> (n,) float32; NaN where there is no magnitude, or none with an error up to 0.3 mag. Aperture
        magnitudes, as seen through the dust: what the models were trained on is that, too.
    """
    columns = {}
    for band in BANDS:
        magnitude, error = (_values(objects, f"{band}_apMag{part}") for part in ("", "Err"))
        columns[band] = np.where(error <= WORST, magnitude, np.nan).astype(np.float32)
    return columns


def _values(objects: pa.Table, name: str) -> NDArray[np.float32]:
    if name not in objects.column_names:
        return np.full(len(objects), np.nan, np.float32)
    return objects[name].to_numpy().astype(np.float32)
