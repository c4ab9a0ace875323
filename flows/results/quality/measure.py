"""Measures of a night for each instrument and band."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import NDArray

from flows.runtime.parallel import side_by_side
from flows.storage.bucket_path import BucketPath
from flows.storage.catalog_store import CatalogStore
from flows.storage.digest import digest
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import brightness, moffat_mixture
from kernels.sky.positions import along_great_circle
from kernels.sky.projection import positions_in_pixels
from kernels.statistics.drift import FEATURES
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, PsfModel
from schemas.known_object import SS_EPHEMERIS, SS_SOURCE
from schemas.ledger import ExposureRecord, ProvenanceRecord
from schemas.negative import NEGATIVE
from schemas.objects import SOURCE
from schemas.quality import BandMeasures, Measure, Sketch
from schemas.recovery import Limit, Recovery
from schemas.summary import BRIGHT_UNRELIABLE

Floats = NDArray[np.float64]

Exposure = TypeVar("Exposure")

MOST = 2000
"""Maximum number of exposures of a night that are read, evenly spread."""

MOST_RINGS = 200
"""Maximum number of exposures whose sources are read, to count detections around bright stars."""

SEARCH_MODELS = ("detect", "reliability")
SEARCH_STAGES = ("detect", "merge", "measure")


class Rings(NamedTuple):
    """Detections near certain sources of an exposure, e.g. in rings around bright ones, and elsewhere.

    Attributes
    ----------
    inside, outside
        Numbers of detections in these areas, and outside.
    ratio
        Ratio of the areas.
    """

    inside: int
    outside: int
    ratio: float


class Negative(NamedTuple):
    """False detections on the negated tiles of an exposure, and the pixels searched."""

    false: int
    pixels: int


NOT_NEGATED = Negative(0, 0)


class KnownCount(NamedTuple):
    """Number of known objects that an exposure should show clearly, and of those that were found."""

    expected: int
    found: int


@dataclass(frozen=True)
class Looked:
    """Published exposure: its record, metadata, detections and provenance; and further values if known."""

    record: ExposureRecord
    info: ExposureInfo
    sources: pa.Table
    search: str
    models: tuple[str, ...]
    bright: Rings | None = None
    cores: Rings | None = None
    negative: Negative = NOT_NEGATED
    known: KnownCount | None = None


def spread(exposures: Sequence[Exposure], most: int | None = None) -> list[Exposure]:
    """Return all exposures of a night, or ``most`` of them (default: `MOST`), evenly spread."""
    most = MOST if most is None else most
    if len(exposures) <= most:
        return list(exposures)
    return [exposures[place * len(exposures) // most] for place in range(most)]


def look_at_exposures(out: Path, records: Sequence[ExposureRecord]) -> list[Looked]:
    """Read exposures of a night; those with unreadable files are left out."""
    chosen, ledger = spread(records), Ledger(out)
    digests = sorted({record.provenance for record in chosen if record.provenance})
    known = {one: _search(ledger.provenance(one)) for one in digests}
    ringed = {record.name for record in spread(chosen, MOST_RINGS)}

    def read(record: ExposureRecord) -> Looked | None:
        try:
            info = TileStore.open(tile_path(out, record.key)).info
            sources = CatalogStore(out).read(DIA_SOURCE, record.key)
            turned = CatalogStore(out).read(NEGATIVE, record.key) if NEGATIVE.name in record.datasets else None
            around, there = rings(record, info, unclassed(sources)), known_objects(record, info)
        except BadInput:
            return None
        made = known.get(record.provenance or "", ("", ()))
        return Looked(record, info, sources, *made, *around, _negative(turned), there)

    def known_objects(record: ExposureRecord, info: ExposureInfo) -> KnownCount | None:
        if not {SS_EPHEMERIS.name, SS_SOURCE.name} <= record.datasets.keys():
            return None
        predicted, found = (CatalogStore(out).read(table, record.key) for table in (SS_EPHEMERIS, SS_SOURCE))
        return count_known(predicted, found, info)

    def rings(record: ExposureRecord, info: ExposureInfo, rows: pa.Table) -> tuple[Rings | None, Rings | None]:
        if record.name not in ringed or SOURCE.name not in record.datasets:
            return None, None
        sources = CatalogStore(out).read(SOURCE, record.key)
        return around_bright(rows, sources, info), at_cores(rows, sources, info)

    found = side_by_side(read, chosen, isinstance(out, BucketPath))
    return [one for one in found if one is not None]


def count_known(predicted: pa.Table, found: pa.Table, info: ExposureInfo) -> KnownCount | None:
    """Count the known objects on an exposure that should be found; None without a zero point.

    Parameters
    ----------
    predicted, found
        Rows of `SS_EPHEMERIS` and `SS_SOURCE`. Objects count if their pixel can be searched, their position is known to
        1 arcsec, and they are 1 mag brighter than a point source of S/N 5.
    info
        Metadata of the exposure.
    """
    deep = depth(info)
    if deep is None:
        return None
    bright = pc.fill_null(pc.less(predicted["ephVmag"], deep - _CLEAR_MAG), False)
    sure = pc.and_(predicted["usable"], pc.less(predicted["ephUncertainty"], _CERTAIN))
    names = predicted.filter(pc.and_(bright, sure))["designation"]
    return KnownCount(len(names), pc.sum(pc.is_in(names, value_set=found["designation"])).as_py() or 0)


def _negative(tiles: pa.Table | None) -> Negative:
    if tiles is None:
        return NOT_NEGATED
    return Negative(*(int(pc.sum(tiles[name]).as_py() or 0) for name in ("nFalse", "nPixels")))


def _search(made: ProvenanceRecord | None) -> tuple[str, tuple[str, ...]]:
    """Return a digest of all that detections depend on besides the pixels, and the models as text."""
    if made is None:
        return "", ()
    cards = {name: made.models[name] for name in SEARCH_MODELS if name in made.models}
    stages = {name: made.stages.get(name, "") for name in SEARCH_STAGES}
    sections = {name: made.settings.get(name) or {} for name in SEARCH_STAGES}
    words = tuple(f"{name} {card.name} {card.version} ({card.sha256[:12]})" for name, card in cards.items())
    return digest(cards, stages, sections), words


_CLEAR_MAG, _CERTAIN = 1.0, 1.0  # mag brighter than S/N 5, and arcsec, for known objects that should be found
_BRIGHTEST = 50  # stars per quadrant with rings
_QUADRANT = 3080 * 3072
_RING = (2.0, 12.0)  # FWHM: a closer detection may be the star itself, varying
_EXTENDED, _CLEAR_SNR = 0.85, 20.0  # half-light radius over FWHM, and S/N, of a certain galaxy
_OUTSHINES = 2.0  # S/N of a galaxy over that of a detection on it
_GRID = 200  # points along a side with which areas are measured


def unclassed(rows: pa.Table) -> pa.Table:
    """Return the detections without a class; satellites have one."""
    return rows.filter(pc.equal(rows["trailClass"], ""))


def around_bright(detections: pa.Table, sources: pa.Table, info: ExposureInfo) -> Rings | None:
    """Count detections in rings around the brightest sources of an exposure, and elsewhere.

    Parameters
    ----------
    detections, sources
        Rows of `DIA_SOURCE` and `SOURCE`. The brightest sources, 50 for the area of a ZTF quadrant, have rings from 2
        to 12 FWHM.
    info
        Metadata of the exposure.

    Returns
    -------
    Rings or None
        None without sources, or if rings cover the image.
    """
    count = math.ceil(_BRIGHTEST * math.prod(info.shape) / _QUADRANT)
    bright = sources.sort_by([("snr", "descending")]).slice(0, count)
    if not bright.num_rows:
        return None
    from scipy.spatial import KDTree

    tree = KDTree(_places(bright))
    near, far = (edge * info.psf.fwhm_px for edge in _RING)

    def parts(points: Floats) -> tuple[int, int]:
        apart = tree.query(points)[0] if len(points) else np.empty(0)
        return int(((apart > near) & (apart < far)).sum()), int((apart >= far).sum())

    y, x = (np.arange(_GRID) * size / _GRID for size in info.shape)
    area, beyond = parts(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    return Rings(*parts(_places(detections)), area / beyond) if beyond else None


def at_cores(detections: pa.Table, sources: pa.Table, info: ExposureInfo) -> Rings | None:
    """Count detections within 1 FWHM of the centres of galaxies, and elsewhere; None without galaxies.

    A source counts as a galaxy if its half-light radius is at least 0.85 FWHM; that of a Moffat profile with beta 3 is
    0.63. Trails are as large; so a source of less than twice the detection's S/N is taken to be the detection itself.
    """
    large = pc.greater(sources["halfLightRadius"], pc.multiply(_EXTENDED, sources["fwhm"]))
    galaxies = sources.filter(pc.and_(pc.fill_null(large, False), pc.greater(sources["snr"], _CLEAR_SNR)))
    if not galaxies.num_rows:
        return None
    from scipy.spatial import KDTree

    reach, places = info.psf.fwhm_px, _places(detections)
    inside, area, image = 0, galaxies.num_rows * math.pi * reach**2, math.prod(info.shape)
    if len(places):
        apart, nearest = KDTree(_places(galaxies)).query(places)
        outshone = galaxies["snr"].to_numpy()[nearest] > _OUTSHINES * detections["snr"].to_numpy()
        inside = int(((apart < reach) & outshone).sum())
    return Rings(inside, len(places) - inside, area / (image - area)) if area < image else None


def _places(rows: pa.Table) -> Floats:
    return np.column_stack([rows[name].to_numpy().astype(np.float64) for name in ("x", "y")])


@dataclass(frozen=True)
class Compass:
    """Directions at the centre of an exposure, in pixels.

    Attributes
    ----------
    scale
        Side of a pixel, arcsec.
    north, east
        Unit vectors (x, y).
    """

    scale: float
    north: tuple[float, float]
    east: tuple[float, float]


def compass(info: ExposureInfo) -> Compass | None:
    """Return directions and scale for ``info``; None without a readable WCS."""
    if info.wcs_header is None:
        return None
    centre = np.array([(info.shape[1] - 1) / 2, (info.shape[0] - 1) / 2])
    try:
        wcs = _wcs(info.wcs_header)
        if not wcs.has_celestial:
            return None
        sky = wcs.pixel_to_world(*centre).icrs
        ra, dec = np.full(3, sky.ra.deg), np.full(3, sky.dec.deg)
        ends = along_great_circle(ra, dec, np.array([0.0, 0.0, 90.0]), np.array([0.0, 1.0, 1.0]) / 3600)
        origin, north, east = np.stack(positions_in_pixels(wcs, *ends[:2]), 1)
    except (ValueError, KeyError, ArithmeticError):  # raised by astropy for invalid headers of all kinds
        return None
    toward_north, toward_east = north - origin, east - origin
    lengths = np.hypot(*toward_north), np.hypot(*toward_east)
    if not (np.isfinite(lengths).all() and min(lengths) > 0):
        return None
    scale = 1 / np.sqrt(abs(toward_north[0] * toward_east[1] - toward_north[1] * toward_east[0]))
    return Compass(float(scale), _unit(toward_north), _unit(toward_east))


def depth(info: ExposureInfo) -> float | None:
    """Return the AB magnitude of a point source of S/N 5, None without a zero point.

    The noise of the PSF-weighted flux includes the correlation of the image: 5 std(m-filtered noise) / sum(m^2) for the
    PSF m.
    """
    if info.zero_point is None:
        return None
    flux = _faintest(info.psf, info.noise, np.array(info.noise_correlation))
    return info.zero_point - 2.5 * float(np.log10(flux))


def _faintest(psf: PsfModel, noise: float, correlation: Floats) -> float:
    """Return the flux of a point source of S/N 5."""
    reach = int(np.ceil(3 * psf.fwhm_px)) + 1
    squared = np.square(np.arange(-reach, reach + 1.0))
    # Each Gaussian of the mixture includes the pixel's response: its value over 2 pi is the flux fraction in a pixel.
    profile = brightness(moffat_mixture(psf.fwhm_px, psf.beta), squared + squared[:, None]) / (2 * np.pi)
    return 5 * filtered_noise(profile, noise, correlation) / float(np.sum(profile**2))


def warm_up() -> None:
    """Import what the first depth needs: parts of scipy."""
    _faintest(PsfModel(fwhm_px=2.0, beta=3.0), 1.0, np.ones((1, 1)))


def _wcs(cards: str) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # about dates and cards not used here
        return WCS(fits.Header.fromstring(cards, sep="\n"))


def _unit(vector: NDArray[np.float64]) -> tuple[float, float]:
    x, y = vector / np.hypot(*vector)
    return float(x), float(y)


def measure_quality(exposures: Sequence[Looked], recoveries: Sequence[Recovery]) -> tuple[BandMeasures, ...]:
    """Measure a night.

    Parameters
    ----------
    exposures
        Exposures of the night that were read.
    recoveries
        Recovery of its synthetic streaks.

    Returns
    -------
    tuple
        Measures by instrument and band.
    """
    groups: dict[tuple[str, str], list[Looked]] = {}
    for one in exposures:
        groups.setdefault((one.info.instrument, one.info.band), []).append(one)
    limits = {one.band: one for one in recoveries if one.band is not None and one.detector is None}
    alone = len({instrument for instrument, _ in groups}) == 1
    return tuple(
        _band(instrument, band, groups[instrument, band], limits.get(band) if alone else None)
        for instrument, band in sorted(groups)
    )


def _band(instrument: str, band: str, exposures: list[Looked], recovery: Recovery | None) -> BandMeasures:
    searches = {one.search for one in exposures}
    return BandMeasures(
        instrument=instrument,
        band=band,
        exposures=len(exposures),
        search=searches.pop() if len(searches) == 1 else "",
        models=tuple(sorted({model for one in exposures for model in one.models})),
        measures=(*_of_images(exposures), *_of_copies(recovery), *_of_detections(exposures)),
        sketches=tuple(_sketches(exposures)),
    )


def _of_images(exposures: list[Looked]) -> Iterator[Measure]:
    infos = [one.info for one in exposures]
    told = [info for info in infos if info.psf.source != "assumed"]
    scales = [directions.scale if (directions := compass(info)) else None for info in told]
    if any(scale is None for scale in scales):
        yield _median("seeing", "px", [info.psf.fwhm_px for info in told], "the PSFs are assumed")
    else:
        widths = [info.psf.fwhm_px * (scale or 0) for info, scale in zip(told, scales, strict=True)]
        yield _median("seeing", "arcsec", widths, "the PSFs are assumed")
    depths = [deep for info in infos if (deep := depth(info)) is not None]
    yield _median("depth", "mag", depths, "no zero point")
    alike, zeros = infos, "not given"
    if len({info.pixel_unit for info in infos}) > 1:
        alike, zeros = [], "the pixels are in several units"
    zero_points = [info.zero_point for info in alike if info.zero_point is not None]
    yield _median("zero_point", "mag", zero_points, zeros)
    yield _median("noise", infos[0].pixel_unit, [info.noise for info in alike], zeros)
    left = [info.subtraction_residual for info in infos if info.subtraction_residual is not None]
    yield _median("subtraction_residual", "", left, "not subtracted here")


def _median(metric: str, unit: str, values: Sequence[float], reason: str) -> Measure:
    """Return the median with its standard error, that of a Gaussian sample: sqrt(pi / 2) std / sqrt(n)."""
    if not values:
        return Measure(metric=metric, unit=unit, n=0, reason=reason)
    error = math.sqrt(math.pi / 2 / len(values)) * float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Measure(metric=metric, unit=unit, n=len(values), value=float(np.median(values)), error=error)


def _of_copies(recovery: Recovery | None) -> Iterator[Measure]:
    magnitudes = recovery.magnitude[:1] if recovery is not None else ()
    yield _limit("limiting_magnitude", "mag", magnitudes[0].limit if magnitudes else None)
    yield _limit("snr_of_half", "", recovery.snr if recovery is not None else None)


def _limit(metric: str, unit: str, limit: Limit | None) -> Measure:
    if limit is None or limit.value is None or limit.interval is None:
        reason = limit.reason if limit is not None else "no synthetic streaks"
        return Measure(metric=metric, unit=unit, n=limit.n if limit is not None else 0, reason=reason)
    error = (limit.interval[1] - limit.interval[0]) / (2 * 1.96)  # half of a 95 % interval, in sigma
    return Measure(metric=metric, unit=unit, n=limit.n, value=limit.value, error=error)


def _of_detections(exposures: list[Looked]) -> Iterator[Measure]:
    rows = _rows(exposures)
    # Satellites have their own threshold: their reliability does not measure the search.
    streaks = unclassed(rows)
    doubt = 1 - streaks["reliability"].to_numpy().astype(np.float64)
    yield _rate("detections", rows.num_rows, math.sqrt(rows.num_rows), len(exposures))
    yield _rate("expected_false", float(doubt.sum()), math.sqrt(float(doubt.sum())), len(exposures))
    yield _negated([one for one in exposures if one.negative.pixels])
    yield _excess("bright_star_excess", [one.bright for one in exposures if one.bright is not None])
    yield _excess("galaxy_core_excess", [one.cores for one in exposures if one.cores is not None])
    yield _known([one.known for one in exposures if one.known is not None])
    if any(not one.record.causes for one in exposures):
        for metric in ("refused", "cosmic_rays"):
            yield Measure(metric=metric, unit="per exposure", n=0, reason="the causes were not counted")
        return
    causes = [
        {name: counted.refused for name, counted in one.record.causes.items() if name != BRIGHT_UNRELIABLE}
        for one in exposures
    ]
    for metric, counts in (("refused", _sums(causes)), ("cosmic_rays", [one.get("cosmic_ray", 0) for one in causes])):
        yield _rate(metric, sum(counts), math.sqrt(sum(counts)), len(exposures))


def _negated(exposures: Sequence[Looked]) -> Measure:
    """Return the false detections on negated tiles, scaled to whole exposures."""
    if not exposures:
        return Measure(metric="negated_false", unit="per exposure", n=0, reason="no tile was negated")
    pixels = sum(one.negative.pixels for one in exposures)
    whole = sum(math.prod(one.info.shape) for one in exposures)
    false = sum(one.negative.false for one in exposures)
    return _rate("negated_false", false * whole / pixels, max(math.sqrt(false), 1.0) * whole / pixels, len(exposures))


def _known(exposures: Sequence[KnownCount]) -> Measure:
    """Return the fraction of known objects that were found, with the error of Agresti and Coull (1998)."""
    expected, found = (sum(one[place] for one in exposures) for place in (0, 1))
    if not expected:
        reason = "no bright known object" if exposures else "no orbits of known objects"
        return Measure(metric="known_recovered", unit="", n=0, reason=reason)
    share = (found + 2) / (expected + 4)
    error = math.sqrt(share * (1 - share) / (expected + 4))
    return Measure(metric="known_recovered", unit="", n=expected, value=found / expected, error=error)


def _excess(metric: str, rings: Sequence[Rings]) -> Measure:
    """Return the number of detections per exposure near such sources in excess of those in equal areas elsewhere."""
    if not rings:
        return Measure(metric=metric, unit="per exposure", n=0, reason="no sources of science images")
    excess = sum(one.inside - one.ratio * one.outside for one in rings)
    variance = sum(one.inside + one.ratio**2 * one.outside for one in rings)
    return _rate(metric, excess, math.sqrt(variance), len(rings))


def _sums(causes: Sequence[Mapping[str, int]]) -> list[int]:
    return [sum(one.values()) for one in causes]


def _rate(metric: str, total: float, error: float, exposures: int) -> Measure:
    """Return a number per exposure, with its counting error; for zero, the error of one."""
    return Measure(
        metric=metric,
        unit="per exposure",
        n=exposures,
        value=total / exposures,
        error=max(error, 1.0) / exposures,
    )


def _rows(exposures: list[Looked]) -> pa.Table:
    return pa.concat_tables([one.sources for one in exposures])


def _sketches(exposures: list[Looked]) -> Iterator[Sketch]:
    rows = unclassed(_rows(exposures))
    values: dict[str, Floats] = {
        name: rows[name].to_numpy(zero_copy_only=False).astype(np.float64)
        for name in FEATURES
        if name in rows.column_names
    }
    chi2, pixels = (
        rows[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("trailChi2", "trailNdata")
    )
    values["reducedChi2"] = chi2[pixels > 5] / (pixels[pixels > 5] - 5)  # five parameters are fitted
    for name, bins in FEATURES.items():
        counts = bins.histogram(values[name])
        filled = np.flatnonzero(counts)
        yield Sketch(feature=name, counts=tuple((int(place), int(counts[place])) for place in filled))
