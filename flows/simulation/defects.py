"""Defects of detector and optics: cosmic rays, bad columns, saturated stars."""

import numpy as np
from numpy.typing import NDArray

from flows.simulation.canvas import Canvas, Stars, add_stamp
from flows.simulation.conditions import Conditions
from flows.simulation.detector import splat
from schemas.pixels import MaskPlane

_CR_FOUND = 0.25  # fraction of cosmic rays masked by the upstream pipeline
_CR_ELECTRONS = (400.0, 30_000.0)  # total of a track


def add_cosmic_rays(canvas: Canvas, conditions: Conditions) -> None:
    """Draw the tracks of cosmic rays: sharp, one pixel to tens of pixels long, and brighter if longer."""
    preset, rng = conditions.preset, conditions.stream("cosmic rays")
    ny, nx = canvas.shape
    for _ in range(rng.poisson(rng.uniform(*preset.cosmic_rays) * preset.area)):
        length = float(rng.exponential(3.0) if rng.uniform() < 0.85 else rng.exponential(22.0))
        electrons = np.exp(rng.uniform(*np.log(_CR_ELECTRONS))) * (1 + length / 12)
        track = _track(rng.uniform(0, nx), rng.uniform(0, ny), length, rng)
        light = electrons / preset.gain / len(track) * rng.gamma(4.0, 0.25, len(track))
        column, row = track[:, 0], track[:, 1]
        inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
        np.add.at(canvas.sharp, (row[inside], column[inside]), light[inside].astype(np.float32))
        if rng.uniform() < _CR_FOUND and inside.any():
            canvas.block(row.min() - 1, row.max() + 1, column.min() - 1, column.max() + 1, MaskPlane.CR)


def _track(x: float, y: float, length: float, rng: np.random.Generator) -> NDArray[np.int_]:
    """Return pixels (column, row) along a slightly curved track, repeated where it stays longer."""
    along = np.linspace(0, length, max(2, int(length * 4)))
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.01) * along
    return np.rint(np.stack([x + along * np.cos(angle), y + along * np.sin(angle)], axis=1)).astype(int)


def add_bad_pixels(canvas: Canvas, conditions: Conditions) -> None:
    """Draw bad columns and hot pixels, which are the same on every visit of a detector to the field.

    Half of the columns and most hot pixels are masked, since upstream knows most of them.
    """
    preset = conditions.preset
    fixed, rng = conditions.field_stream("bad pixels"), conditions.stream("bad pixels")
    ny, nx = canvas.shape
    sigma = conditions.noise.sigma
    for _ in range(fixed.poisson(fixed.uniform(*preset.bad_columns) * np.sqrt(preset.area))):
        column, start = int(fixed.integers(nx)), int(fixed.integers(ny))
        stop = ny if fixed.uniform() < 0.4 else min(ny, start + int(fixed.exponential(400)) + 20)
        if fixed.uniform() < 0.5:
            canvas.block(start, stop - 1, column, column + int(fixed.integers(0, 2)), MaskPlane.BAD)
        else:
            level = sigma * rng.normal(0, 2.5) * (1 if fixed.uniform() < 0.7 else 4)
            canvas.sharp[start:stop, column] += np.float32(level)
    for _ in range(fixed.poisson(fixed.uniform(*preset.hot_pixels) * preset.area)):
        row, column = int(fixed.integers(ny)), int(fixed.integers(nx))
        if fixed.uniform() < 0.75:
            canvas.mask[row, column] |= np.uint16(MaskPlane.BAD)
        else:
            canvas.sharp[row, column] += np.float32(sigma * rng.normal(0, 12))


def add_border(canvas: Canvas, conditions: Conditions) -> None:
    """Mask a border with a ragged inner edge on some sides, where the template does not reach."""
    preset, rng = conditions.preset, conditions.stream("border")
    scale = min(canvas.shape) / min(preset.full_shape)
    widths = np.where(
        rng.uniform(size=4) < 0.45, rng.uniform(3, max(preset.border * scale, 4), 4), rng.integers(0, 5, 4)
    )
    for side, width in enumerate(widths):
        turned = np.rot90(canvas.mask, side)  # a view: the chosen side becomes the first rows
        _mask_edge(turned, int(width), rng)


def _mask_edge(mask: NDArray[np.uint16], width: int, rng: np.random.Generator) -> None:
    if width == 0:
        return
    plane = np.uint16(MaskPlane.EDGE | MaskPlane.NO_DATA)
    mask[:width] |= plane
    for left in range(0, mask.shape[1], 12):
        if rng.uniform() < 0.35:
            mask[width : width + int(rng.integers(2, 12)), left : left + int(rng.integers(6, 14))] |= plane


_STRAIT = 24  # px of masked pixels between islands


def add_islands(canvas: Canvas, conditions: Conditions) -> None:
    """Mask everything except squares of ``islands`` px in a regular grid with a random origin."""
    side = conditions.preset.islands
    if side == 0:
        return
    step, rng = side + _STRAIT, conditions.stream("islands")
    rows, columns = ((np.arange(size) + rng.integers(step)) % step < side for size in canvas.shape)
    canvas.mask[~(rows[:, np.newaxis] & columns)] |= np.uint16(MaskPlane.NO_DATA)


DISC_STEPS = 5.7
"""Magnitudes above saturation beyond which a whole disc is masked."""

_UNMASKED = 0.12  # fraction of saturated stars whose core the upstream pipeline left unmasked


def add_saturated(canvas: Canvas, stars: Stars, conditions: Conditions) -> None:
    """Mask the cores of saturated stars, and draw what shows around the masks.

    ``stars`` are only the saturated ones, in the same order on every visit of the field.
    """
    fixed, rng = conditions.field_stream("saturated"), conditions.stream("saturated")
    limit = conditions.preset.saturated_magnitude
    width = conditions.psf.fwhm / 2
    for x, y, magnitude in zip(stars.x, stars.y, stars.magnitude, strict=True):
        excess = max(limit - magnitude, 0.0)
        masked = fixed.uniform() > _UNMASKED or excess > 2
        half = (7 + 2.2 * excess + fixed.uniform(-1, 2)) * width
        bleed = half * (1.15 + 0.25 * excess**1.3 * fixed.uniform(0.5, 1.5))
        radius = fixed.uniform(60, 370) if excess > DISC_STEPS else 0.0
        _add_spikes(canvas, x, y, excess, half, conditions, rng)
        _add_bleed(canvas, x, y, bleed, masked, conditions, rng)
        if masked:
            _mask_core(canvas, x, y, half, bleed, excess)
        else:
            _add_core(canvas, x, y, half / 2, conditions, rng)
        if radius:
            _mask_disc(canvas, x, y, min(radius, min(canvas.shape) / 3))


def _mask_core(canvas: Canvas, x: float, y: float, half: float, bleed: float, excess: float) -> None:
    """Mask a rounded box with a bar along the column and, for the brightest stars, a short one along the row."""
    tall = 1.2 * half
    canvas.block(y - tall, y + tall, x - half + 2, x + half - 2, MaskPlane.SAT)
    canvas.block(y - tall + 2, y + tall - 2, x - half, x + half, MaskPlane.SAT)
    if excess > 0.8:
        canvas.block(y - bleed, y + bleed, x - 0.45 * half, x + 0.45 * half, MaskPlane.SAT)
    if excess > 1.5:
        canvas.block(y - 3, y + 3, x - 1.6 * half, x + 2.0 * half, MaskPlane.SAT)


def _mask_disc(canvas: Canvas, x: float, y: float, radius: float) -> None:
    ny, nx = canvas.shape
    top, bottom = max(int(y - radius), 0), min(int(y + radius) + 2, ny)
    left, right = max(int(x - radius), 0), min(int(x + radius) + 2, nx)
    if top < bottom and left < right:
        rows, columns = np.ogrid[top:bottom, left:right]
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
        canvas.mask[top:bottom, left:right][inside] |= np.uint16(MaskPlane.SAT)


def _add_core(
    canvas: Canvas, x: float, y: float, half: float, conditions: Conditions, rng: np.random.Generator
) -> None:
    """Draw what is left of an unmasked saturated core: random large values of both signs."""
    size = 2 * int(np.ceil(half)) + 1
    offset = np.arange(size) - size // 2
    shape = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * (half / 2) ** 2))
    depth = conditions.noise.sigma * rng.uniform(40, 200)
    pixels = depth * shape * rng.normal(rng.choice([-0.4, 0.4]), 1.0, (size, size))
    add_stamp(canvas.signal, pixels.astype(np.float32), round(y) - size // 2, round(x) - size // 2)


def _add_bleed(
    canvas: Canvas, x: float, y: float, bleed: float, masked: bool, conditions: Conditions, rng: np.random.Generator
) -> None:
    """Draw charge along the column, beyond the mask or in its place."""
    reach = int(bleed * (1.4 if masked else 1.0)) + 1
    rows = np.arange(-reach, reach + 1)
    level = conditions.noise.sigma * rng.uniform(1, 12) * rng.choice([-1.0, 1.0, 1.0])
    fall = np.exp(-np.maximum(np.abs(rows) - 0.8 * bleed, 0) / (0.25 * bleed + 1))
    across = np.array([0.3, 1.0, 0.9, 0.2])
    pixels = (level * fall[:, None] * across[None, :]).astype(np.float32)
    add_stamp(canvas.signal, pixels, round(y) - reach, round(x) - 2)


def _add_spikes(
    canvas: Canvas,
    x: float,
    y: float,
    excess: float,
    half: float,
    conditions: Conditions,
    rng: np.random.Generator,
) -> None:
    """Draw four arms that fade outwards, with random signs, since spikes do not subtract cleanly."""
    reach = 2.2 * half + 14 * excess + rng.uniform(0, 20)
    base = conditions.preset.spike_angle + rng.normal(0, 1.0)
    for arm in range(4):
        level = conditions.noise.sigma * rng.normal(0, 4 + 5 * excess)
        angle = np.deg2rad(base + 90 * arm)
        distance = np.arange(0, reach, 0.5)
        light = 0.5 * level * np.exp(-distance / (0.35 * reach))
        for side, share in ((-1.0, 0.25), (0.0, 0.5), (1.0, 0.25)):
            splat(
                canvas.signal,
                x + distance * np.cos(angle) - side * np.sin(angle),
                y + distance * np.sin(angle) + side * np.cos(angle),
                light * share,
            )
