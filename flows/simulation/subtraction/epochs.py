"""Science exposure and template of a subtraction: differences of optics, depth, calibration and registration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.simulation.conditions import Conditions
from flows.simulation.psf import SimulatedPsfField, draw_psf_field
from flows.simulation.subtraction.optics import FieldOptics

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Waves:
    """Smooth field over an image: a sum of cosines.

    Attributes
    ----------
    modes : (n, 4)
        Amplitude; cycles across the image in x and y; phase, rad.
    shape
        (ny, nx) of the image, px.
    limit
        Largest absolute value.
    """

    modes: tuple[tuple[float, float, float, float], ...]
    shape: tuple[int, int]
    limit: float

    def at(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Return the field at given positions, 0-based px."""
        ny, nx = self.shape
        total = np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))
        for amplitude, in_x, in_y, phase in self.modes:
            total += amplitude * np.cos(2 * np.pi * (in_x * x / nx + in_y * y / ny) + phase)
        return np.clip(total, -self.limit, self.limit)


@dataclass(frozen=True)
class Epochs:
    """Inputs of a subtraction, and their errors.

    Attributes
    ----------
    science, template
        Optics of both.
    depth
        Number of exposures in the template.
    offset_x, offset_y
        Positions on the template minus those on the science image, px.
    gain_error
        Fluxes on the template relative to those on the science image, minus 1.
    star_offset, star_gain
        Scatter of both between stars: motion and chromatic refraction, px; colour terms.
    nonlinearity
        Fraction of light missing on the science image at the full well; proportional to the light of the pixel.
    psf_error
        Relative error of the PSFs measured by the pipeline.
    one_psf
        Whether the pipeline uses the PSFs at the centre for the whole image, rather than those of each block.
    crosstalk
        Fraction of a saturated pixel's light that appears in the mirrored amplifier.
    noise
        Factor on the noise of the images; 0: none.
    sky
        Factor on the unevenness of the sky: gradients, fringes, steps between amplifiers.
    grown
        Number of pixels by which masks of saturation grow on each side.
    fill
        Filling of masked pixels before images are convolved: "sky", "neighbours" or "nothing".
    """

    science: FieldOptics
    template: FieldOptics
    depth: float
    offset_x: Waves
    offset_y: Waves
    gain_error: Waves
    star_offset: float
    star_gain: float
    nonlinearity: float
    psf_error: float
    one_psf: bool
    crosstalk: float
    noise: float
    sky: float
    grown: int
    fill: str

    def sigmas(self, conditions: Conditions) -> tuple[float, float]:
        """Return the sky noise of science image and template, which combine to that of the conditions."""
        science = conditions.noise.sigma / (1 + 1 / self.depth) ** 0.5
        return science, science / self.depth**0.5


_KERNEL_REACH = 12  # px by which masks grow, or by almost nothing


def draw_epochs(conditions: Conditions) -> Epochs:
    """Draw the epochs of an exposure; the template is shared by all visits of the field in this band."""
    fixed = conditions.field_stream(f"subtract/template/{conditions.band}")
    rng = conditions.stream("subtract/epochs")
    shape = conditions.preset.shape
    # Good and bad exposures: errors of registration, calibration and PSF tend to come together.
    poor = float(np.exp(rng.uniform(*np.log((0.5, 2.5)))))
    registration = poor * float(np.exp(rng.uniform(*np.log((0.03, 0.09)))))
    grown = _KERNEL_REACH if rng.uniform() < 0.5 else int(rng.integers(0, 3))
    return Epochs(
        science=_comatic(conditions.psf, rng),
        template=_comatic(_template_field(conditions, fixed), fixed),
        depth=float(np.exp(fixed.uniform(*np.log((3.0, 30.0))))),
        offset_x=_waves(rng, registration, shape, 0.25),
        offset_y=_waves(rng, registration, shape, 0.25),
        gain_error=_waves(rng, 0.004 * poor, shape, 0.02),
        star_offset=poor * float(rng.uniform(0.015, 0.04)),
        star_gain=poor * float(rng.uniform(0.004, 0.012)),
        nonlinearity=float(rng.normal(0, 0.015)),
        psf_error=0.02 * poor,
        one_psf=bool(rng.uniform() < 0.4),
        crosstalk=float(rng.choice([-1, 1]) * np.exp(rng.uniform(*np.log((5e-6, 2e-4))))),
        noise=1.0,
        sky=1.0,
        grown=grown,
        fill=str(rng.choice(["sky", "neighbours", "nothing"])),
    )


def _template_field(conditions: Conditions, rng: np.random.Generator) -> SimulatedPsfField:
    """Draw the template's PSF; templates are made from exposures with good seeing."""
    low, high = conditions.preset.fwhm
    return draw_psf_field(conditions.preset, float(low * (high / low) ** rng.uniform(0.05, 0.7)), rng)


def _comatic(field: SimulatedPsfField, rng: np.random.Generator) -> FieldOptics:
    along = rng.uniform(-0.35, 0.35, 4) * (1.0, 1.0, 0.5, 0.5)
    coma = float(along[0]), float(along[1]), float(along[2]), float(along[3])
    return FieldOptics(field, coma, float(rng.uniform(0.05, 0.25)), float(rng.uniform(0.005, 0.05)))


def _waves(rng: np.random.Generator, rms: float, shape: tuple[int, int], limit: float) -> Waves:
    """Draw a field with a given root mean square: a sum of six waves of up to three cycles."""
    count = 6
    cycles = rng.uniform(-1, 1, (count, 2)) * np.linspace(0.2, 3.0, count)[:, None]
    weights = rng.rayleigh(1.0, count) / np.arange(1, count + 1) ** 0.5
    weights *= rms * 2**0.5 / np.sqrt(np.sum(weights**2))
    rows = zip(weights.tolist(), *cycles.T.tolist(), rng.uniform(0, 2 * np.pi, count).tolist(), strict=True)
    return Waves(tuple(rows), shape, limit)
