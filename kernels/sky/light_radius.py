"""Distance of a place from an object, in units of the object's size in that direction."""

import numpy as np
from numpy.typing import NDArray


def directional_distance(
    separation: NDArray[np.float64],
    direction: NDArray[np.float64],
    half_light: NDArray[np.float64],
    elongation: NDArray[np.float64],
    position_angle: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the separation over the directional light radius.

    Parameters
    ----------
    separation, direction : (n,)
        From the object to the place, any unit of angle; its position angle, deg, north through east.
    half_light, elongation, position_angle : (n,)
        Of the object: half-light radius in the same unit, major over minor axis, position angle of the major axis, deg.

    Returns
    -------
    (n,)
        1 on the ellipse of the half-light radius (Gupta et al. 2016, AJ 152, 154, eqs. 1 to 3).

    Notes
    -----
    The ellipse has the area of the half-light circle: semi-axes R sqrt(e) and R / sqrt(e). The radius towards phi is
    a b / sqrt((a sin phi)^2 + (b cos phi)^2).
    """
    phi = np.radians(direction - position_angle)
    a, b = half_light * np.sqrt(elongation), half_light / np.sqrt(elongation)
    radius = a * b / np.hypot(a * np.sin(phi), b * np.cos(phi))
    return separation / radius
