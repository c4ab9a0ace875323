"""Small pictures of a candidate, for a network to judge."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.bell import FAST
from kernels.footprint import Segment
from kernels.scene import Scene
from kernels.squash import squash
from kernels.trail_model import trail_image

SIDE = 32
"""Of a picture."""

CHANNELS = 6
"""Pictures of a candidate."""

COARSE = 3
"""Side of the squares that the coarse pictures add up, px."""


class Fitted(NamedTuple):
    """A candidate as fitted: trail, flux and level, pixel units."""

    segment: Segment
    flux: float
    level: float


def candidate_stamps(scene: Scene, found: list[Fitted]) -> NDArray[np.float32]:
    """Draw the pictures of some candidates.

    Parameters
    ----------
    scene
        Image with its PSF and noise.
    found
        Candidates.

    Returns
    -------
    (n, CHANNELS, SIDE, SIDE) float32
        About the pixel of the centre (row and column 16): the image less the level of the fit, in units of the noise;
        the same less the fitted trail; that trail; 1 where a pixel does not count. Then, of squares of 3 x 3 px: the
        sum of the first over 3, and the share that does not count. Brightness goes through `kernels.squash.squash`.
    """
    out = np.zeros((len(found), CHANNELS, SIDE, SIDE), np.float32)
    per_noise = 1 / scene.noise.sigma
    for picture, (segment, flux, level) in zip(out, found, strict=True):
        x, y = math.floor(segment.x + 0.5), math.floor(segment.y + 0.5)
        half = SIDE // 2
        model = trail_image(
            (SIDE, SIDE), segment.x - x + half, segment.y - y + half, segment.length, segment.angle, scene.psf
        )
        picture[2] = model * (flux * per_noise)
        _fill(scene.pixels, scene.usable, np.float32(level), np.float32(per_noise), y, x, picture)
        picture[1] = np.where(picture[3] > 0, np.float32(0), picture[0] - picture[2])
        for channel in (0, 1, 2, 4):
            squash(picture[channel])
    return out


@njit(**FAST)
def _fill(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    level: np.float32,
    per_noise: np.float32,
    y: int,
    x: int,
    picture: NDArray[np.float32],
) -> None:
    """Fill channels 0, 3, 4 and 5."""
    ny, nx = pixels.shape
    half = SIDE // 2
    for j in range(SIDE):
        for i in range(SIDE):
            r, c = y + j - half, x + i - half
            if 0 <= r < ny and 0 <= c < nx and usable[r, c]:
                picture[0, j, i] = (pixels[r, c] - level) * per_noise
            else:
                picture[3, j, i] = 1
    first = half * COARSE + COARSE // 2
    for j in range(SIDE * COARSE):
        for i in range(SIDE * COARSE):
            r, c = y + j - first, x + i - first
            if 0 <= r < ny and 0 <= c < nx and usable[r, c]:
                picture[4, j // COARSE, i // COARSE] += (pixels[r, c] - level) * per_noise * np.float32(1 / COARSE)
            else:
                picture[5, j // COARSE, i // COARSE] += np.float32(1 / COARSE**2)
