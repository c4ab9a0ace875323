"""Power law y = a x^n, fitted on log-log axes."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import linregress


@dataclass(frozen=True)
class PowerLaw:
    """Exponent with its standard error, and the factor."""

    exponent: float
    error: float
    factor: float

    def __call__(self, x):
        """Return the value at x."""
        return self.factor * np.asarray(x, float) ** self.exponent

    def __str__(self):
        return f"{self.exponent:.2f} ± {self.error:.2f}"


def fit_power_law(x, y):
    """Fit log y on log x by least squares."""
    line = linregress(np.log(x), np.log(y))
    return PowerLaw(float(line.slope), float(line.stderr), float(np.exp(line.intercept)))
