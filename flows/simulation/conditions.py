"""Conditions of an exposure, and its noise, known before any pixel is drawn."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from flows.simulation.camera import detector_count, projection, solution
from flows.simulation.presets import Preset, random_stream
from flows.simulation.psf import SimulatedPsfField, draw_psf_field
from schemas.errors import Misconfigured

_LOBES = 3

_FIRST_NIGHT = 58210  # MJD
_NIGHTS = 2500
_EVENING = 0.14  # in UTC days: dusk at Palomar
_BLOCKS = 5  # per night; in a block each field is visited `visits_per_field` times
_FIELDS = 24  # per block
_SLOT_S = 45.0  # s from one exposure to the next
_ZTF_EPOCH = 57754  # MJD of night 0 in ZTF exposure numbers

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseField:
    """Noise of one exposure.

    Attributes
    ----------
    sigma
        Standard deviation of a pixel at the centre, pixel units.
    slope
        Relative change from the centre to the right and upper edges.
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
        """Return the exact autocorrelation at lags -L..L in y and x, 1 at the centre."""
        along_y, along_x = (np.correlate(taps, taps, "full") for taps in (self.taps_y, self.taps_x))
        return np.outer(along_y, along_x)

    def sigma_at(self, x: NDArray[np.floating] | float, y: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """Return the standard deviation of pixels at given positions, pixel units."""
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
        """Draw one realisation, (ny, nx).

        Parameters
        ----------
        excess : (ny, nx) float32
            Variance in addition to that of the sky: Poisson noise of sources, pixel units squared.
        rng
            Source of randomness.
        """
        image = rng.standard_normal(self.shape, dtype=np.float32)
        image *= np.sqrt(self.sigma_map() ** 2 + excess)
        # Wrapped around, so that noise at the border is like that elsewhere.
        image = convolve1d(image, self.taps_y, axis=0, mode="wrap")
        return convolve1d(image, self.taps_x, axis=1, mode="wrap")


@dataclass(frozen=True)
class Conditions:
    """Time, pointing, atmosphere and noise of one exposure.

    Attributes
    ----------
    preset, seed, visit_index, detector
        Arguments of `conditions_of`.
    visit
        Visit id in the headers.
    field, field_id
        Number of the field, counted from 0; its id in the headers.
    mjd_utc
        Start of the exposure, MJD UTC.
    band, zero_point
        Filter; AB magnitude of one pixel unit.
    psf, noise
        PSF and noise as functions of position.
    header
        WCS cards.
    """

    preset: Preset
    seed: int
    visit_index: int
    detector: int
    visit: int
    field: int
    field_id: int
    mjd_utc: float
    band: str
    zero_point: float
    psf: SimulatedPsfField
    noise: NoiseField
    header: fits.Header

    @cached_property
    def wcs(self) -> WCS:
        """Return the full, distorted WCS."""
        return solution(self.header)

    @property
    def first(self) -> "Conditions":
        """Return the conditions of the first visit of the field, on this detector."""
        start = self.field * self.preset.visits_per_field
        return self if start == self.visit_index else conditions_of(self.preset, self.seed, start, self.detector)

    @property
    def midpoint_mjd_utc(self) -> float:
        """Return the middle of the exposure, MJD UTC."""
        return self.mjd_utc + self.preset.exposure_time / 2 / 86400

    @property
    def midpoint_mjd_tai(self) -> float:
        """Return the middle of the exposure, MJD TAI."""
        return float(Time(self.midpoint_mjd_utc, format="mjd", scale="utc").tai.mjd)

    def stream(self, purpose: str) -> np.random.Generator:
        """Return the random generator of this exposure for one purpose."""
        return random_stream(f"{self.preset.name}/{purpose}", self.seed, self.visit_index, self.detector)

    def field_stream(self, purpose: str) -> np.random.Generator:
        """Return the random generator shared by all visits of the field for one purpose."""
        return random_stream(f"{self.preset.name}/{purpose}", self.seed, self.field, self.detector)

    def to_sky(self, x: NDArray[np.floating] | float, y: NDArray[np.floating] | float) -> tuple[Floats, Floats]:
        """Return (ra, dec), deg, of 0-based pixel positions."""
        ra, dec = self.wcs.all_pix2world(np.atleast_1d(x).astype(float), np.atleast_1d(y).astype(float), 0)
        return ra, dec

    def to_pixels(self, ra: NDArray[np.floating] | float, dec: NDArray[np.floating] | float) -> tuple[Floats, Floats]:
        """Return 0-based pixel positions (x, y) of sky positions, deg."""
        return self.wcs.all_world2pix(np.atleast_1d(ra), np.atleast_1d(dec), 0, tolerance=1e-5, maxiter=40, quiet=True)

    def flux_of(self, magnitude: float) -> float:
        """Return the flux in pixel units of an AB magnitude."""
        return float(10 ** (-0.4 * (magnitude - self.zero_point)))

    def magnitude_of(self, flux: float) -> float:
        """Return the AB magnitude of a positive flux in pixel units."""
        return float(self.zero_point - 2.5 * np.log10(flux))


def conditions_of(preset: Preset, seed: int, visit_index: int, detector: int) -> Conditions:
    """Return the conditions of one exposure, which depend only on these four values.

    Raises
    ------
    Misconfigured
        The camera does not have the detector.
    """
    if not 0 <= detector < detector_count(preset):
        raise Misconfigured(
            "no_such_detector",
            "--detectors",
            f"detector {detector} does not exist: the {preset.name} camera has {detector_count(preset)}.",
            "ask for fewer detectors.",
        )
    field, number = divmod(visit_index, preset.visits_per_field)
    night, field_id, pointing = _field(preset, seed, field)
    fwhm, sigma = _weather(preset, seed, field, detector)
    mjd = _start(preset, seed, night, field, number)
    rng = random_stream(f"{preset.name}/visit", seed, visit_index)
    fwhm *= np.exp(rng.normal(0, 0.07))
    sigma *= np.exp(rng.normal(0, 0.05))
    dimming = abs(rng.normal(0, 0.06)) if preset.pixel_unit == "adu" else 0.0
    nudge = rng.normal(0, 3 / 3600, 2)
    rng = random_stream(f"{preset.name}/conditions", seed, visit_index, detector)
    fwhm = float(np.clip(fwhm * np.exp(rng.normal(0, 0.02)), *preset.fwhm))
    sigma = float(np.clip(sigma * np.exp(rng.normal(0, 0.04)), *preset.noise))
    return Conditions(
        preset=preset,
        seed=seed,
        visit_index=visit_index,
        detector=detector,
        visit=_visit_id(preset, mjd, night, field, number),
        field=field,
        field_id=field_id,
        mjd_utc=mjd,
        band=_band(preset, field, number),
        zero_point=round(float(preset.zero_point - dimming), 6),
        psf=draw_psf_field(preset, fwhm, rng),
        noise=draw_noise_field(preset, sigma, rng),
        header=projection(preset, detector, (pointing[0] + nudge[0], pointing[1] + nudge[1])),
    )


def _band(preset: Preset, field: int, number: int) -> str:
    if preset.field_bands:
        return preset.field_bands[number % len(preset.field_bands)]
    return preset.bands[field % len(preset.bands)]


def _field(preset: Preset, seed: int, field: int) -> tuple[int, int, tuple[float, float]]:
    """Return night (MJD), field id and pointing (deg) of a field."""
    night = _FIRST_NIGHT + (seed * 211 + field // (_BLOCKS * _FIELDS)) % _NIGHTS
    rng = random_stream(f"{preset.name}/field", seed, field)
    pointing = float(rng.uniform(0, 360)), float(rng.uniform(-15, 55))
    return night, int(rng.integers(202, 880)), pointing


def _weather(preset: Preset, seed: int, field: int, detector: int) -> tuple[float, float]:
    """Return the typical FWHM (px) and noise (pixel units) of a field on a detector.

    Detectors differ as much as nights do, more than in reality, so that a few exposures cover the range of a survey.
    """
    rng = random_stream(f"{preset.name}/weather", seed, field, detector)
    low, high = np.log(preset.fwhm)
    # Seeing is mostly good: a power of a uniform number favours the low end.
    fwhm = float(np.exp(low + 0.08 + (high - low - 0.16) * rng.uniform() ** 1.5))
    return fwhm, float(np.exp(rng.uniform(*np.log(preset.noise))))


def _start(preset: Preset, seed: int, night: int, field: int, number: int) -> float:
    """Return the start of the exposure, MJD UTC: fields take turns, so that visits of one are `cadence_min` apart."""
    block, slot = divmod(field % (_BLOCKS * _FIELDS), _FIELDS)
    rng = random_stream(f"{preset.name}/cadence", seed, field // _FIELDS)
    steps = rng.uniform(*preset.cadence_min, preset.visits_per_field)[:number] * 60
    length = preset.visits_per_field * preset.cadence_min[1] * 60
    # Whole seconds, so that the fraction of a day in a file name identifies the visit.
    seconds = round(block * length + slot * _SLOT_S + float(steps.sum()))
    return night + 1 + round(_EVENING + seconds / 86400, 6)


def _visit_id(preset: Preset, mjd: float, night: int, field: int, number: int) -> int:
    if preset.layout == "ztf":
        return round((mjd - _ZTF_EPOCH) * 1e5)
    label = int(Time(night, format="mjd").strftime("%Y%m%d"))
    return label * 100_000 + field % (_BLOCKS * _FIELDS) * preset.visits_per_field + number


def resampling_taps(shift: float, smoothing: float) -> NDArray[np.float64]:
    """Return the one-dimensional kernel of resampling and smoothing on the noise, with unit sum of squares.

    Parameters
    ----------
    shift
        Sub-pixel shift, px, for a Lanczos kernel with three lobes (Duchon 1979, J. Appl. Meteor. 18, 1016).
    smoothing
        Side tap a of an additional kernel (a, 1 - 2a, a), for matching one PSF to another.
    """
    offset = np.arange(-_LOBES + 1, _LOBES + 1) - shift
    lanczos = np.sinc(offset) * np.sinc(offset / _LOBES) * (np.abs(offset) < _LOBES)
    taps = np.convolve(lanczos, (smoothing, 1 - 2 * smoothing, smoothing))
    return taps / np.sqrt(np.sum(taps**2))


def draw_noise_field(preset: Preset, sigma: float, rng: np.random.Generator) -> NoiseField:
    """Draw how the noise of one exposure varies and correlates.

    Parameters
    ----------
    preset
        Survey.
    sigma
        Standard deviation of a pixel at the centre, pixel units.
    rng
        Source of randomness.
    """
    smoothing = rng.uniform(*preset.smoothing)
    taps_y, taps_x = (resampling_taps(rng.uniform(0.0, 0.5), smoothing) for _ in range(2))
    slope = rng.uniform(-0.08, 0.08, 2)
    if preset.subtract != "none":
        taps_y = taps_x = np.ones(1)  # noise of a subtraction is nearly white
    return NoiseField(sigma, (float(slope[0]), float(slope[1])), preset.shape, tuple(taps_y), tuple(taps_x))
