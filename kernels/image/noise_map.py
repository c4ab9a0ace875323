"""Variation of the noise over an image."""

import numpy as np
from numpy.typing import NDArray

from kernels.image.noise import MAD_TO_SIGMA, without_steps
from kernels.image.order_statistic import median_of_cell
from kernels.image.variation import mesh_cells, with_nearest
from schemas.exposure import Variation

_SAMPLE = 20_000  # approximate number of pixels of a cell that are used
_EVEN = 0.1  # smaller variations are ignored: stars in a cell cause half of that
_MOST = 5.0  # maximum ratio of a cell's noise to the image's, and of its inverse: beyond is another kind of area


def noise_variation(
    image: NDArray[np.float32], usable: NDArray[np.bool_], noise: float, variance: NDArray[np.float32] | None = None
) -> Variation | None:
    """Measure the noise over an image, relative to that of all of it.

    Parameters
    ----------
    image, usable : (ny, nx)
        Pixels, and which count.
    noise
        Of the image, pixel units.
    variance : (ny, nx)
        Variance of each pixel as its archive tells, in any unit: only its ratios count, as the size of the noise is
        measured. The light of bright sources is in it, and a median does not see it.

    Returns
    -------
    Variation or None
        None where it varies by less than 10 %.

    Notes
    -----
    Cells of about 256 px: the square root of the median variance; else 1.4826 times the median absolute deviation,
    which is good to 1 % in a cell. Cells with too few pixels have the value of the nearest that has enough.
    """
    rows, columns, cells = mesh_cells(image.shape, _SAMPLE)
    shape = len(rows) - 1, len(columns) - 1
    seen = np.array([_spread(image[here], usable[here]) for here in cells])
    if variance is not None:
        told = np.sqrt([_middle(variance[here], usable[here]) for here in cells])
        known = np.isfinite(seen / told)
        seen = told * np.median((seen / told)[known]) if known.any() else seen
    if not np.isfinite(seen).any():
        return None
    relative = with_nearest(seen.reshape(shape) / noise)
    if np.ptp(relative) < _EVEN:
        return None
    values = np.clip(relative, 1 / _MOST, _MOST).round(4).tolist()
    steps = [size / n for size, n in zip(image.shape, shape, strict=True)]
    nodes = [(0.5 * one - 0.5, one) for one in steps]
    return Variation(values=(tuple(map(tuple, values)),), y=nodes[0], x=nodes[1])


def _middle(plane: NDArray[np.float32], usable: NDArray[np.bool_]) -> float:
    """Return the median of a cell; NaN where too little of it counts, or where it is not positive."""
    middle = median_of_cell(plane[usable], usable.size)
    return middle if middle > 0 else np.nan


def _spread(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> float:
    """Return the noise of a cell; NaN where too little of it counts, or where it has none."""
    values = image[usable & np.isfinite(image)]
    if not values.size or values.min() == values.max():
        return np.nan
    values = without_steps(values)
    spread = median_of_cell(np.abs(values - np.float32(median_of_cell(values, usable.size))), usable.size)
    return spread * MAD_TO_SIGMA if spread > 0 else np.nan
