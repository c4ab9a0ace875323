"""Gaussian and its integral, in a form that compilers turn into vector instructions."""

from kernels.compiled import njit

FAST = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
"""Compiler options for loops over pixels that call these functions; a check for zero division would prevent vectors."""

FURTHEST = 6.4
"""Largest argument x; exp(-x^2) is below 2e-18 there."""

# exp(-s) for 0 <= s <= 41/64, exact at 0, by Chebyshev's interpolation; highest power first.
_DECAY = (
    2.0782904629711026e-07, -2.6711453630415453e-06, 2.4742763811922258e-05, -0.00019838849627047586,
    0.0013888830327915863, -0.008333332564958294, 0.04166666662615944, -0.16666666666745528,
    0.5000000000001064, -1.0000000000000009, 1.0,
)  # fmt: skip

# exp(x^2) erfc(x) for 0 <= x <= 6.4 as a polynomial of a / (x + 2.5) + b, which runs from -1 to 1; highest power first.
_TAIL = (
    3.3895410922468727e-09, -3.4337322318833685e-08, 9.563371783372077e-08, 2.1960454299474463e-07,
    -1.7857722893754868e-06, -3.5694351063764174e-07, 2.793200737827295e-05, -1.1356443133436755e-05,
    -0.000508312664838223, -0.00029707010922796345, 0.011190247049773089, 0.06384914044007414,
    0.19473628271467736, 0.3929016051459892, 0.33811339028462783,
)  # fmt: skip
_A, _B = 6.953125, -1.78125


@njit(**FAST)
def gaussian(x: float) -> float:
    """Return exp(-x^2), for 0 <= x <= `FURTHEST`, to 2e-13 of its value (compiled).

    A polynomial for a 64th of the exponent, squared six times: no table, no branch.
    """
    s = x * x * (1 / 64)
    value = 0.0
    for coefficient in _DECAY:
        value = value * s + coefficient
    value *= value
    value *= value
    value *= value
    value *= value
    value *= value
    return value * value


@njit(**FAST)
def error_function(x: float, decay: float) -> float:
    """Return erf(x), for 0 <= x <= `FURTHEST`, to 2e-13 (compiled).

    Parameters
    ----------
    x
        Argument.
    decay
        ``gaussian(x)``, which the caller needs anyway.

    Notes
    -----
    erf(x) = 1 - exp(-x^2) R(x), R smooth; mapped as by Shepherd & Laframboise 1981, Math. Comp. 36, 249, and fitted by
    least squares.
    """
    t = _A / (x + 2.5) + _B
    value = 0.0
    for coefficient in _TAIL:
        value = value * t + coefficient
    return 1.0 - decay * value
