"""Effects of a detector and its optics: spikes, reflections, bleeding, crosstalk, noise."""

import numpy as np
from numpy.typing import NDArray

from flows.simulation.conditions import Conditions
from kernels.compiled import njit
from kernels.image.gaussian import FAST

_SPIKES = 0.006  # fraction of a star's light in its four diffraction spikes
_SPIKE_MAGNITUDES = 1.0  # magnitudes below saturation of the faintest stars with spikes
_FRINGED = ("i", "z", "y")
_LOBES = 3


def add_spikes(
    image: NDArray[np.float32],
    places: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    conditions: Conditions,
    turn: float,
    fwhm: float,
) -> None:
    """Add the diffraction spikes of bright stars to an image in place.

    Parameters
    ----------
    image : (ny, nx) float32
        Image, pixel units.
    places
        x, y, flux of all stars.
    conditions
        Conditions of the exposure.
    turn, fwhm
        Rotation of the spikes relative to the camera's, deg; width of the spikes, px.
    """
    sides = np.linspace(-1, 1, 5)
    shares = np.exp(-4 * np.log(2) * sides**2)
    limit = conditions.flux_of(conditions.preset.saturated_magnitude + _SPIKE_MAGNITUDES)
    for x, y, flux in zip(*places, strict=True):
        if flux < limit:
            continue
        length = 8 * fwhm * (flux / limit) ** 0.35
        distance = np.arange(0.25, 4 * length, 0.5)
        light = _SPIKES * flux / 4 * np.exp(-distance / length)
        light /= 2 * length
        for arm in range(4):
            angle = np.deg2rad(conditions.preset.spike_angle + turn + 90 * arm)
            for side, share in zip(fwhm * sides, shares / shares.sum(), strict=True):
                spike_x = x + distance * np.cos(angle) - side * np.sin(angle)
                spike_y = y + distance * np.sin(angle) + side * np.cos(angle)
                splat(image, spike_x, spike_y, light * share)


_REFLECTED = 3.5  # magnitudes above saturation of the faintest stars with a reflection


def add_reflections(
    image: NDArray[np.float32],
    places: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    conditions: Conditions,
) -> None:
    """Add rings, which the optics reflect from the brightest stars across the centre, to an image in place.

    Parameters
    ----------
    image : (ny, nx) float32
        Image, pixel units.
    places
        x, y, flux of all stars.
    conditions
        Conditions of the exposure.
    """
    rng, (ny, nx) = conditions.stream("subtract/reflections"), image.shape
    limit = conditions.flux_of(conditions.preset.saturated_magnitude - _REFLECTED)
    radius, share = rng.uniform(25, 90), rng.uniform(3e-4, 3e-3)
    shift = rng.uniform(-60, 60, 2)
    for x, y, flux in zip(*places, strict=True):
        if flux < limit:
            continue
        x0, y0 = nx - 1 - x + shift[0], ny - 1 - y + shift[1]
        top, bottom = max(int(y0 - radius), 0), min(int(y0 + radius) + 2, ny)
        left, right = max(int(x0 - radius), 0), min(int(x0 + radius) + 2, nx)
        if top >= bottom or left >= right:
            continue
        rows, columns = np.ogrid[top:bottom, left:right]
        distance = np.hypot(columns - x0, rows - y0) / radius
        ring = (distance < 1) & (distance > 0.35)
        image[top:bottom, left:right][ring] += np.float32(share * flux / (np.pi * radius**2 * (1 - 0.35**2)))


@njit(**FAST)
def bleed(image, full):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Move light above the full well up and down its column, half each way, in place (compiled)."""
    ny, nx = image.shape
    for column in range(nx):
        row = 0
        while row < ny:
            if image[row, column] <= full:
                row += 1
                continue
            first, excess = row, 0.0
            while row < ny and image[row, column] > full:
                excess += image[row, column] - full
                image[row, column] = full
                row += 1
            for step in (-1, 1):
                left, at = excess / 2, first - 1 if step < 0 else row
                while left > 0 and 0 <= at < ny:
                    room = min(max(full - image[at, column], 0.0), left)
                    image[at, column] += room
                    left -= room
                    at += step


def crosstalk(image: NDArray[np.float32], full: float, strength: float) -> NDArray[np.float32]:
    """Return ghosts of saturated stars in the mirrored amplifier: ``strength`` times pixels above half full well."""
    return np.float32(strength) * np.where(image > 0.5 * full, image, 0)[:, ::-1]


def uneven_sky(conditions: Conditions, level: float) -> NDArray[np.float32]:
    """Return the sky relative to its mean: gradients, a step between two amplifiers, fringes in red bands.

    Parameters
    ----------
    conditions
        Conditions of the exposure.
    level
        Sky level, pixel units.
    """
    rng, (ny, nx) = conditions.stream("subtract/sky"), conditions.preset.shape
    sigma = conditions.noise.sigma
    u, v = np.linspace(-1, 1, nx, dtype=np.float32)[None, :], np.linspace(-1, 1, ny, dtype=np.float32)[:, None]
    slopes = (level * rng.normal(0, 0.01, 5)).astype(np.float32)
    sky = slopes[0] * u + slopes[1] * v + slopes[2] * u * u + slopes[3] * v * v + slopes[4] * (u * v)
    sky[:, nx // 2 :] += np.float32(sigma * rng.normal(0, 0.15))
    if conditions.band in _FRINGED:
        for _ in range(3):
            cycles, phase, bend = rng.uniform(8, 30, 2), rng.uniform(0, 2 * np.pi), rng.uniform(-3, 3)
            along = (cycles[0] * u + bend * v * v).astype(np.float32), (cycles[1] * v + bend * u * u).astype(np.float32)
            wave = np.cos(np.float32(np.pi) * (along[0] + along[1]) + np.float32(phase))
            sky += np.float32(sigma * rng.uniform(0.02, 0.15)) * wave
    return sky


def resampled_noise(
    spread: NDArray[np.float32], conditions: Conditions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return noise after resampling with shifts that drift over the image; ``spread`` is its standard deviation before.

    The Lanczos kernel has three lobes (Duchon 1979, J. Appl. Meteor. 18, 1016); noise is smoothest where the shift is
    half a pixel.
    """
    noise = rng.standard_normal(spread.shape, dtype=np.float32)
    noise *= spread
    drift = conditions.stream("subtract/resampling")
    for _ in range(2):  # columns, then rows
        shift = drift.uniform(0, 1) + drift.uniform(-1, 1) * np.linspace(0, 1, len(noise))
        noise = np.ascontiguousarray(_resample(noise, lanczos(shift - np.floor(shift))).T)
    return noise


def lanczos(shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the kernel's taps for shifts of 0 to 1 px, (n, 6), with unit sum."""
    offset = np.arange(-_LOBES + 1, _LOBES + 1) - shift[:, None]
    taps = np.sinc(offset) * np.sinc(offset / _LOBES) * (np.abs(offset) < _LOBES)
    return (taps / taps.sum(1, keepdims=True)).astype(np.float32)


@njit(**FAST)
def _resample(image, taps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return each row as a weighted sum of the six rows around it, wrapped around (compiled)."""
    ny, nx = image.shape
    out = np.zeros((ny, nx), np.float32)
    for row in range(ny):
        for tap in range(2 * _LOBES):
            source, weight = (row + tap - _LOBES + 1) % ny, taps[row, tap]
            for column in range(nx):
                out[row, column] += weight * image[source, column]
    return out


def splat(
    image: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64], light: NDArray[np.float64]
) -> None:
    """Add points of light to ``image`` in place, each divided among the four pixels around it."""
    ny, nx = image.shape
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    right, up = x - column, y - row
    flat = image.reshape(-1, copy=False)  # with one index, numpy adds in a third of the time
    for dy, dx, share in (
        (0, 0, (1 - up) * (1 - right)),
        (0, 1, (1 - up) * right),
        (1, 0, up * (1 - right)),
        (1, 1, up * right),
    ):
        inside = (row + dy >= 0) & (row + dy < ny) & (column + dx >= 0) & (column + dx < nx)
        np.add.at(flat, ((row + dy) * nx + column + dx)[inside], (light * share)[inside].astype(np.float32))
