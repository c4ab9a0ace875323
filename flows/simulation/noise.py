"""Sky and read noise, correlated by resampling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from flows.simulation.presets import Preset

_LOBES = 3


def resampling_taps(shift: float, smoothing: float) -> NDArray[np.float64]:
    """Return the one-dimensional kernel that resampling applies to the noise, of unit sum of squares.

    Parameters
    ----------
    shift
        Sub-pixel shift of the resampling, px: Lanczos kernel of three lobes (Duchon 1979, J. Appl. Meteor. 18, 1016).
    smoothing
        Side tap a of an additional kernel (a, 1 - 2a, a): matching of one PSF to another.
    """
    offset = np.arange(-_LOBES + 1, _LOBES + 1) - shift
    lanczos = np.sinc(offset) * np.sinc(offset / _LOBES) * (np.abs(offset) < _LOBES)
    taps = np.convolve(lanczos, (smoothing, 1 - 2 * smoothing, smoothing))
    return taps / np.sqrt(np.sum(taps**2))


@dataclass(frozen=True)
class NoiseField:
    """Noise of one exposure.

    Attributes
    ----------
    sigma
        Standard deviation of a pixel at the image's centre, pixel units.
    slope
        Relative change of it from the centre to the right and to the upper edge.
    shape
        (ny, nx) of the image, px.
    taps_y, taps_x
        Resampling kernel along each axis.
    """

    sigma: float
    slope: tuple[float, float]
    shape: tuple[int, int]
    taps_y: tuple[float, ...]
    taps_x: tuple[float, ...]

    @property
    def correlation(self) -> NDArray[np.float64]:
        """Exact autocorrelation at lags -L..L in y and x, 1 at the centre."""
        along_y, along_x = (np.correlate(taps, taps, "full") for taps in (self.taps_y, self.taps_x))
        return np.outer(along_y, along_x)

    def sigma_at(self, x: NDArray[np.floating] | float, y: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """Return the standard deviation of a pixel there, pixel units."""
        ny, nx = self.shape
        along_x = self.slope[0] * (2 * np.asarray(x, float) / max(nx - 1, 1) - 1)
        along_y = self.slope[1] * (2 * np.asarray(y, float) / max(ny - 1, 1) - 1)
        return self.sigma * (1 + along_x + along_y)

    def sigma_map(self) -> NDArray[np.float32]:
        """Return the standard deviation of every pixel, (ny, nx), pixel units."""
        ny, nx = self.shape
        return self.sigma_at(np.arange(nx, dtype=float)[None, :], np.arange(ny, dtype=float)[:, None]).astype(
            np.float32
        )

    def draw(self, excess: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw one realisation.

        Parameters
        ----------
        excess : (ny, nx) float32
            Variance to add to that of the sky: Poisson noise of sources, pixel units squared.
        rng
            Source of randomness.
        """
        image = rng.standard_normal(self.shape, dtype=np.float32)
        image *= np.sqrt(self.sigma_map() ** 2 + excess)
        # Wrapped around, so that the noise at the border is like that elsewhere.
        image = convolve1d(image, self.taps_y, axis=0, mode="wrap")
        return convolve1d(image, self.taps_x, axis=1, mode="wrap")


def draw_noise_field(preset: Preset, sigma: float, rng: np.random.Generator) -> NoiseField:
    """Draw how the noise of one exposure varies and correlates.

    Parameters
    ----------
    preset
        The survey.
    sigma
        Standard deviation of a pixel at the centre, pixel units.
    rng
        Source of randomness.
    """
    smoothing = rng.uniform(*preset.smoothing)
    taps_y, taps_x = (resampling_taps(rng.uniform(0.0, 0.5), smoothing) for _ in range(2))
    slope = rng.uniform(-0.08, 0.08, 2)
    return NoiseField(sigma, (float(slope[0]), float(slope[1])), preset.shape, tuple(taps_y), tuple(taps_x))
