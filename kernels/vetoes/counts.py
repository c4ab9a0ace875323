"""How many candidates each cause had a part in."""

import numpy as np
from numpy.typing import NDArray

from schemas.cause_count import CauseCount
from schemas.dia_source import CAUSES, DetectionFlag

COUNTED = (*(flag for _, flag, _ in CAUSES), DetectionFlag.SATELLITE)
"""Flags that are counted."""


def count_causes(flags: NDArray[np.integer], published: NDArray[np.bool_]) -> dict[str, CauseCount]:
    """Count candidates by cause.

    Parameters
    ----------
    flags : (n,)
        Bits of `DetectionFlag`.
    published : (n,) bool
        Which of them are given.

    Returns
    -------
    dict
        Name of the flag in lower case -> counts, for every flag of `COUNTED`.
    """
    counts = {}
    for flag in COUNTED:
        has = (flags & flag.value) != 0
        name = str(flag.name).lower()
        counts[name] = CauseCount(refused=int((has & ~published).sum()), published=int((has & published).sum()))
    return counts
