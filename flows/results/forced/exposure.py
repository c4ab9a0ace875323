"""Forced photometry on one exposure, reading only its pixels around the targets."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.results.forced.targets import ForcedTargets, Sky
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from kernels.image.noise import Noise
from kernels.image.pixel_state import usable_pixels
from kernels.measure.forced import ForcedFlux, forced_flux, reach, upper_limit
from kernels.measure.photometry import ab_magnitude, njy_per_unit
from kernels.psf.flux_error import psf_flux_error
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.projection import PlacedTrails, celestial_wcs, place_trails
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.errors import BadInput, NoWork
from schemas.exposure import ExposureInfo
from schemas.forced import FORCED_SOURCE, ForcedFlag
from schemas.ledger import ExposureRecord
from schemas.pixels import Box

FORCED_VERSION = "2"
"""Version of the measurement; raised when its results change."""

_CELL = 1008  # px; targets whose centres lie in one cell are read together


def opened_tiles(out: Path, record: ExposureRecord) -> TileStore:
    """Open the pixels of an exposure.

    Raises
    ------
    BadInput
        The pixels were removed (``no_tiles``), or cannot be read.
    """
    path = tile_path(out, record.key)
    if not path.exists():
        raise BadInput(
            "no_tiles",
            str(path),
            "is not there: the pixels of this exposure were removed.",
            "run the exposure again with --tiles.",
        )
    return TileStore.open(path)


def measure_forced(
    store: TileStore, targets: ForcedTargets, sigma: float, chosen: NDArray[np.bool_] | None = None
) -> pa.Table:
    """Measure each target on an exposure.

    Parameters
    ----------
    store
        Tiles of the exposure.
    targets
        Targets anywhere; there is one row for each whose position at mid-exposure is on the image.
    sigma
        Standard errors of the upper limits, and minimum S/N of a detection.
    chosen
        Targets that have rows; others are only fitted if adjacent to these. None: all.

    Returns
    -------
    pyarrow.Table
        Rows of `FORCED_SOURCE`, by name.

    Raises
    ------
    NoWork
        The exposure has no WCS, so the positions on it are unknown.
    BadInput
        Its tiles are damaged, or its WCS cannot be read.
    """
    info = store.info
    sky = targets.at(info.midpoint_mjd_tai)
    length = targets.rate * info.exposure_time_s / 3600
    placed = _placed(info, sky, length)
    there = np.isfinite(placed.x)
    wanted = there if chosen is None else there & chosen
    covered = np.flatnonzero(wanted)
    segments = [Segment(*(float(part[i]) for part in placed)) for i in np.flatnonzero(there)]
    fluxes = _measured(store, segments, np.flatnonzero(wanted[there]).tolist())
    columns = _columns(info, fluxes, placed.length[covered], sigma) | {
        "targetName": targets.name[covered],
        "ra": sky.ra[covered],
        "dec": sky.dec[covered],
        "x": placed.x[covered],
        "y": placed.y[covered],
        "trailLength": length[covered],
        "trailAngle": np.where(length[covered] > 0, sky.angle[covered] % 180, 0.0),
        "trailLengthPx": placed.length[covered],
        "trailAnglePx": placed.angle[covered],
    }
    # NaN means not known: null in the catalogue.
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in FORCED_SOURCE.schema]
    return pa.Table.from_arrays(arrays, schema=FORCED_SOURCE.schema)


def _placed(info: ExposureInfo, sky: Sky, length: NDArray[np.float64]) -> PlacedTrails:
    where = f"exposure {info.name} of night {info.night}"
    if info.wcs_header is None:
        raise NoWork("no_wcs", where, "has no WCS, so no target can be placed on it.", "give its header a WCS.")
    try:
        wcs = celestial_wcs(info.wcs_header)
    except ValueError as error:
        raise BadInput("bad_wcs", where, f"{error}.", "correct the header of the exposure.") from error
    return place_trails(wcs, info.shape, sky.ra, sky.dec, length, sky.angle)


def _measured(store: TileStore, segments: Sequence[Segment], wanted: Sequence[int]) -> list[ForcedFlux]:
    """Return the fluxes of the wanted segments, in this order; one piece of the image is in memory at a time."""
    info = store.info
    found: dict[int, ForcedFlux] = {}
    boxes = [_box(one, info) for one in segments]
    near = _neighbours(segments, wanted, reach(0.0, info.psf.fwhm_px))
    for cell in _cells(segments, wanted):
        whole = _union([boxes[i] for i in cell])
        pixels, mask = store.read("difference", *whole), store.read("mask", *whole)
        usable = usable_pixels(pixels, mask)
        for i in cell:
            top, left, bottom, right = boxes[i]
            part = np.s_[top - whole[0] : bottom - whole[0], left - whole[1] : right - whole[1]]
            scene = _scene(pixels[part], usable[part], info, (top, left))
            place, *others = (
                segments[j]._replace(x=segments[j].x - left, y=segments[j].y - top) for j in (i, *near[i])
            )
            found[i] = forced_flux(scene.at(place.x, place.y), mask[part], place, others)
    return [found[i] for i in wanted]


def _scene(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], info: ExposureInfo, corner: tuple[int, int]
) -> Scene:
    noise = Noise(info.noise, np.array(info.noise_correlation), np.inf if info.gain is None else info.gain)
    psf = moffat_mixture(info.psf.fwhm_px, info.psf.beta)
    of_psf, of_noise = (
        one if one is None else one.shifted(*corner) for one in (info.psf.variation, info.noise_variation)
    )
    return Scene(pixels, usable, psf, info.psf.fwhm_px, noise, psf_variation=of_psf, noise_variation=of_noise)


def _cells(segments: Sequence[Segment], wanted: Iterable[int]) -> Iterator[list[int]]:
    """Yield the indices of the wanted segments, cell by cell."""
    cells: dict[tuple[int, int], list[int]] = {}
    for i in wanted:
        cells.setdefault((int(segments[i].y // _CELL), int(segments[i].x // _CELL)), []).append(i)
    for _, members in sorted(cells.items()):
        yield members


def _box(segment: Segment, info: ExposureInfo) -> Box:
    """Return the pixel range y0, x0, y1, x1 relevant to a trail, half open."""
    x1, y1, x2, y2 = segment.ends()
    (ny, nx), margin = info.shape, reach(0.0, info.psf.fwhm_px)
    return (
        max(int(min(y1, y2)) - margin, 0),
        max(int(min(x1, x2)) - margin, 0),
        min(int(max(y1, y2)) + margin + 2, ny),
        min(int(max(x1, x2)) + margin + 2, nx),
    )


def _union(boxes: Sequence[Box]) -> Box:
    low, high = np.min(boxes, axis=0), np.max(boxes, axis=0)
    return int(low[0]), int(low[1]), int(high[2]), int(high[3])


def _neighbours(segments: Sequence[Segment], wanted: Iterable[int], margin: int) -> dict[int, list[int]]:
    """Return for each wanted segment those whose boxes, grown by half of ``margin``, touch its own."""
    ends = np.array([one.ends() for one in segments]).reshape(-1, 2, 2)
    low, high = ends.min(axis=1) - margin / 2, ends.max(axis=1) + margin / 2
    near = {}
    for i in wanted:
        touching = np.flatnonzero(((low <= high[i]) & (high >= low[i])).all(axis=1))
        near[i] = [int(j) for j in touching if j != i]
    return near


def _columns(
    info: ExposureInfo, fluxes: Sequence[ForcedFlux], lengths: NDArray[np.float64], sigma: float
) -> dict[str, Any]:
    """Return fluxes with their errors, from noise and PSF, and the values derived from them."""
    count = len(fluxes)
    scale = np.nan if info.ab_zero_point is None else njy_per_unit(info.ab_zero_point)
    trail, psf = (np.array([getattr(one, kind) for one in fluxes], float).reshape(-1, 3) for kind in ("trail", "psf"))
    known = (info.psf.fwhm_px, info.psf.beta, info.psf.fwhm_err, info.psf.flatness_err)
    flux, snr = scale * trail[:, 0], trail[:, 0] / trail[:, 1]
    error = np.hypot(scale * trail[:, 1], psf_flux_error(*known, lengths) * flux)
    point = np.hypot(scale * psf[:, 1], psf_flux_error(*known, np.zeros(1)) * scale * psf[:, 0])
    upper = upper_limit(flux, error, sigma)
    with np.errstate(invalid="ignore"):
        seen = np.where(snr >= sigma, flux, np.nan)
    magnitude, magnitude_err = ab_magnitude(seen, error)
    absent = ForcedFlag.NO_ZERO_POINT if info.ab_zero_point is None else ForcedFlag(0)
    return {
        "visit": np.full(count, info.visit),
        "detector": np.full(count, info.detector),
        "band": [info.band] * count,
        "midpointMjdTai": np.full(count, info.midpoint_mjd_tai),
        "psfFlux": scale * psf[:, 0],
        "psfFluxErr": point,
        "trailFlux": flux,
        "trailFluxErr": error,
        "trailFluxUpper": upper,
        "magAB": magnitude,
        "magABErr": magnitude_err,
        "magABLimit": ab_magnitude(upper, error)[0],
        "limitSigma": np.full(count, sigma),
        "snr": snr,
        "trailChi2": trail[:, 2],
        "trailNdata": np.array([one.ndata for one in fluxes], np.int32),
        "maskedFraction": np.array([1 - one.visible for one in fluxes], float),
        "flags": np.array([int(one.flags | absent) for one in fluxes], np.int32),
    }
