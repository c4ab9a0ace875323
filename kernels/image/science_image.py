"""Science image without its sky."""

from typing import NamedTuple

import numpy as np
import sep
from numpy.typing import NDArray

from schemas.pixels import MaskPlane

_NO_LIGHT = np.uint16(MaskPlane.BAD | MaskPlane.CR | MaskPlane.EDGE)  # NO_DATA and SAT are about the difference image


class ScienceImage(NamedTuple):
    """Science image.

    Attributes
    ----------
    pixels : (ny, nx) float32
        Less the sky, pixel units; 0 where ``bad``.
    bad : (ny, nx) bool
        Pixels without a value that is to be trusted.
    noise : (ny, nx) float32
        Standard deviation of the sky, pixel units.
    """

    pixels: NDArray[np.float32]
    bad: NDArray[np.bool_]
    noise: NDArray[np.float32]


def science_image(science: NDArray[np.float32], mask: NDArray[np.uint16], mesh: int) -> ScienceImage | None:
    """Subtract the sky from a science image.

    Parameters
    ----------
    science, mask : (ny, nx)
        Pixel units, may hold NaN; bits of `schemas.pixels.MaskPlane`. A pixel without a value on the difference image
        alone counts.
    mesh
        Side of the squares over which the sky is estimated, px.

    Returns
    -------
    ScienceImage or None
        None if no pixel has a value, or all have the same.

    Notes
    -----
    Sky and noise are those of SExtractor (Bertin & Arnouts 1996, A&AS 117, 393), as `sep` has them: a clipped mode in
    each square, a median filter of 3 x 3 squares, and a bicubic spline.
    """
    bad = ~np.isfinite(science) | ((mask & _NO_LIGHT) != 0)
    least, most = (
        getattr(science, what)(where=~bad, initial=start) for what, start in (("min", np.inf), ("max", -np.inf))
    )
    if not least < most:
        return None
    pixels = np.where(bad, np.float32(0), science)
    side = {"bw": min(mesh, science.shape[1]), "bh": min(mesh, science.shape[0])}
    sky = sep.Background(pixels, mask=bad, fw=3, fh=3, **side)
    sky.subfrom(pixels)
    pixels[bad] = 0
    noise = sky.rms(dtype=np.float32)
    return ScienceImage(pixels, bad, np.maximum(noise, np.finfo(np.float32).tiny, out=noise))
