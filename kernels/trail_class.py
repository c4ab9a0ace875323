"""Which candidates are satellites or aeroplanes, and what lies in their light."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.candidates import Candidate, absorb
from kernels.psf import GaussianMixture
from kernels.satellite import is_satellite, wing_radius


class Classified(NamedTuple):
    """A candidate with its class, and how far from it its light spoils other detections, px.

    The class is ``satellite``, ``glint_trail``, or empty.
    """

    candidate: Candidate
    trail_class: str
    half_width: float


def classify(
    candidates: Sequence[Candidate],
    mask: NDArray[np.uint16],
    longest: float,
    psf: GaussianMixture,
    fwhm_px: float,
) -> list[Classified]:
    """Tell satellites from the rest, and give them what lies in their light.

    Parameters
    ----------
    candidates
        Each trail once.
    mask : (ny, nx) uint16
        Mask plane.
    longest
        Of an asteroid's trail, px; see `kernels.satellite.longest_asteroid`.
    psf, fwhm_px
        Point-spread function, and its FWHM, px.
    """
    rest: list[Candidate] = []
    found: list[Candidate] = []
    for one in candidates:
        seen = one.flashes or is_satellite(one.trail, mask, longest, fwhm_px)
        (found if seen else rest).append(one)
    classified = []
    for one in found:
        width = wing_radius(one.trail, psf, fwhm_px)
        whole, rest = absorb(one, width, rest)
        classified.append(Classified(whole, "glint_trail" if one.flashes else "satellite", width))
    return classified + [Classified(one, "", 0.0) for one in rest]
