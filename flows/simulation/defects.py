"""What the detector adds: cosmic rays, bad columns, hot pixels, borders."""

import numpy as np
from numpy.typing import NDArray

from flows.simulation.canvas import Canvas
from flows.simulation.conditions import Conditions
from schemas.mask import MaskPlane

_CR_FOUND = 0.25  # share of cosmic rays that the upstream pipeline masked
_CR_ELECTRONS = (400.0, 30_000.0)  # of a track in all


def add_cosmic_rays(canvas: Canvas, conditions: Conditions) -> None:
    """Draw the tracks of cosmic rays: sharp, from one pixel to tens of them, brighter the longer."""
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
    """Pixels (column, row) under a slightly bent track, several times where it stays longer."""
    along = np.linspace(0, length, max(2, int(length * 4)))
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.01) * along
    return np.rint(np.stack([x + along * np.cos(angle), y + along * np.sin(angle)], axis=1)).astype(int)


def add_bad_pixels(canvas: Canvas, conditions: Conditions) -> None:
    """Draw bad columns and hot pixels; they belong to the detector, so every visit has the same.

    Half of the columns and most hot pixels are masked, as upstream knows most of them.
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
    """Mask a border on some sides, where the template does not reach; its inner edge is ragged."""
    preset, rng = conditions.preset, conditions.stream("border")
    scale = min(canvas.shape) / min(preset.full_shape)
    widths = np.where(
        rng.uniform(size=4) < 0.45, rng.uniform(3, max(preset.border * scale, 4), 4), rng.integers(0, 5, 4)
    )
    for side, width in enumerate(widths):
        turned = np.rot90(canvas.mask, side)  # a view: the side in question becomes the first rows
        _mask_edge(turned, int(width), rng)


def _mask_edge(mask: NDArray[np.uint16], width: int, rng: np.random.Generator) -> None:
    if width == 0:
        return
    plane = np.uint16(MaskPlane.EDGE | MaskPlane.NO_DATA)
    mask[:width] |= plane
    for left in range(0, mask.shape[1], 12):
        if rng.uniform() < 0.35:
            mask[width : width + int(rng.integers(2, 12)), left : left + int(rng.integers(6, 14))] |= plane
