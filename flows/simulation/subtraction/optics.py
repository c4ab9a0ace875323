"""Optics of one image: a PSF with coma and an aureole that varies over the field, and drawing with it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flows.simulation.psf import PsfStamp, SimulatedPsfField
from kernels.compiled import njit
from kernels.image.gaussian import FAST

Floats = NDArray[np.float64]

_LOBE = 1.5
"""Width of the second, shifted profile that makes the coma, relative to the first."""

_STEP = 0.1
"""Distance between the points from which a trail is drawn, in FWHM."""


@dataclass(frozen=True)
class FieldOptics:
    """PSF of one image: a sheared Moffat profile, part of it shifted and wider (coma), and an aureole around it.

    Attributes
    ----------
    field
        Width, slope and shear of the Moffat profile, and their variation.
    coma
        Shift of the second profile, in FWHM: in x at the right edge, in y at the upper edge, and everywhere in x and y.
    coma_share
        Fraction of light in the second profile.
    aureole, aureole_width
        Light far out, in addition to the unit flux: its fraction, and its core radius in FWHM; it falls as radius^-3
        (King 1971, PASP 83, 199, finds -2 beyond several arcminutes).
    """

    field: SimulatedPsfField
    coma: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    coma_share: float = 0.0
    aureole: float = 0.0
    aureole_width: float = 5.0

    def profiles(self, x: Floats, y: Floats) -> NDArray[np.float32]:
        """Return the parameters of `_pixel` for the PSF at given positions, (n, 12); its centre of light is at 0."""
        ny, nx = self.field.shape
        fwhm, (g1, g2) = self.field.fwhm_at(x, y), self.field.shear_at(x, y)
        alpha2 = fwhm**2 / (4 * (2 ** (1 / self.field.beta) - 1))
        norm = alpha2 * (1 - g1**2 - g2**2)
        u, v = 2 * np.asarray(x) / max(nx - 1, 1) - 1, 2 * np.asarray(y) / max(ny - 1, 1) - 1
        along_x, along_y, shift_x, shift_y = self.coma
        coma_x, coma_y = fwhm * (shift_x + along_x * u), fwhm * (shift_y + along_y * v)
        columns = (
            ((1 - g1) ** 2 + g2**2) / norm,
            -4 * g2 / norm * np.ones_like(u),
            ((1 + g1) ** 2 + g2**2) / norm,
            (self.field.beta - 1) / (np.pi * alpha2),
            np.full_like(u, self.field.beta),
            coma_x,
            coma_y,
            np.full_like(u, self.coma_share),
            1 / (self.aureole_width * fwhm) ** 2,
            self.aureole / (2 * np.pi * (self.aureole_width * fwhm) ** 2),
            self.coma_share * coma_x,
            self.coma_share * coma_y,
        )
        return np.stack([np.broadcast_to(column, u.shape) for column in columns], axis=-1).astype(np.float32)

    def stamp(self, x: float, y: float, half: int, dx: float = 0.0, dy: float = 0.0) -> NDArray[np.float32]:
        """Draw the PSF at (x, y) on (2 half + 1)^2 px, with its centre (dx, dy) from that of the middle pixel."""
        image = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        profiles = self.profiles(np.array([x]), np.array([y]))
        draw_points(image, np.array([half + dx]), np.array([half + dy]), np.ones(1), profiles, np.array([4 * half]))
        return image

    def trail(self, x: float, y: float, length: float, angle: float, half: float) -> PsfStamp:
        """Draw a trail with unit flux on a stamp that extends ``half`` px beyond its ends; a point if the length is 0.

        Parameters
        ----------
        x, y
            Centre, 0-based px.
        length, angle
            px; deg from +x towards +y.
        half
            px.
        """
        number = max(1, int(np.ceil(length / (_STEP * self.field.fwhm))))
        along = ((np.arange(number) + 0.5) / number - 0.5) * length
        across, up = along * np.cos(np.deg2rad(angle)), along * np.sin(np.deg2rad(angle))
        half_x, half_y = (int(np.ceil(np.abs(part).max() + half)) for part in (across, up))
        column, row = round(x), round(y)
        image = np.zeros((2 * half_y + 1, 2 * half_x + 1), np.float32)
        profiles = np.repeat(self.profiles(np.array([x]), np.array([y])), number, axis=0)
        radius = np.full(number, int(np.ceil(half)) + 1)
        place = across + half_x + x - column, up + half_y + y - row
        draw_points(image, *place, np.full(number, 1 / number), profiles, radius)
        return PsfStamp(image.astype(np.float64), row - half_y, column - half_x)

    def measured(self, rng: np.random.Generator, error: float) -> "FieldOptics":
        """Return the PSF as measured by a pipeline: without aureole, with relative errors of width and shape."""
        field, off = self.field, error * rng.standard_normal(4)
        shear = field.shear[0] + float(off[1]), field.shear[1] + float(off[2])
        width, beta = field.fwhm * (1 + float(off[0])), field.beta * (1 + 2 * float(off[3]))
        return replace(self, field=replace(field, fwhm=width, shear=shear, beta=beta), aureole=0.0)

    def reach(self, flux: Floats, level: float) -> NDArray[np.int64]:
        """Return the distance from its centre at which a point fades below ``level``, px; at least 5."""
        radii = np.unique(np.geomspace(5, 700, 80).astype(int))
        stamp = self.profiles(*(np.array([(side - 1) / 2]) for side in self.field.shape[::-1]))
        light = _light(radii.astype(np.float32), np.zeros(len(radii), np.float32), stamp[0])
        enough = np.searchsorted(-light, -level / np.maximum(np.abs(flux), 1e-9))
        return radii[np.minimum(enough, len(radii) - 1)]


@njit(**FAST)
def _pixel(dx, dy, p):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the light of a profile, given as a row of `FieldOptics.profiles`, at an offset from its centre."""
    dx, dy = dx + p[10], dy + p[11]
    q = p[0] * dx * dx + p[1] * dx * dy + p[2] * dy * dy
    value = (np.float32(1) - p[7]) * p[3] * np.exp(-p[4] * np.log(np.float32(1) + q))
    if p[7] > 0:
        ex, ey = dx - p[5], dy - p[6]
        lobe = (p[0] * ex * ex + p[1] * ex * ey + p[2] * ey * ey) / np.float32(_LOBE * _LOBE)
        value += p[7] * p[3] / np.float32(_LOBE * _LOBE) * np.exp(-p[4] * np.log(np.float32(1) + lobe))
    if p[9] > 0:
        far = np.float32(1) + p[8] * (dx * dx + dy * dy)
        value += p[9] / (far * np.sqrt(far))
    return value


@njit(**FAST)
def _light(dx, dy, profile):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    out = np.empty(len(dx), np.float32)
    for n in range(len(dx)):
        out[n] = _pixel(dx[n], dy[n], profile)
    return out


@njit(**FAST)
def draw_points(image, x, y, flux, profiles, radius):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Add points to ``image`` in place, each a disc of ``radius`` px (compiled).

    Parameters
    ----------
    image : (ny, nx) float32
        Image in any unit.
    x, y, flux : (n,) float64
        0-based px; unit of ``image``.
    profiles : (n, 12) float32
        From `FieldOptics.profiles`.
    radius : (n,) int
        px.
    """
    ny, nx = image.shape
    for n in range(len(x)):
        r = float(radius[n])
        for row in range(max(0, int(np.ceil(y[n] - r))), min(ny - 1, int(np.floor(y[n] + r))) + 1):
            dy = row - y[n]
            if abs(dy) > r:
                continue
            chord = np.sqrt(r * r - dy * dy)
            for column in range(max(0, int(np.ceil(x[n] - chord))), min(nx - 1, int(np.floor(x[n] + chord))) + 1):
                value = _pixel(np.float32(column - x[n]), np.float32(dy), profiles[n])
                image[row, column] += np.float32(flux[n]) * value
