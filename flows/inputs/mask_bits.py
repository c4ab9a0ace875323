"""Translation of other pipelines' masks to our bits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from schemas.pixels import MaskPlane

ZTF_BITS = {
    0: MaskPlane.STREAK,  # aircraft or satellite track
    1: MaskPlane.DETECTED,
    2: MaskPlane.BAD,  # low responsivity
    3: MaskPlane.BAD,  # high responsivity
    4: MaskPlane.BAD,  # noisy
    5: MaskPlane.SUSPECT,  # ghost of a bright source
    7: MaskPlane.CR,  # pixel spike
    8: MaskPlane.SAT,
    9: MaskPlane.BAD,  # dead
    10: MaskPlane.NO_DATA,  # not a number
    11: MaskPlane.DETECTED,
    12: MaskPlane.SUSPECT,  # halo of a bright source
}
"""Bits of ZTF's mask images (Masci et al. 2019, PASP 131, 018003; keywords BIT00 to BIT15)."""

_RUBIN_NAMES = {plane.name: plane for plane in MaskPlane} | {
    "UNMASKEDNAN": MaskPlane.NO_DATA,
    "SENSOR_EDGE": MaskPlane.EDGE,
    "VIGNETTED": MaskPlane.SUSPECT,
    "CROSSTALK": MaskPlane.SUSPECT,
    "SPIKE": MaskPlane.SUSPECT,
    "SAT_TEMPLATE": MaskPlane.SUSPECT,
}


def ztf_mask(mask: NDArray[Any], _header: fits.Header) -> NDArray[np.uint16]:
    """Translate the bits of a ZTF mask image."""
    return translated(mask, ZTF_BITS)


def rubin_mask(mask: NDArray[Any], header: fits.Header) -> NDArray[np.uint16]:
    """Translate a Rubin mask, whose header numbers the planes: ``MP_SAT = 1`` puts SAT at bit 1."""
    bits = {
        int(header[key]): plane
        for key in header
        if key.startswith("MP_") and (plane := _RUBIN_NAMES.get(key.removeprefix("MP_")))
    }
    return translated(mask, bits)


def plain_mask(mask: NDArray[Any], _header: fits.Header) -> NDArray[np.uint16]:
    """Mark all pixels other than 0 as bad."""
    return np.where(np.nan_to_num(mask, nan=1) != 0, MaskPlane.BAD.value, 0).astype(np.uint16)


def named_mask(mask: NDArray[Any], header: fits.Header) -> NDArray[np.uint16]:
    """Translate a mask by the planes that its header numbers, if it does; else mark all pixels other than 0 as bad."""
    return (rubin_mask if has_named_planes(header) else plain_mask)(mask, header)


def has_named_planes(header: fits.Header) -> bool:
    """Return whether a header numbers the planes of its mask, as Rubin's pipelines write it, with a name known here."""
    return any(key.startswith("MP_") and key.removeprefix("MP_") in _RUBIN_NAMES for key in header)


def translated(mask: NDArray[Any], bits: Mapping[int, MaskPlane]) -> NDArray[np.uint16]:
    """Return a mask in our bits.

    Parameters
    ----------
    mask
        Integer values, of any dtype, floats included.
    bits
        Bit number -> our plane; other bits are dropped.
    """
    whole = mask if mask.dtype.kind in "iu" else np.nan_to_num(mask).astype(np.int64)
    ours = np.zeros(mask.shape, np.uint16)
    for bit, plane in bits.items():
        ours[(whole >> bit) & 1 == 1] |= plane.value
    return ours
