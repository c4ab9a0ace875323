"""Simulation of one exposure, from its seed to its pixels."""

import numpy as np
from numpy.typing import NDArray

from flows.simulation.artefacts import add_background, add_ghosts, add_satellites
from flows.simulation.asteroids import add_asteroids, add_variables
from flows.simulation.canvas import Canvas, SimulatedExposure, Stars, add_stamp, blank_canvas, truth_table
from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.defects import add_bad_pixels, add_border, add_cosmic_rays, add_islands, add_saturated
from flows.simulation.galaxies import draw_galaxies, galaxies_on
from flows.simulation.presets import Preset, find_preset
from flows.simulation.psf import moffat
from flows.simulation.stars import add_residuals, mismatch_of, stars_on
from schemas.pixels import UNUSABLE, MaskPlane


def simulate_exposure(preset: Preset | str, seed: int, visit_index: int = 0, detector: int = 0) -> SimulatedExposure:
    """Simulate one difference image; the same arguments always give the same pixels, in any process and order.

    Parameters
    ----------
    preset
        Preset, or its name.
    seed
        Seed of the whole night.
    visit_index
        0, 1, 2, ...; each field has `Preset.visits_per_field` consecutive visits.
    detector
        0 to the camera's number of detectors - 1.

    Raises
    ------
    Misconfigured
        The preset or detector does not exist.
    """
    preset = find_preset(preset)
    conditions = conditions_of(preset, seed, visit_index, detector)
    stars = stars_on(conditions, conditions.first)
    blank = np.uint16(UNUSABLE if preset.layout == "ztf" else MaskPlane.NO_DATA)
    if preset.subtract != "none":
        from flows.simulation.subtraction.rendered import render  # slow to import: SciPy's signals, and numba

        made = render(conditions)
        made.difference[(made.mask & blank) != 0] = np.nan
        planes = {"science": made.science, "template": made.template}
        found = made.difference, made.mask, made.variance, made.truth
        return SimulatedExposure(*found, conditions, stars, planes=planes, psf=made.psf)
    canvas = draw_layers(conditions, stars)
    galaxies = None
    if preset.field_bands:
        galaxies = draw_galaxies(conditions, galaxies_on(conditions, conditions.first))
        canvas.excess += galaxies / np.float32(preset.gain)  # their light was subtracted, but not its noise
    difference = conditions.noise.draw(canvas.excess, conditions.stream("noise"))
    difference += canvas.signal
    difference += canvas.sharp
    difference[(canvas.mask & blank) != 0] = np.nan
    variance = conditions.noise.sigma_map() ** 2 + canvas.excess
    return SimulatedExposure(difference, canvas.mask, variance, truth_table(canvas), conditions, stars, galaxies)


def draw_layers(conditions: Conditions, stars: Stars) -> Canvas:
    """Draw everything on an exposure except the noise.

    Parameters
    ----------
    conditions
        Conditions of the exposure.
    stars
        Stars on it, from `stars_on`.
    """
    canvas = blank_canvas(conditions.preset.shape)
    saturated = stars.magnitude < conditions.preset.saturated_magnitude
    add_asteroids(canvas, conditions)
    add_variables(canvas, conditions, stars.where(~saturated))
    mismatch = mismatch_of(stars, conditions.preset, conditions.stream("mismatch"))
    add_residuals(canvas, stars, mismatch, conditions)
    add_saturated(canvas, stars.where(saturated), conditions)
    add_background(canvas, conditions)
    add_ghosts(canvas, conditions)
    add_satellites(canvas, conditions)
    add_bad_pixels(canvas, conditions)
    add_cosmic_rays(canvas, conditions)
    add_border(canvas, conditions)
    add_islands(canvas, conditions)
    return canvas


_SKY = 25.0  # sky level of the science image, in units of the noise
_TEMPLATE_NOISE = 0.2  # in units of the difference's noise
_REACH = (6, 12, 24, 60)


def science_and_template(exposure: SimulatedExposure) -> dict[str, NDArray[np.float32]]:
    """Return the planes ``science`` and ``template``, float32, pixel units, NaN where the difference is.

    The template has the stars and little noise; the science image is template + difference + sky. For a subtracted
    difference, the images that were subtracted are returned.
    """
    if exposure.planes is not None:
        return exposure.planes
    conditions = exposure.conditions
    sigma = conditions.noise.sigma
    bands = conditions.preset.field_bands
    rng = conditions.field_stream(f"template/{conditions.band}" if bands else "template")
    template = rng.standard_normal(conditions.preset.shape, dtype=np.float32) * np.float32(_TEMPLATE_NOISE * sigma)
    _draw_stars(template, exposure)
    if exposure.galaxies is not None:
        template += exposure.galaxies
    template[np.isnan(exposure.difference)] = np.nan
    return {"science": template + exposure.difference + np.float32(_SKY * sigma), "template": template}


def _draw_stars(image: NDArray[np.float32], exposure: SimulatedExposure) -> None:
    psf, stars, preset = exposure.conditions.psf, exposure.stars, exposure.conditions.preset
    zero, limit = np.zeros(1), np.float32(preset.saturation)
    edges = moffat(np.array(_REACH, float) * psf.fwhm / 2, zero, np.array(psf.fwhm), psf.beta, zero, zero)
    seen = np.sum(stars.flux[:, None] * edges > 0.1 * exposure.conditions.noise.sigma, axis=1)
    steps = np.minimum(seen, len(_REACH) - 1)
    widths, shears = psf.fwhm_at(stars.x, stars.y), psf.shear_at(stars.x, stars.y)
    for x, y, flux, step, fwhm, g1, g2 in zip(stars.x, stars.y, stars.flux, steps, widths, *shears, strict=True):
        half = int(np.ceil(_REACH[step] * psf.fwhm / 2))
        offset = np.arange(-half, half + 1.0)
        star = moffat(offset[None, :] + round(x) - x, offset[:, None] + round(y) - y, fwhm, psf.beta, g1, g2)
        add_stamp(image, np.minimum(flux * star, limit).astype(np.float32), round(y) - half, round(x) - half)
