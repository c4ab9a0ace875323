"""Ghosts of saturated stars in another amplifier."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.trails.geometry import Segment, stadium
from kernels.trails.scene import Scene

_FULL = 0.5  # of the brightest pixel of the science image: brighter pixels may leave a ghost
_CLIP = 4.0  # sigma of a pixel
_LEAST = 100  # pixels
_CUTOUT = 128  # px: a narrower image is a cutout, whose centre is not that of a detector
_BRIGHT = 0.3  # sigma, mean of the ghosts on an image with any
_SURE = 10.0  # standard errors of that mean for white noise
_WIDTH = 1.0  # px from the axis of a trail
_EVIDENCE = 3.0  # for a trail that lies entirely on a ghost; half of it is enough to be refused


def crosstalk_ghosts(scene: Scene, science: NDArray[np.float32] | None) -> NDArray[np.bool_] | None:
    """Return which pixels of a difference image hold ghosts of saturated stars and their bleeds.

    Two amplifiers that are read at the same time, towards opposite sides of a detector, disturb each other: what is
    saturated in one leaves a faint copy in the other, in the same row and mirrored at the middle column (Freyhammer et
    al. 2001, Exp. Astron. 12, 147). Not all cameras do, so each image tells by itself: its pixels that mirror the
    brightest ones of the science image are bright in the mean, or they are not ghosts.

    Parameters
    ----------
    scene
        Difference image with its noise.
    science : (ny, nx)
        Science image on the same pixels; may hold NaN. None if there is none.

    Returns
    -------
    (ny, nx) bool
        None if the image shows no ghosts, fewer than 100 pixels could tell, or it is a cutout of 128 px or less.
    """
    if science is None or science.shape[1] <= _CUTOUT:
        return None
    bright = science > _FULL * float(np.nanmax(science, initial=0.0))
    mirrored = bright[:, ::-1] & ~bright  # a star on the middle column is its own mirror image
    light = (scene.pixels[mirrored & scene.usable] - scene.background) / scene.noise.sigma
    if len(light) < _LEAST:
        return None
    mean = float(np.clip(light, -_CLIP, _CLIP).mean())
    return mirrored if mean >= max(_BRIGHT, _SURE / math.sqrt(len(light))) else None


def crosstalk_evidence(scene: Scene, trail: Segment) -> float:
    """Return the evidence that a trail is a ghost, 0 to 2.5: the share of it that lies on `Scene.ghosts`."""
    if scene.ghosts is None:
        return 0.0
    here = stadium(scene.shape, trail, _WIDTH)
    return min(_EVIDENCE * float(scene.ghosts[here.y, here.x].mean()), 2.5) if len(here.y) else 0.0
