"""Stage: injection of synthetic streaks into copies of a few tiles, and search of these copies."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.image.pixel_state import usable_pixels
from kernels.image.tile_copy import TileCopy, area_of, clearance, copy_tile, copying_memory, drawn_tiles
from kernels.measure.photometry import ab_magnitude, njy_per_unit
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.psf_shape import psf_at
from kernels.statistics.matching import Targets, match_detections
from kernels.trails.geometry import DetectedSegment
from kernels.trails.injection import (
    TrailStamp,
    add_light,
    draw_trails,
    flux_of,
    trail_stamp,
    visible_stamp_share,
)
from schemas.dataset import DatasetError
from schemas.exposure import ExposureInfo
from schemas.injection import INJECTED
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, VARIANCE, SearchGrid
from schemas.settings import InjectSettings
from schemas.stage import Context, Search, Stage

_PURPOSE = zlib.crc32(b"injection")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Injected:
    """Injected streak, in pixels of the exposure."""

    trail: DetectedSegment
    flux: float
    visible: float


def inject(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the synthetic streaks of an exposure, each with its result from the search.

    Parameters
    ----------
    inputs
        ``difference`` and ``mask`` of the whole exposure, and ``science`` if there is one; none is changed.
    context
        The exposure, the section `InjectSettings`, and the pipeline's ``search``.

    Returns
    -------
    table
        `INJECTED`, sorted by (y, x); without rows if no tile was drawn. The tiles and the streaks depend only on
        night, visit, detector and the settings, and a larger share includes the tiles of a smaller one. Some streaks
        may lie beside real sources (`stages.choose_injected`).

    Raises
    ------
    DatasetError
        The exposure or the search is missing.
    """
    exposure, settings, search = context.exposure, context.settings, context.search
    if exposure is None or search is None:
        raise DatasetError("stage 'inject' needs an exposure and a search. To fix, give both in the context.")
    rows: list[dict[str, Any]] = []
    for tile, box, rng in drawn_tiles(exposure, settings.share, _PURPOSE):
        copy = copy_tile(inputs, tile, box, settings.length[1], exposure, search.grid)
        injected = _put_in(copy, rng, settings, search.grid, exposure)
        rows += _searched(copy, injected, exposure, search)
    rows.sort(key=lambda row: (row["y"], row["x"]))
    apart = clearance(search.grid, exposure.psf.fwhm_px)
    return pa.Table.from_pylist([row | {"clearance": apart} for row in rows], INJECTED.schema)


def _searched(
    copy: TileCopy, injected: list[_Injected], exposure: ExposureInfo, search: Search
) -> list[dict[str, Any]]:
    """Search a copy, and return the rows of its streaks without ids."""
    found = search(copy.planes, copy.exposure(exposure), copy.searched)
    x, y = (found[name].to_numpy() + start for name, start in (("x", copy.x0), ("y", copy.y0)))
    matches = match_detections(x, y, found["reliability"].to_numpy(), _targets(injected))
    finder = {int(target): row for row, target in enumerate(matches.target) if target >= 0}
    reports = found.select(_REPORTED).to_pylist()
    return [
        _row(one, copy.tile, exposure) | _outcome(one, finder.get(i), reports, x, y, exposure)
        for i, one in enumerate(injected)
    ]


def _put_in(
    copy: TileCopy,
    rng: np.random.Generator,
    settings: Any,
    grid: SearchGrid,
    exposure: ExposureInfo,
) -> list[_Injected]:
    image, mask = copy.planes[DIFFERENCE.name], copy.planes[MASK.name]
    usable, fwhm = usable_pixels(image, mask), exposure.psf.fwhm_px
    psf, correlation = moffat_mixture(fwhm, exposure.psf.beta), np.array(exposure.noise_correlation)
    varying, apart = exposure.psf.variation, clearance(grid, fwhm)
    trails = draw_trails(rng, _number(settings.streaks, copy.box), copy.box, settings.length, settings.snr, apart)
    injected, stamps = [], list[TrailStamp]()
    for trail in trails:
        here = trail.shifted(-copy.x0, -copy.y0)
        stamp = trail_stamp(here, psf if varying is None else psf_at(psf, varying, trail.x, trail.y), fwhm)
        flux = flux_of(here, stamp, image, usable, exposure.noise, correlation)
        injected.append(_Injected(trail, flux, visible_stamp_share(usable, stamp)))
        stamps.append(stamp)
    before = image.copy()
    for one, stamp in zip(injected, stamps, strict=True):  # the noise is measured without the streaks
        add_light(image, stamp, one.flux, exposure.gain, rng)
    if SCIENCE.name in copy.planes:
        copy.planes[SCIENCE.name][...] += image - before  # the streak is on the science image, not on the template
    return injected


def _number(streaks: int, box: tuple[int, int, int, int]) -> int:
    """Return a number of streaks in proportion to the area, at least one."""
    return max(1, round(streaks * area_of(box)))


def _targets(injected: list[_Injected]) -> Targets:
    x, y, length, angle, _ = np.array([one.trail for one in injected], float).reshape(-1, 5).T
    # Hidden streaks are searched for as well; sums exclude them by `visible`.
    return Targets(np.full(len(x), "streak"), x, y, length, angle, np.ones(len(x)))


_REPORTED = ["reliability", "snr", "trailFlux", "trailLengthPx", "trailAnglePx"]


def _row(one: _Injected, tile: int, exposure: ExposureInfo) -> dict[str, Any]:
    """Return the columns of the injected streak."""
    flux = None if exposure.ab_zero_point is None else one.flux * njy_per_unit(exposure.ab_zero_point)
    return {
        "visit": exposure.visit,
        "detector": exposure.detector,
        "tile": tile,
        "x": one.trail.x,
        "y": one.trail.y,
        "length": one.trail.length,
        "angle": one.trail.angle,
        "pixelFlux": one.flux,
        "flux": flux,
        "magAB": None if flux is None else float(ab_magnitude(np.array(flux), np.array(0.0))[0]),
        "snr": one.trail.snr,
        "visible": one.visible,
        "band": exposure.band,
        "midpointMjdTai": exposure.midpoint_mjd_tai,
    }


def _outcome(
    one: _Injected,
    finder: int | None,
    reports: list[dict[str, Any]],
    x: Floats,
    y: Floats,
    exposure: ExposureInfo,
) -> dict[str, Any]:
    """Return the columns of the search result for a streak."""
    if finder is None:
        return {"recovered": False}
    report, zero_point = reports[finder], exposure.ab_zero_point
    ratio = None if zero_point is None else report["trailFlux"] / (one.flux * njy_per_unit(zero_point))
    return {
        "recovered": True,
        "reliability": report["reliability"],
        "measuredSnr": report["snr"],
        "fluxRatio": ratio,
        "xOffset": x[finder] - one.trail.x,
        "yOffset": y[finder] - one.trail.y,
        "lengthOffset": report["trailLengthPx"] - one.trail.length,
        "angleOffset": (report["trailAnglePx"] - one.trail.angle + 90) % 180 - 90,
    }


STAGE = Stage(
    name="inject",
    version="5",
    per="exposure",
    needs=(DIFFERENCE, MASK),
    optional=(SCIENCE, VARIANCE),
    gives=INJECTED,
    run=inject,
    settings=InjectSettings,
    memory=copying_memory,
    searches=True,
)
