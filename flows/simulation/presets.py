"""Presets of simulated surveys, and random streams for their parts."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from schemas.errors import Misconfigured

Range = tuple[float, float]


SUBTRACTIONS = ("none", "zogy", "convolution", "sfft", "mixed")
"""How difference images are made: drawn directly, or subtracted by `flows.simulation.subtraction`."""


@dataclass(frozen=True)
class Preset:
    """Survey: its camera, its sky and what moves across it.

    Ranges are (lowest, highest); counts are for ``full_shape`` and scale with the area of ``shape``, except
    ``streaks``, which is the number per image of any size.

    Attributes
    ----------
    name, instrument, layout
        Names of the preset, of the camera, and of the focal plane and file format ("ztf", "rubin" or "decam", whose
        files are like Rubin's).
    full_shape, shape
        (ny, nx) of the camera's image and of the simulated one, px.
    pixel_scale, exposure_time
        arcsec / px; s.
    pixel_unit, gain, read_noise, saturation
        adu or nJy; electrons per pixel unit; electrons; pixel units.
    bands, zero_point
        Filters, one per field; AB magnitude of one pixel unit.
    noise, fwhm, beta
        Standard deviation of a pixel, pixel units; FWHM (px) and slope of the Moffat PSF.
    smoothing
        Side tap a of the kernel (a, 1 - 2a, a) that correlates the noise in addition to resampling.
    streaks, lengths, whole_lengths
        Asteroids per image; trail lengths, px, log-uniform, or uniform whole numbers if ``whole_lengths``.
    snr, magnitudes
        Matched-filter S/N, log-uniform; or AB magnitude, uniform. One of the two is None.
    stars, star_magnitudes, saturated_magnitude
        Number of stars; brightest and faintest; magnitude below which a star saturates.
    variables, cosmic_rays, bad_columns, hot_pixels, ghosts, satellites
        Numbers per image. ``satellites`` is the mean of a Poisson distribution cut at 2.
    border
        Largest width of the black border, px.
    spike_angle
        Angle of the diffraction spikes, deg from +x.
    visits_per_field, cadence_min
        Visits of one field, and minutes between them.
    field_bands
        If given, the visits of each field cycle through these bands, stars have colours, and there are galaxies.
    galaxies, galaxy_size
        Number of these galaxies per image; factor on their sizes.
    subtract
        How the difference image is made: one of `SUBTRACTIONS`.
    islands
        Side, px, of unmasked squares with everything masked between, like the stamps of alerts; 0: none. Only for
        images that are not subtracted.
    """

    name: str
    instrument: str
    layout: str
    full_shape: tuple[int, int]
    shape: tuple[int, int]
    pixel_scale: float
    exposure_time: float
    pixel_unit: str
    gain: float
    read_noise: float
    saturation: float
    bands: tuple[str, ...]
    zero_point: float
    noise: Range
    fwhm: Range
    beta: Range
    smoothing: Range
    streaks: int
    lengths: Range
    whole_lengths: bool
    snr: Range | None
    magnitudes: Range | None
    stars: Range
    star_magnitudes: Range
    saturated_magnitude: float
    variables: Range
    cosmic_rays: Range
    bad_columns: Range
    hot_pixels: Range
    ghosts: Range
    satellites: float
    border: int
    spike_angle: float
    visits_per_field: int = 3
    cadence_min: Range = (20.0, 40.0)
    field_bands: tuple[str, ...] = ()
    galaxies: Range = (0.0, 0.0)
    galaxy_size: float = 1.0
    subtract: str = "none"
    islands: int = 0

    @property
    def area(self) -> float:
        """Return the area of the image as a fraction of the full image."""
        return self.shape[0] * self.shape[1] / (self.full_shape[0] * self.full_shape[1])


ZTF = Preset(
    name="ztf",
    instrument="ZTF/MOSAIC",
    layout="ztf",
    full_shape=(3080, 3072),
    shape=(3080, 3072),
    pixel_scale=1.012,
    exposure_time=30.0,
    pixel_unit="adu",
    gain=6.2,
    read_noise=10.0,
    saturation=49000.0,
    bands=("g", "r", "i"),
    zero_point=26.1,
    noise=(4.5, 12.0),
    fwhm=(1.6, 3.5),
    beta=(2.5, 4.0),
    smoothing=(0.0, 0.13),
    streaks=20,
    lengths=(1.0, 60.0),
    whole_lengths=False,
    snr=(3.0, 50.0),
    magnitudes=None,
    stars=(4000, 9000),
    star_magnitudes=(8.0, 20.0),
    saturated_magnitude=13.8,
    variables=(20, 60),
    cosmic_rays=(40, 120),
    bad_columns=(2, 9),
    hot_pixels=(60, 200),
    ghosts=(0, 4),
    satellites=0.7,
    border=150,
    spike_angle=0.0,
)

LLNL = replace(
    ZTF,
    name="llnl",
    lengths=(1.0, 3.0),
    whole_lengths=True,
    snr=None,
    magnitudes=(15.0, 18.8),
    noise=(4.5, 8.0),
    fwhm=(1.7, 2.8),
)

RUBIN = Preset(
    name="rubin",
    instrument="LSSTCam",
    layout="rubin",
    full_shape=(4000, 4072),
    shape=(4000, 4072),
    pixel_scale=0.2,
    exposure_time=30.0,
    pixel_unit="nJy",
    gain=1.7,
    read_noise=9.0,
    saturation=60000.0,
    bands=("g", "r", "i", "z"),
    zero_point=31.4,
    noise=(15.0, 30.0),
    fwhm=(3.2, 5.5),
    beta=(2.5, 4.0),
    smoothing=(0.0, 0.1),
    streaks=20,
    lengths=(1.0, 60.0),
    whole_lengths=False,
    snr=(3.0, 50.0),
    magnitudes=None,
    stars=(1000, 2500),
    star_magnitudes=(13.0, 25.0),
    saturated_magnitude=17.2,
    variables=(15, 50),
    cosmic_rays=(60, 160),
    bad_columns=(2, 9),
    hot_pixels=(60, 200),
    ghosts=(0, 4),
    satellites=0.4,
    border=40,
    spike_angle=45.0,
)

DECAM = replace(
    RUBIN,
    name="decam",
    instrument="DECam",
    layout="decam",
    full_shape=(4094, 2046),
    shape=(4094, 2046),
    pixel_scale=0.263,
    exposure_time=60.0,
    gain=0.95,
    read_noise=7.0,
    saturation=180000.0,
    bands=("g", "r", "i", "z"),
    noise=(30.0, 65.0),
    fwhm=(3.1, 6.0),
    stars=(800, 2200),
    star_magnitudes=(11.5, 24.0),
    saturated_magnitude=15.2,
    variables=(12, 40),
)

PRESETS = {preset.name: preset for preset in (LLNL, ZTF, RUBIN, DECAM)}


def crowded(preset: Preset, times: float) -> Preset:
    """Return a preset with ``times`` times the stars, cosmic rays and defects, but no more asteroids."""

    def more(numbers: Range) -> Range:
        return numbers[0] * times, numbers[1] * times

    return replace(
        preset,
        stars=more(preset.stars),
        variables=more(preset.variables),
        cosmic_rays=more(preset.cosmic_rays),
        bad_columns=more(preset.bad_columns),
        hot_pixels=more(preset.hot_pixels),
        ghosts=more(preset.ghosts),
    )


_GALAXIES = {"ztf": ((800.0, 1600.0), 1.0), "rubin": ((2500.0, 4500.0), 0.35), "decam": ((1800.0, 3200.0), 0.45)}
"""Number of galaxies per image and factor on their sizes, by layout."""

_ROUNDS = 3  # times that a field cycles through its bands


def in_bands(preset: Preset, bands: tuple[str, ...]) -> Preset:
    """Return a preset whose fields are each visited in several bands, with coloured stars and galaxies.

    Raises
    ------
    Misconfigured
        A band is unknown to the camera, or given twice.
    """
    known = ZTF.bands if preset.layout == "ztf" else ("u", "g", "r", "i", "z", "y")
    if not bands or len(set(bands)) < len(bands) or not set(bands) <= set(known):
        raise Misconfigured(
            "bad_bands", "--bands", f"{','.join(bands)!r} is not a list of different bands.", f"choose of {known}."
        )
    number, size = _GALAXIES[preset.layout]
    visits = _ROUNDS * len(bands)
    return replace(preset, field_bands=bands, visits_per_field=visits, galaxies=number, galaxy_size=size)


def find_preset(
    preset: Preset | str,
    streaks: int | None = None,
    shape: tuple[int, int] | None = None,
    bands: tuple[str, ...] | None = None,
    subtract: str | None = None,
) -> Preset:
    """Return a preset, optionally with another number of streaks, image size, bands or subtraction.

    Parameters
    ----------
    preset
        llnl, ztf, rubin or decam; or a preset itself.
    streaks
        Asteroids per image; 0 gives empty images.
    shape
        (ny, nx), px, at most the camera's.
    bands
        As in `in_bands`.
    subtract
        One of `SUBTRACTIONS`.

    Raises
    ------
    Misconfigured
        The preset or subtraction does not exist, or a size, number or band is not possible.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise Misconfigured(
                "unknown_preset", "--preset", f"{preset!r} is not a preset.", f"choose one of {', '.join(PRESETS)}."
            )
        preset = PRESETS[preset]
    if streaks is not None:
        if streaks < 0:
            raise Misconfigured("bad_streaks", "--streaks", f"{streaks} is negative.", "give 0 or more.")
        preset = replace(preset, streaks=streaks)
    if shape is not None:
        ny, nx = preset.full_shape
        if not (64 <= shape[0] <= ny and 64 <= shape[1] <= nx):
            raise Misconfigured(
                "bad_size", "--size", f"{shape} is not between 64 x 64 and {ny} x {nx}.", "give NY NX within them."
            )
        preset = replace(preset, shape=shape)
    if subtract is not None:
        if subtract not in SUBTRACTIONS:
            raise Misconfigured(
                "bad_subtraction", "--subtract", f"{subtract!r} is not one.", f"choose of {', '.join(SUBTRACTIONS)}."
            )
        preset = replace(preset, subtract=subtract)
    return preset if bands is None else in_bands(preset, bands)


def usual_subtraction(preset: str) -> str:
    """Return the default subtraction of `nightstride simulate`: drawn for the challenge, ZOGY for surveys."""
    return "none" if preset == "llnl" else "zogy"


def random_stream(purpose: str, *key: int) -> np.random.Generator:
    """Return the random generator for a purpose and key, the same in every process.

    Parameters
    ----------
    purpose
        What is drawn, e.g. ``"ztf/stars"``.
    key
        Non-negative integers that identify the case: seed, visit index, detector.
    """
    return np.random.default_rng(np.random.SeedSequence([zlib.crc32(purpose.encode()), *key]))
