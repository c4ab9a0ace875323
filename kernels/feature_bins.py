"""Fixed bins in which features of detections are counted, so that nights can be compared without their catalogues."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Bins:
    """Equal steps from ``low`` to ``high``, or equal steps of the logarithm; what lies beyond is in the end bins."""

    low: float
    high: float
    count: int
    log: bool = False

    def histogram(self, values: ArrayLike) -> NDArray[np.int64]:
        """Count finite values.

        Parameters
        ----------
        values : (n,)

        Returns
        -------
        (count,)
        """
        given = np.asarray(values, np.float64)
        given = given[np.isfinite(given)]
        low, high = self.low, self.high
        if self.log:
            given, low, high = np.log(np.maximum(given, self.low)), np.log(self.low), np.log(self.high)
        place = np.clip(((given - low) / (high - low) * self.count).astype(np.int64), 0, self.count - 1)
        return np.bincount(place, minlength=self.count)


FEATURES = {
    "reliability": Bins(0, 1, 50),
    "logitPeak": Bins(-10, 30, 80),
    "snr": Bins(3, 300, 80, log=True),
    "trailLengthPx": Bins(0.1, 1000, 80, log=True),
    "sharpness": Bins(0, 3, 60),
    "negativeFraction": Bins(0, 2, 40),
    "reducedChi2": Bins(0.1, 100, 80, log=True),
}
"""Columns of `dia_source`, and chi squared of the trail fit per pixel.

Only what has a value per detection: what is common to an exposure or a night is no sample, and is judged by its median.
"""
