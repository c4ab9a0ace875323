"""Random numbers that depend on what they are for, not on who draws first."""

import zlib

import numpy as np


def stream(purpose: str, *key: int) -> np.random.Generator:
    """Give the random generator for one purpose and key, the same in every process.

    Parameters
    ----------
    purpose
        What is drawn, e.g. ``"ztf/stars"``.
    key
        Non-negative integers that identify the case: seed, visit index, detector.
    """
    return np.random.default_rng(np.random.SeedSequence([zlib.crc32(purpose.encode()), *key]))
