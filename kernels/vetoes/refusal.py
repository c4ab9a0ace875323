"""Which candidates are never published, whatever the verdict says of them."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

REFUSING = ("bleed", "cosmicRay", "hotColumn", "ghost")
"""Causes, as in `schemas.dia_source.CAUSES`, that alone are enough. Each of them costs fewer than 0.3 % of true streaks
in every range of S/N and length (docs/vetoes.md); the others cost more, and only set a flag."""

LEAST_EVIDENCE = 1.5
"""From here on; the flag is set from 1 on."""


def refused(table: pa.Table) -> NDArray[np.bool_]:
    """Tell which measured candidates, rows of `schemas.dia_source`, are refused; satellites never are."""
    evidence = np.stack([table[f"{name}Evidence"].to_numpy() for name in REFUSING])
    kept = np.array([name != "" for name in table["trailClass"].to_pylist()], np.bool_)
    return np.asarray((evidence >= LEAST_EVIDENCE).any(0) & ~kept)
