"""Stage: measurement and reliability of candidates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.image.noise import Noise
from kernels.image.pixel_state import usable_pixels
from kernels.image.variation import leave_weightless, variance_scale
from kernels.measure.detection import Detection, confirmed_class, measure_candidates
from kernels.measure.photometry import ab_magnitude, njy_per_unit
from kernels.measure.reliability import FittedTrail, candidate_stamps, feature_matrix
from kernels.measure.surroundings import residual_features, static_light
from kernels.measure.vetoes.crosstalk import crosstalk_ghosts
from kernels.measure.vetoes.evidence import count_causes, refused
from kernels.psf.flux_error import psf_flux_error, psf_length_error
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.projection import celestial_wcs, sky_trails
from kernels.trails.geometry import LONG, DetectedSegment, first_of_each
from kernels.trails.scene import Scene
from schemas.dia_source import CAUSES, DIA_SOURCE, KINDS, RESIDUALS, STREAK, DetectionFlag
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureInfo
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, VARIANCE
from schemas.settings import MeasureSettings
from schemas.stage import Context, Model, Result, Stage, Weights, as_found, piecewise_memory
from schemas.summary import BRIGHT_UNRELIABLE, CauseCount, Causes

_MOST = 4096  # the rank of a detection has 12 bits
_RATHER = 0.5  # probability
_BRIGHT = 15.0  # S/N
_LENGTH = 3  # index among the parameters of a fit
_ASSUMED = {
    "ambiguous_time": DetectionFlag.ASSUMED_TIME,
    "assumed_gain": DetectionFlag.ASSUMED_GAIN,
    "assumed_psf_unit": DetectionFlag.ASSUMED_PSF,
    "assumed_site": DetectionFlag.ASSUMED_SITE,
    "high_background": DetectionFlag.HIGH_BACKGROUND,
    "no_time": DetectionFlag.NO_TIME,
    "psf_differs": DetectionFlag.PSF_DIFFERS,
    "unknown_unit": DetectionFlag.UNKNOWN_UNIT,
}  # flag of an exposure -> flag of its detections
_CLASSES = (*(f"p{kind.capitalize()}" for kind in KINDS), "pArtefact")


def measure(inputs: Mapping[str, Any], context: Context) -> Result:
    """Measure the candidates of an exposure; return those that are reliable enough, sorted by (y, x).

    Parameters
    ----------
    inputs
        ``streak``, ``difference`` and ``mask``; if available also ``science``, which shows stars, and ``variance``,
        which gives the noise added by the light in a pixel.
    context
        The exposure, the section `MeasureSettings`, and ``models["reliability"]``, a callable from the (n, features)
        float32 matrix and the stamps of n candidates to n probabilities, with its `ModelCard` as ``card``. Its method
        ``classes`` splits these probabilities (`kernels.measure.reliability_net`).

    Returns
    -------
    Result
        Rows of `DIA_SOURCE`, with the number of candidates for each known cause of false streaks
        (`kernels.measure.vetoes.evidence`) and of bright candidates that are not reliable enough. Rows fainter than
        ``min_snr`` or refused by a cause are left out, but trails with a class are kept if they are probably real.
        Long trails that are probably satellites get that class.

    Raises
    ------
    BadInput
        There are more than 4,096 detections (code ``flood``), or the WCS cannot be read (``bad_wcs``).
    """
    table = measure_all(inputs, context, _publishable)
    least, least_classed = context.settings.min_reliability, context.settings.min_reliability
    if least is None or least_classed is None:
        least = context.models["reliability"].card.least_reliability(SCIENCE.name in inputs)
        least_classed = _RATHER
    reliability = table["reliability"].to_numpy()
    least_of_each = np.where(_classed(table), np.float32(least_classed), np.float32(least))
    published = (reliability >= least_of_each) & _publishable(table, context)
    causes = count_causes(table["flags"].to_numpy(), published)
    bright = _publishable(table, context) & (table["snr"].to_numpy() >= _BRIGHT)
    causes[BRIGHT_UNRELIABLE] = CauseCount(refused=int((bright & ~published).sum()))
    table = _classified(table.filter(pa.array(published)))
    info = _exposure(context)
    if len(table) > _MOST:
        raise BadInput(
            "flood",
            f"exposure {info.name}",
            f"{len(table)} detections, and an exposure holds {_MOST} at most.",
            "look at the difference image; if they are real, raise measure.min_reliability.",
        )
    ids = (info.visit << 21) | (info.detector << 12) | np.arange(len(table), dtype=np.int64)
    table = table.set_column(0, DIA_SOURCE.schema.field(0), pa.array(ids))
    return Result(table.replace_schema_metadata(None), Causes(causes))


def _classed(table: pa.Table) -> NDArray[np.bool_]:
    return np.array([name != "" for name in table["trailClass"].to_pylist()], np.bool_)


def _publishable(table: pa.Table, context: Context) -> NDArray[np.bool_]:
    """Return which rows may be published if they are reliable enough."""
    return _classed(table) | ((table["snr"].to_numpy() >= context.settings.min_snr) & ~refused(table))


def _classified(table: pa.Table) -> pa.Table:
    """Set the class of long trails without a class that are satellites with a probability above one half."""
    satellite = (np.nan_to_num(table["pSatellite"].to_numpy()) > _RATHER) & (table["trailLengthPx"].to_numpy() >= LONG)
    names = [
        name or ("satellite" if one else "")
        for name, one in zip(table["trailClass"].to_pylist(), satellite, strict=True)
    ]
    flags = table["flags"].to_numpy() | np.where([name != "" for name in names], int(DetectionFlag.SATELLITE), 0)
    return _with(table, trailClass=pa.array(names, pa.string()), flags=pa.array(flags, pa.int32()))


class Described(NamedTuple):
    """Candidates with positive flux, and the inputs of the model ``reliability`` for them.

    Attributes
    ----------
    table
        Rows of `DIA_SOURCE`, sorted by (y, x); diaSourceId and reliability are 0.
    features : (n, len(FEATURES)) float32
        See `schemas.model_card`.
    stamps : (n, CHANNELS, SIDE, SIDE) float32
        See `kernels.measure.reliability`.
    """

    table: pa.Table
    features: NDArray[np.float32]
    stamps: NDArray[np.float32]


def measure_all(
    inputs: Mapping[str, Any],
    context: Context,
    judged: Callable[[pa.Table, Context], NDArray[np.bool_]] = lambda table, _: np.ones(len(table), np.bool_),
) -> pa.Table:
    """Return every candidate with positive flux, measured and with its reliability.

    Parameters
    ----------
    inputs, context
        As in `measure`.
    judged
        Function that returns which rows the model scores; the others have reliability 0.

    Returns
    -------
    pyarrow.Table
        Rows of `DIA_SOURCE`, sorted by (y, x); diaSourceId is 0.
    """
    table, features, stamps = describe(inputs, context)
    if not len(table):
        return table
    model = context.models["reliability"]
    rows, reliability = judged(table, context), np.zeros(len(table), np.float32)
    reliability[rows] = model(features[rows], stamps[rows])
    version = pa.array([model.card.version] * len(table))
    shares = np.asarray(model.classes(features, reliability), np.float32).T
    classes = {name: pa.array(share, from_pandas=True) for name, share in zip(_CLASSES, shares, strict=True)}
    return _with(table, reliability=pa.array(reliability), reliabilityVersion=version, **classes)


def describe(inputs: Mapping[str, Any], context: Context) -> Described:
    """Return the measurements and model inputs of every candidate with positive flux.

    Dark residuals are left out, as are candidates whose fit repeats that of one with a greater logitSum (see
    `kernels.trails.geometry`). Parameters are those of `measure`; no model is needed.
    """
    info, streaks = _exposure(context), inputs["streak"]
    scene = scene_of(inputs, info, context.allocate)
    half_width = context.settings.aperture_fwhm * info.psf.fwhm_px
    order = np.argsort(-streaks["logitSum"].to_numpy(), kind="stable")
    streaks = streaks.take(pa.array(order.astype(np.int64)))
    places = (streaks[name].to_numpy().astype(float).tolist() for name in ("x", "y", "length", "angle", "snr"))
    starts = [DetectedSegment(*place) for place in zip(*places, strict=True)]
    widths = streaks["halfWidth"].to_pylist()
    flashes = [name == "glint_trail" for name in streaks["trailClass"].to_pylist()]
    found = measure_candidates(scene, inputs["mask"], starts, widths, half_width, flashes)
    shining = [i for i, one in enumerate(found) if one.shines]
    shining.sort(key=lambda i: not found[i].fit.converged)  # stable: a fit that failed repeats one that did not
    trails = [DetectedSegment(*found[i].fit.segment, found[i].snr) for i in shining]
    kept = [shining[i] for i in first_of_each(trails, info.psf.fwhm_px)]
    kept.sort(key=lambda i: (found[i].fit.segment.y, found[i].fit.segment.x))
    table = _table([found[i] for i in kept], streaks.take(pa.array(kept, pa.int64())), info)
    fitted = [FittedTrail(found[i].fit.segment, found[i].trail.value, found[i].fit.level) for i in kept]
    seen = scene.at_each([found[i].fit.segment[:2] for i in kept])
    residuals = np.array(
        [residual_features(there, found[i].fit, found[i].trail.value) for there, i in zip(seen, kept, strict=True)],
        np.float32,
    )
    static = static_light(scene, inputs.get("science"), [one.segment for one in fitted])
    trail_snr = np.array([found[i].trail.value / found[i].trail.error for i in kept])
    features = feature_matrix(table, info.psf.fwhm_px, trail_snr, residuals.reshape(-1, len(RESIDUALS)), static)
    return Described(table, features, candidate_stamps(scene, fitted, inputs.get("science")))


def _exposure(context: Context) -> ExposureInfo:
    if context.exposure is None:
        raise Misconfigured("no_exposure", "stage measure", "it works on one exposure.", "give it one in the context.")
    return context.exposure


def scene_of(inputs: Mapping[str, Any], info: ExposureInfo, allocate: Callable[..., Any]) -> Scene:
    """Return an exposure in the form used for measurements.

    Parameters
    ----------
    inputs
        ``difference`` and ``mask``; if available also ``science`` and ``variance``.
    info
        Noise, PSF, gain and background.
    allocate
        As in `Context`.
    """
    pixels, variance = inputs[DIFFERENCE.name], inputs.get(VARIANCE.name)
    usable = usable_pixels(pixels, inputs[MASK.name], allocate)
    scale = np.nan if variance is None else variance_scale(variance, usable, info.noise, info.noise_variation)
    if variance is not None and scale > 0:
        leave_weightless(usable, variance, info.noise**2 / scale)
    scene = Scene(
        pixels=pixels,
        usable=usable,
        psf=moffat_mixture(info.psf.fwhm_px, info.psf.beta),
        fwhm_px=info.psf.fwhm_px,
        noise=Noise(info.noise, np.array(info.noise_correlation), np.inf if info.gain is None else info.gain),
        background=info.background,
        ellipticity_err=info.psf.ellipticity_err,
        psf_variation=info.psf.variation,
        noise_variation=info.noise_variation,
        variance=variance if scale > 0 else None,
        variance_scale=scale if scale > 0 else 1.0,
    )
    return scene if info.is_part else scene._replace(ghosts=crosstalk_ghosts(scene, inputs.get(SCIENCE.name)))


def _table(found: Sequence[Detection], streaks: pa.Table, info: ExposureInfo) -> pa.Table:
    """Return rows of `DIA_SOURCE` in the given order, with reliability 0."""
    count = len(found)
    covariance = _covariance(found, info)
    columns = (
        _fit_columns(found, covariance)
        | _flux_columns(found, info)
        | _sky_columns(found, info, covariance)
        | {name: streaks[name].to_numpy() for name in ("logitSum", "logitPeak", "nHits")}
    )
    absent = (
        (DetectionFlag.NO_WCS if info.wcs_header is None else 0)
        | (DetectionFlag.NO_ZERO_POINT if info.ab_zero_point is None else 0)
        | (DetectionFlag.ASSUMED_PSF if info.psf.source == "assumed" else 0)
        | sum(flag for name, flag in _ASSUMED.items() if name in info.flags)
    )
    extent = [
        one.fit.segment.length
        * max(abs(np.cos(np.radians(one.fit.segment.angle))), abs(np.sin(np.radians(one.fit.segment.angle))))
        for one in found
    ]
    classes = [confirmed_class(one, name) for one, name in zip(found, streaks["trailClass"].to_pylist(), strict=True)]
    columns |= {
        "diaSourceId": np.zeros(count, np.int64),
        "visit": np.full(count, info.visit),
        "detector": np.full(count, info.detector),
        "midpointMjdTai": np.full(count, info.midpoint_mjd_tai),
        "exposureTime": np.full(count, info.exposure_time_s if info.exposure_time_s > 0 else np.nan),
        "band": [info.band] * count,
        "reliability": np.zeros(count),
        "reliabilityVersion": [""] * count,
        **dict.fromkeys(_CLASSES, np.full(count, np.nan)),
        "flags": np.array([_flags(one, name) | absent for one, name in zip(found, classes, strict=True)], np.int32),
        "trailClass": classes,
        "bboxSize": np.ceil(np.array(extent) + 4 * info.psf.fwhm_px).astype(np.int32),
    }
    # NaN means not known, and becomes null in the catalogue.
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in DIA_SOURCE.schema]
    return pa.Table.from_arrays(arrays, schema=DIA_SOURCE.schema)


def _flags(one: Detection, trail_class: str) -> int:
    return int(one.flags | (DetectionFlag.SATELLITE if trail_class else DetectionFlag(0)))


def _covariance(found: Sequence[Detection], info: ExposureInfo) -> NDArray[np.float64]:
    """Return the (n, 5, 5) covariance of flux, x, y, length and angle, from noise and the width of an assumed PSF.

    The error of a measured PSF is small compared with the noise.
    """
    covariance = np.array([one.fit.covariance for one in found], float).reshape(-1, 5, 5)
    if info.psf.source == "assumed":
        lengths = np.array([one.fit.segment.length for one in found], float)
        covariance[:, _LENGTH, _LENGTH] += psf_length_error(info.psf.fwhm_px, info.psf.fwhm_err, lengths) ** 2
    return covariance


def _fit_columns(found: Sequence[Detection], covariance: NDArray[np.float64]) -> dict[str, Any]:
    errors = np.sqrt(np.einsum("nii->ni", covariance))
    names = {"xErr": 1, "yErr": 2, "trailLengthPxErr": 3, "trailAnglePxErr": 4}
    return (
        {name: errors[:, k] for name, k in names.items()}
        | {
            "x": np.array([one.fit.segment.x for one in found]),
            "y": np.array([one.fit.segment.y for one in found]),
            "x_y_Cov": covariance[:, 1, 2],
            "trailLengthPx": np.array([one.fit.segment.length for one in found]),
            "trailAnglePx": np.array([one.fit.segment.angle for one in found]),
            "trailCov": [
                own.ravel().tolist() if one.fit.converged else None for one, own in zip(found, covariance, strict=True)
            ],
            "snr": np.array([one.snr for one in found]),
            "trailChi2": np.array([one.fit.chi2 for one in found]),
            "trailNdata": np.array([one.fit.ndata for one in found], np.int32),
            "psfChi2": np.array([one.psf.chi2 for one in found]),
            "sharpness": np.array([one.sharpness for one in found]),
            "negativeFraction": np.array([one.negative_fraction for one in found]),
            "maskedFraction": np.array([one.masked_fraction for one in found]),
        }
        | {f"{name}Evidence": np.array([one.evidence[k] for one in found]) for k, (name, _, _) in enumerate(CAUSES)}
    )


def _flux_columns(found: Sequence[Detection], info: ExposureInfo) -> dict[str, NDArray[np.float64]]:
    """Return fluxes with errors from the noise and, for fitted fluxes, also from the PSF."""
    scale = np.nan if info.ab_zero_point is None else njy_per_unit(info.ab_zero_point)
    lengths = np.array([one.fit.segment.length for one in found], float)
    known = (info.psf.fwhm_px, info.psf.beta, info.psf.fwhm_err, info.psf.flatness_err)
    point, trail = (psf_flux_error(*known, along) for along in (np.zeros_like(lengths), lengths))
    columns = {}
    for name, kind, share in (("psf", "psf", point), ("ap", "aperture", 0.0), ("trail", "trail", trail)):
        value, error = scale * np.array([getattr(one, kind)[:2] for one in found], float).reshape(-1, 2).T
        columns[f"{name}Flux"], columns[f"{name}FluxErr"] = value, np.hypot(error, share * value)
    # A failed fit has no errors.
    columns["trailFluxErr"] = np.where([one.fit.converged for one in found], columns["trailFluxErr"], np.nan)
    value, error = scale * np.array([one.light[:2] for one in found], float).reshape(-1, 2).T
    columns["magAB"], columns["magABErr"] = ab_magnitude(value, np.hypot(error, trail * value))
    return columns


def _sky_columns(
    found: Sequence[Detection], info: ExposureInfo, covariance: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    names = (
        "ra", "dec", "raErr", "decErr", "ra_dec_Cov", "trailRa", "trailDec",
        "trailLength", "trailLengthErr", "trailAngle", "trailAngleErr",
    )  # fmt: skip
    if info.wcs_header is None or not found:
        return {name: np.full(len(found), np.nan) for name in names}
    try:
        wcs = celestial_wcs(info.wcs_header)
    except ValueError as error:
        remedy = "correct the header of the exposure, or ingest it without WCS."
        raise BadInput("bad_wcs", f"exposure {info.name}", f"{error}.", remedy) from error
    x, y, length, angle = np.array([one.fit.segment for one in found]).T
    sky = sky_trails(wcs, x, y, length, angle, covariance[:, 1:, 1:])
    errors = np.sqrt(np.einsum("nii->ni", sky.covariance))
    values = (
        sky.ra, sky.dec, errors[:, 0], errors[:, 1], sky.covariance[:, 0, 1], sky.ra, sky.dec,
        sky.length, sky.length_err, sky.angle, sky.angle_err,
    )  # fmt: skip
    return dict(zip(names, values, strict=True))


def _with(table: pa.Table, **columns: pa.Array) -> pa.Table:
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), values)
    return table


def _reliability(weights: Weights, settings: MeasureSettings) -> Any:
    from kernels.measure.reliability_net import build_reliability  # import torch only if needed

    return build_reliability(weights)


STAGE = Stage(
    name="measure",
    version="20",
    per="exposure",
    needs=(STREAK, DIFFERENCE, MASK),
    optional=(SCIENCE, VARIANCE),
    gives=DIA_SOURCE,
    run=measure,
    settings=MeasureSettings,
    models=(Model("reliability", "measure.model", _reliability, otherwise="detect.model"),),
    numbers=Causes,
    memory=piecewise_memory,
    warm_up=as_found,
)
