"""Dipoles that an imperfect subtraction leaves."""

from kernels.shape import Lobes

_FRACTION = 0.5  # dark over bright light
_DEPTH = 4.0  # sigma of the smoothed image
_BESIDE = 0.5  # share of the trail that must have dark light beside it


def dipole_evidence(light: Lobes) -> float:
    """Say how much speaks for a dipole: dark light of comparable strength, along most of the bright light.

    Returns
    -------
    float
        0 to 2; the least of three ratios: dark over bright light over 0.5, depth of the darkest pixel over 4 sigma, and
        the share of the trail's length with dark light beside it over 0.5. A hole beside a long trail is another
        star's, and no dipole.
    """
    if not light.negative:
        return 0.0
    dark = light.negative / max(light.positive, 1e-9)
    return float(max(0.0, min(dark / _FRACTION, -light.lowest / _DEPTH, light.beside / _BESIDE, 2.0)))
