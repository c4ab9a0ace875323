"""Bits of the mask plane."""

from enum import IntFlag


class MaskPlane(IntFlag):
    """Why a pixel is not to be trusted; names follow Rubin's mask planes."""

    BAD = 1  # dead or hot pixel, bad column
    SAT = 2  # saturated, or bled from a saturated pixel
    INTRP = 4  # interpolated over
    CR = 8  # cosmic ray found upstream
    EDGE = 16  # border without full coverage
    NO_DATA = 32  # no value: NaN, infinite, outside the template
    SUSPECT = 64  # close to saturation, ghost, halo
    DETECTED = 128  # upstream saw a source here: information, not a fault
    DETECTED_NEGATIVE = 256
    STREAK = 512  # upstream saw a satellite or aeroplane trail here


UNUSABLE = MaskPlane.BAD | MaskPlane.SAT | MaskPlane.CR | MaskPlane.EDGE | MaskPlane.NO_DATA
"""Pixels left out of window statistics and of fits."""
