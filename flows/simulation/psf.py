"""Point spread functions of simulated exposures, and stamps drawn with them."""

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from flows.simulation.presets import Preset

_TRAIL_WIDTH = 0.01  # px: a line that is just wide enough for GalSim to draw


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PsfStamp:
    """Image of a source with unit flux; ``y0``, ``x0`` is the position of its first pixel in the exposure."""

    pixels: NDArray[np.float64]
    y0: int
    x0: int


@dataclass(frozen=True)
class SimulatedPsfField:
    """Elliptical Moffat profile whose width and shape vary over the image.

    Attributes
    ----------
    fwhm, beta
        At the centre of the image: full width at half maximum, px; slope.
    slope, bowl
        Relative change of the FWHM to the right and upper edges; additional change to the corners.
    shear, shear_slope
        (g1, g2) at the centre, and its change from the centre to an edge.
    shape
        (ny, nx) of the image, px.
    """

    fwhm: float
    beta: float
    slope: tuple[float, float]
    bowl: float
    shear: tuple[float, float]
    shear_slope: tuple[float, float]
    shape: tuple[int, int]

    def _relative(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[Floats, Floats]:
        ny, nx = self.shape
        u = 2 * np.asarray(x, float) / max(nx - 1, 1) - 1
        v = 2 * np.asarray(y, float) / max(ny - 1, 1) - 1
        return np.clip(u, -1.1, 1.1), np.clip(v, -1.1, 1.1)

    def fwhm_at(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the full width at half maximum at given positions, px."""
        u, v = self._relative(x, y)
        return self.fwhm * (1 + self.slope[0] * u + self.slope[1] * v + self.bowl * (u**2 + v**2) / 2)

    def shear_at(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Return the reduced shear (g1, g2) at given positions."""
        u, v = self._relative(x, y)
        return self.shear[0] + self.shear_slope[0] * u, self.shear[1] + self.shear_slope[1] * v

    def trail(self, x: float, y: float, length: float, angle: float) -> PsfStamp:
        """Draw a trail with unit flux: a line convolved with the PSF, or a point if ``length`` is 0.

        Parameters
        ----------
        x, y
            Centre, 0-based px.
        length, angle
            px; deg from +x towards +y.
        """
        fwhm = float(self.fwhm_at(np.asarray(x), np.asarray(y)))
        g1, g2 = (float(part) for part in self.shear_at(np.asarray(x), np.asarray(y)))
        profile = galsim.Moffat(beta=self.beta, fwhm=fwhm).shear(g1=g1, g2=g2)
        if length > 0:
            line = galsim.Box(length, _TRAIL_WIDTH).rotate(angle * galsim.degrees)
            profile = galsim.Convolve(profile, line)
        reach = np.deg2rad(angle)
        half_x = int(np.ceil(length / 2 * abs(np.cos(reach)) + 5 * fwhm))
        half_y = int(np.ceil(length / 2 * abs(np.sin(reach)) + 5 * fwhm))
        column, row = round(x), round(y)
        image = galsim.ImageD(2 * half_x + 1, 2 * half_y + 1, scale=1.0)
        # The profile is the effective PSF, which includes the pixel, so it is sampled.
        profile.drawImage(image=image, offset=(x - column, y - row), method="no_pixel")
        return PsfStamp(image.array, row - half_y, column - half_x)


def moffat(
    dx: NDArray[np.floating],
    dy: NDArray[np.floating],
    fwhm: NDArray[np.floating],
    beta: float,
    g1: NDArray[np.floating],
    g2: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Return a sheared Moffat profile with unit flux at offsets from its centre; all arguments broadcast.

    Moffat 1969, A&A 3, 455; shear as in Bernstein & Jarvis 2002, AJ 123, 583, which keeps the area.
    """
    alpha2 = fwhm**2 / (4 * (2 ** (1 / beta) - 1))
    u = (1 - g1) * dx - g2 * dy
    v = (1 + g1) * dy - g2 * dx
    radius2 = (u**2 + v**2) / (1 - g1**2 - g2**2)
    peak = (beta - 1) / (np.pi * alpha2)
    return (peak * np.exp(-beta * np.log1p(radius2 / alpha2))).astype(np.float32)


def fitted_moffat(stamp: NDArray[np.floating]) -> tuple[float, float]:
    """Return FWHM (px) and slope of the round Moffat profile that best fits a PSF sampled at pixel centres."""
    ny, nx = stamp.shape
    dy, dx = np.arange(ny)[:, None] - ny // 2, np.arange(nx)[None, :] - nx // 2
    zero = np.zeros(1)

    def away(guess: NDArray[np.float64]) -> NDArray[np.float64]:
        return (guess[0] * moffat(dx, dy, guess[1], guess[2], zero, zero).astype(float) - stamp).ravel()

    width = 2 * np.sqrt(max(float((stamp > 0.5 * stamp.max()).sum()), 1.0) / np.pi)
    best = least_squares(away, (1.0, width, 3.0), bounds=((0.1, 0.5, 1.2), (10.0, 40.0, 20.0)), diff_step=1e-3).x
    return float(best[1]), float(best[2])


def draw_psf_field(preset: Preset, fwhm: float, rng: np.random.Generator) -> SimulatedPsfField:
    """Draw how the PSF of one exposure varies; ``fwhm`` (px) is that at the centre."""
    slope, shear, shear_slope = rng.uniform(-0.05, 0.05, 2), rng.uniform(-0.03, 0.03, 2), rng.uniform(-0.04, 0.04, 2)
    return SimulatedPsfField(
        fwhm=fwhm,
        beta=float(rng.uniform(*preset.beta)),
        slope=(float(slope[0]), float(slope[1])),
        bowl=float(rng.uniform(0.0, 0.08)),
        shear=(float(shear[0]), float(shear[1])),
        shear_slope=(float(shear_slope[0]), float(shear_slope[1])),
        shape=preset.shape,
    )
