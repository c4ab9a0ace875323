"""Satellites, aeroplanes, glints, ghosts and an uneven background."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from flows.simulation.canvas import Canvas, DrawnFootprint, Row, source_row
from flows.simulation.conditions import Conditions
from kernels.image.noise import filtered_noise
from schemas.pixels import MaskPlane

_AEROPLANE = 0.06  # probability per image
_KNOWN = 0.5  # probability that upstream marked a satellite, which is information, not a fault
_SAMPLE = 160  # px of a long trail from which its S/N is extrapolated


@dataclass(frozen=True)
class Line:
    """Straight trail: centre (px), length (px), angle (deg), peak (pixel units), width relative to the PSF."""

    x: float
    y: float
    length: float
    angle: float
    peak: float
    width: float


def add_satellites(canvas: Canvas, conditions: Conditions) -> None:
    """Draw satellite trails (crossing the image, short, blinking or glinting) and aeroplanes (double, flashing)."""
    preset, rng = conditions.preset, conditions.stream("satellites")
    for _ in range(min(int(rng.poisson(preset.satellites)), 2)):
        line = _line(conditions, rng)
        style = rng.choice(["steady", "steady", "blinking", "glints"])
        _add_line(canvas, conditions, line, style, rng)
    if rng.uniform() < _AEROPLANE:
        line = _line(conditions, rng)
        apart = rng.uniform(8, 30)
        for side in (-0.5, 0.5):
            shift_x, shift_y = -np.sin(np.deg2rad(line.angle)), np.cos(np.deg2rad(line.angle))
            wing = Line(
                line.x + side * apart * shift_x,
                line.y + side * apart * shift_y,
                line.length,
                line.angle,
                line.peak,
                max(line.width, 1.6),
            )
            _add_line(canvas, conditions, wing, "blinking", rng)


_TUMBLERS = 0.6  # relative to the number of satellites


def add_tumblers(canvas: Canvas, conditions: Conditions) -> None:
    """Draw tumbling or glinting satellites; about every other one has an end beyond the border of the image."""
    rng, (ny, nx) = conditions.stream("subtract/satellites"), conditions.preset.shape
    for _ in range(min(int(rng.poisson(_TUMBLERS * conditions.preset.satellites)), 2)):
        line = _line(conditions, rng)
        if rng.uniform() < 0.5:
            along, across = rng.uniform(), float(rng.integers(2))
            x, y = (along, across) if rng.uniform() < 0.5 else (across, along)
            length = float(np.exp(rng.uniform(*np.log((60, 800)))))
            line = replace(line, x=x * (nx - 1), y=y * (ny - 1), length=length)
        _add_line(canvas, conditions, line, rng.choice(["tumbling", "glints", "steady"]), rng)


def _line(conditions: Conditions, rng: np.random.Generator) -> Line:
    ny, nx = conditions.preset.shape
    # Three in four cross the whole image; the others are far away, with both ends on the image.
    length = 2.0 * np.hypot(ny, nx) if rng.uniform() < 0.75 else float(np.exp(rng.uniform(*np.log((150, 800)))))
    peak = conditions.noise.sigma * float(np.exp(rng.uniform(*np.log((1.5, 60)))))
    return Line(rng.uniform(0, nx), rng.uniform(0, ny), float(length), rng.uniform(0, 180), peak, rng.uniform(1.0, 1.5))


def _add_line(canvas: Canvas, conditions: Conditions, line: Line, style: str, rng: np.random.Generator) -> None:
    rows, columns, along, across = _near(canvas.shape, line, 6 * conditions.psf.fwhm * line.width)
    if not len(rows):
        return
    beta = conditions.psf.beta
    alpha2 = (line.width * conditions.psf.fwhm) ** 2 / (4 * (2 ** (1 / beta) - 1))
    # A Moffat profile integrated along a line is a profile with slope beta - 1/2.
    light = line.peak * (1 + across**2 / alpha2) ** (0.5 - beta) * _rhythm(along, style, conditions.psf.fwhm, rng)
    ends = _edge(line.length / 2 - np.abs(along), conditions.psf.fwhm)
    light = (light * ends).astype(np.float32)
    canvas.signal[rows, columns] += light
    canvas.excess[rows, columns] += light / conditions.preset.gain
    lit = along[light > 0.05 * line.peak]
    if len(lit):
        row = _satellite_row(conditions, line, (float(lit.min()), float(lit.max())), light)
        canvas.truth.append((row, DrawnFootprint(rows, columns, light, float(light.sum(dtype=np.float64)))))
        if rng.uniform() < _KNOWN:
            bright = light > 2 * conditions.noise.sigma
            canvas.mask[rows[bright], columns[bright]] |= np.uint16(MaskPlane.STREAK)


def _near(
    shape: tuple[int, int], line: Line, reach: float
) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.floating], NDArray[np.floating]]:
    """Return rows and columns of the pixels within ``reach`` of a line, and their coordinates along and across it."""
    ny, nx = shape
    cos, sin = np.cos(np.deg2rad(line.angle)), np.sin(np.deg2rad(line.angle))
    steep = abs(sin) > abs(cos)
    major = np.arange(ny if steep else nx)
    half = int(np.ceil(reach / max(abs(sin), abs(cos))))
    centre = line.x + (major - line.y) * cos / sin if steep else line.y + (major - line.x) * sin / cos
    minor = np.rint(centre).astype(int)[:, None] + np.arange(-half, half + 1)[None, :]
    major = np.broadcast_to(major[:, None], minor.shape)
    rows, columns = (major, minor) if steep else (minor, major)
    along = (columns - line.x) * cos + (rows - line.y) * sin
    across = (rows - line.y) * cos - (columns - line.x) * sin
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx) & (np.abs(along) < line.length / 2 + reach)
    return rows[inside], columns[inside], along[inside], across[inside]


def _rhythm(along: NDArray[np.floating], style: str, fwhm: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """Return the relative brightness along the trail: steady, blinking, tumbling, or glints with dark gaps."""
    if style == "steady":
        return 1 + 0.2 * np.sin(2 * np.pi * along / rng.uniform(800, 4000) + rng.uniform(0, 6.3))
    period = rng.uniform(60, 400)
    if style == "tumbling":
        turn = np.pi * (along / period + rng.uniform())
        return 0.1 + 0.9 * np.maximum(np.abs(np.cos(turn)), 0.7 * np.abs(np.sin(turn))) ** rng.uniform(4, 40)
    phase = np.abs(((along / period + rng.uniform()) % 1) - 0.5)
    if style == "blinking":
        return 0.35 + 0.65 * _edge((rng.uniform(0.1, 0.3) - phase) * period, fwhm)
    return _edge(rng.uniform(3, 20) - phase * period, fwhm)


def _edge(inside: NDArray[np.floating], fwhm: float) -> NDArray[np.floating]:
    """Return the fraction of light at ``inside`` px from the end of a trail blurred by a Gaussian PSF."""
    return 0.5 * (1 + erf(inside * np.sqrt(4 * np.log(2)) / fwhm))


def _satellite_row(conditions: Conditions, line: Line, lit: tuple[float, float], light: NDArray[np.floating]) -> Row:
    length, middle = lit[1] - lit[0], (lit[0] + lit[1]) / 2
    x = line.x + middle * np.cos(np.deg2rad(line.angle))
    y = line.y + middle * np.sin(np.deg2rad(line.angle))
    flux = float(light.sum(dtype=np.float64))
    template = light.astype(np.float64) / flux
    piece = conditions.psf.trail(x, y, min(length, _SAMPLE), line.angle).pixels
    white = float(np.sqrt(np.sum(piece**2)))
    grown = filtered_noise(piece, 1.0, conditions.noise.correlation) / white
    sigma = float(conditions.noise.sigma_at(x, y))
    snr = flux * float(np.sqrt(np.sum(template**2))) / (sigma * grown)
    return source_row("satellite", "", conditions, (x, y), flux, snr, (length, line.angle))


def add_ghosts(canvas: Canvas, conditions: Conditions) -> None:
    """Draw reflections: large faint rings and discs, and small smudges, positive or negative."""
    preset, rng = conditions.preset, conditions.stream("ghosts")
    ny, nx = canvas.shape
    for _ in range(rng.poisson(rng.uniform(*preset.ghosts))):
        smudge = rng.uniform() < 0.5
        radius = (rng.uniform(8, 25) if smudge else rng.uniform(40, 200)) * min(1.0, min(ny, nx) / 800)
        inner = 0.0 if smudge else rng.choice([0.0, rng.uniform(0.3, 0.8)])
        level = conditions.noise.sigma * rng.uniform(0.3, 2.0) * rng.choice([-1.0, 1.0])
        x, y = rng.uniform(0, nx), rng.uniform(0, ny)
        top, bottom = max(int(y - 1.3 * radius), 0), min(int(y + 1.3 * radius) + 1, ny)
        left, right = max(int(x - 1.3 * radius), 0), min(int(x + 1.3 * radius) + 1, nx)
        rows, columns = np.ogrid[top:bottom, left:right]
        distance = np.hypot(columns - x, rows - y) / radius
        soft = 0.3 if smudge else 0.04
        light = level / (1 + np.exp(np.clip((distance - 1) / soft, -50, 50)))
        light /= 1 + np.exp(np.clip((inner - distance) / soft, -50, 50)) if inner else 1.0
        canvas.signal[top:bottom, left:right] += light.astype(np.float32)


def add_background(canvas: Canvas, conditions: Conditions) -> None:
    """Draw the residual background: smooth variations of a fraction of the noise."""
    rng = conditions.stream("background")
    ny, nx = canvas.shape
    u, v = np.linspace(-1, 1, nx), np.linspace(-1, 1, ny)
    terms = conditions.noise.sigma * rng.normal(0, 0.06, 6)
    along_x = terms[0] + terms[1] * u + terms[2] * u**2
    along_y = terms[3] * v + terms[4] * v**2
    for row, light in enumerate(canvas.signal):  # all at once would need four images of double precision
        light += (along_x + along_y[row] + terms[5] * (v[row] * u)).astype(np.float32)
