"""Objects in the sky, and the science image and template on which a detector records them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from flows.simulation.canvas import Canvas, Stars, add_stamp
from flows.simulation.conditions import Conditions
from flows.simulation.detector import add_reflections, add_spikes, bleed, crosstalk, resampled_noise, uneven_sky
from flows.simulation.subtraction.epochs import Epochs
from flows.simulation.subtraction.optics import FieldOptics, draw_points

Image = NDArray[np.float32]
Floats = NDArray[np.float64]


class Components(NamedTuple):
    """Sersic profiles, (n,) each; a galaxy has one or two of them.

    Positions are in 0-based px, fluxes in pixel units, half-light radii along the major axis in px, angles in deg from
    +x towards +y; ``galaxy`` is the index of the galaxy.
    """

    galaxy: NDArray[np.int64]
    x: Floats
    y: Floats
    flux: Floats
    radius: Floats
    ratio: Floats
    angle: Floats
    sersic: Floats


class Streak(NamedTuple):
    """Trail: centre, 0-based px; length, px; angle, deg from +x towards +y; flux, pixel units; name."""

    x: float
    y: float
    length: float
    angle: float
    flux: float
    name: str


@dataclass(frozen=True)
class Change:
    """Point source whose flux on the science image exceeds that on the template by ``flux``, pixel units.

    ``host`` is the index of a variable's star on the template; -1 for other points.
    """

    name: str
    x: float
    y: float
    flux: float
    host: int = -1


@dataclass(frozen=True)
class FieldSky:
    """Content of the sky in one exposure.

    Attributes
    ----------
    stars
        All stars, as on the template.
    galaxies
        Components of galaxies.
    trails
        Asteroids on the science image.
    old_trails
        Asteroids on the template.
    changes
        Variable stars, supernovae and active nuclei.
    """

    stars: Stars
    galaxies: Components
    trails: tuple[Streak, ...]
    old_trails: tuple[Streak, ...]
    changes: tuple[Change, ...]


_EDGE = 0.1  # in units of sigma: light that a star may miss at the edge of its disc
_TRAIL_REACH = 5.0  # in FWHM, around a trail


class Observed(NamedTuple):
    """Images on the grid of the science image, (ny, nx) float32, pixel units, and masks of saturation, bool.

    Attributes
    ----------
    science, template
        Science image with sky, and template without.
    sky
        Mean sky level of the science image.
    saturated_science, saturated_template
        Pixels at the full well.
    """

    science: Image
    template: Image
    sky: float
    saturated_science: NDArray[np.bool_]
    saturated_template: NDArray[np.bool_]


def expose(sky: FieldSky, canvas: Canvas, epochs: Epochs, conditions: Conditions) -> Observed:
    """Record a science image and its template.

    Parameters
    ----------
    sky
        Content of the sky.
    canvas
        Other light on the science image: satellites and ghosts in ``signal``, cosmic rays and defects in ``sharp``.
    epochs
        Differences of the two.
    conditions
        Conditions of the exposure.
    """
    preset = conditions.preset
    sigmas = epochs.sigmas(conditions)
    level = max(sigmas[0] ** 2 - (preset.read_noise / preset.gain) ** 2, 0.2 * sigmas[0] ** 2) * preset.gain
    science = _science_light(sky, epochs.science, conditions) + canvas.signal
    science *= 1 - np.float32(epochs.nonlinearity) * np.clip(science / np.float32(preset.saturation), 0, 1)
    template = _template_light(sky, epochs, conditions)
    science += _noise(science, sigmas[0], 1.0, epochs, conditions)
    science += canvas.sharp + np.float32(level)
    if epochs.sky:
        science += np.float32(epochs.sky) * uneven_sky(conditions, level)
    template += _noise(template, sigmas[1], epochs.depth, epochs, conditions)
    for image in (science, template):
        bleed(image, preset.saturation)
    full = np.float32(0.98 * preset.saturation)
    saturated = science >= full, template >= full
    if epochs.crosstalk:
        science += crosstalk(science, preset.saturation, epochs.crosstalk)
    return Observed(science, template, level, *saturated)


def _science_light(sky: FieldSky, optics: FieldOptics, conditions: Conditions) -> Image:
    image = np.zeros(conditions.preset.shape, np.float32)
    stars, level = sky.stars, _EDGE * conditions.noise.sigma
    draw_light(image, optics, stars.x, stars.y, stars.flux, level)
    add_galaxies(image, optics, sky.galaxies)
    if sky.changes:
        x, y, flux = (np.array([getattr(one, name) for one in sky.changes]) for name in ("x", "y", "flux"))
        draw_light(image, optics, x, y, flux, level)
    _draw_trails(image, optics, sky.trails)
    turn = float(conditions.stream("subtract/spikes").normal(0, 0.5))
    add_spikes(image, (stars.x, stars.y, stars.flux), conditions, turn, optics.field.fwhm)
    add_reflections(image, (stars.x, stars.y, stars.flux), conditions)
    return image


def _template_light(sky: FieldSky, epochs: Epochs, conditions: Conditions) -> Image:
    """Return the light of a template: the same sky with errors of registration and calibration."""
    image, stars = np.zeros(conditions.preset.shape, np.float32), sky.stars
    own = conditions.field_stream(f"subtract/stars/{conditions.band}").standard_normal((3, len(stars.x)))
    moved = conditions.stream("subtract/turbulence").standard_normal((2, len(stars.x)))
    x = stars.x + epochs.offset_x.at(stars.x, stars.y) + epochs.star_offset * (own[0] + moved[0]) / 2**0.5
    y = stars.y + epochs.offset_y.at(stars.x, stars.y) + epochs.star_offset * (own[1] + moved[1]) / 2**0.5
    flux = stars.flux * (1 + epochs.gain_error.at(stars.x, stars.y) + epochs.star_gain * own[2])
    draw_light(image, epochs.template, x, y, flux, _EDGE * conditions.noise.sigma)
    add_galaxies(image, epochs.template, _misplaced(sky.galaxies, epochs))
    _draw_trails(image, epochs.template, sky.old_trails)
    turn = 0.0 if conditions.preset.layout == "ztf" else 45.0 * float(own[0, 0]) if len(stars.x) else 0.0
    add_spikes(image, (x, y, flux), conditions, turn, epochs.template.field.fwhm)
    return image


def _misplaced(galaxies: Components, epochs: Epochs) -> Components:
    x, y = galaxies.x, galaxies.y
    gain = 1 + epochs.gain_error.at(x, y)
    return galaxies._replace(x=x + epochs.offset_x.at(x, y), y=y + epochs.offset_y.at(x, y), flux=galaxies.flux * gain)


def _draw_trails(image: Image, optics: FieldOptics, trails: tuple[Streak, ...]) -> None:
    for one in trails:
        stamp = optics.trail(one.x, one.y, one.length, one.angle, _TRAIL_REACH * optics.field.fwhm)
        add_stamp(image, (one.flux * stamp.pixels).astype(np.float32), stamp.y0, stamp.x0)


def _noise(light: Image, sigma: float, depth: float, epochs: Epochs, conditions: Conditions) -> Image:
    """Return the noise of an image: from sky and readout, uneven over the image, and from all light on it."""
    spread = (conditions.noise.sigma_map() * np.float32(sigma / conditions.noise.sigma)) ** 2
    spread += np.maximum(light, 0) / np.float32(conditions.preset.gain * depth)
    spread = np.float32(epochs.noise) * np.sqrt(spread, out=spread)
    if depth == 1.0:
        return spread * conditions.stream("subtract/noise").standard_normal(spread.shape, dtype=np.float32)
    return resampled_noise(spread, conditions, conditions.field_stream(f"subtract/noise/{conditions.band}"))


_SIDES = (32, 64, 128, 256)  # sides of the stamps of galaxies, px
_CELLS = 4  # along each axis; within a cell galaxies have the same PSF
_TRUNCATION = 6.0  # in half-light radii
_WIDEST = 80.0  # largest wave number of a table, in units of 1 / radius


def draw_light(
    image: NDArray[np.float32], optics: FieldOptics, x: Floats, y: Floats, flux: Floats, level: float
) -> None:
    """Add points to an image in place, each out to where it is fainter than ``level``, pixel units."""
    draw_points(image, x, y, flux, optics.profiles(x, y), optics.reach(flux, level))


def add_galaxies(image: NDArray[np.float32], optics: FieldOptics, galaxies: Components) -> None:
    """Add galaxies convolved with the PSF to an image in place.

    Each is a product of Fourier transforms up to the Nyquist frequency: of the profile, from a table made by GalSim; of
    the PSF of its cell; and of its sub-pixel shift.
    """
    ny, nx = image.shape
    reach = 5 * galaxies.radius + 6 * optics.field.fwhm
    kind = np.minimum(np.searchsorted(np.array(_SIDES) / 2, reach), len(_SIDES) - 1)
    transforms: dict[tuple[int, int, int], NDArray[np.complex64]] = {}
    for n in range(len(galaxies.x)):
        x, y, side = float(galaxies.x[n]), float(galaxies.y[n]), _SIDES[kind[n]]
        if not (-side / 2 < x < nx + side / 2 and -side / 2 < y < ny + side / 2):
            continue
        row, column = (int(np.clip(_CELLS * at // size, 0, _CELLS - 1)) for at, size in ((y, ny), (x, nx)))
        if (row, column, side) not in transforms:
            middle = (column + 0.5) * nx / _CELLS, (row + 0.5) * ny / _CELLS
            transforms[row, column, side] = _transform(optics, middle, side)
        waves = transforms[row, column, side] * _profile(galaxies, n, side)
        left, low = round(x), round(y)
        waves *= _phase(side, y - low)[:, None] * _phase(side, x - left)[None, : side // 2 + 1]
        stamp = fft.fftshift(fft.irfft2(waves, s=(side, side)))
        add_stamp(image, np.float32(galaxies.flux[n]) * stamp.astype(np.float32), low - side // 2, left - side // 2)


def _transform(optics: FieldOptics, place: tuple[float, float], side: int) -> NDArray[np.complex64]:
    half = side // 2
    return fft.rfft2(fft.ifftshift(optics.stamp(*place, half)[:side, :side])).astype(np.complex64)


def _profile(galaxies: Components, n: int, side: int) -> NDArray[np.float32]:
    """Return the transform of a centred galaxy with unit flux, which is real since the profile is symmetric."""
    radius, ratio, angle = float(galaxies.radius[n]), float(galaxies.ratio[n]), np.deg2rad(float(galaxies.angle[n]))
    along, across = (2 * np.pi * part for part in (fft.rfftfreq(side)[None, :], fft.fftfreq(side)[:, None]))
    major = along * np.cos(angle) + across * np.sin(angle)
    minor = (across * np.cos(angle) - along * np.sin(angle)) * ratio
    waves, table = _table(float(galaxies.sersic[n]))
    return np.interp(radius * np.sqrt(major**2 + minor**2), waves, table).astype(np.float32)


def _phase(side: int, shift: float) -> NDArray[np.complex64]:
    return np.exp(-2j * np.pi * fft.fftfreq(side) * shift).astype(np.complex64)


@lru_cache
def _table(sersic: float) -> tuple[Floats, Floats]:
    """Return the transform of a round profile with half-light radius 1, as a function of wave number times radius."""
    waves = np.concatenate([np.linspace(0, 4, 200, endpoint=False), np.geomspace(4, _WIDEST, 200)])
    profile = galsim.Sersic(sersic, half_light_radius=1.0, trunc=_TRUNCATION)
    return waves, np.array([profile.kValue(wave, 0).real for wave in waves])
