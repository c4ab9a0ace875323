"""Pictures of a position: planes of its exposure and other visits, with pixel values that the page can stretch."""

import base64
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.results.page.detection import Mark, PageDetection, cut_square, cutout_box, place_mark
from flows.results.page.picture import bin_mean, level_and_noise, png, stretch
from flows.results.page.words import utc
from flows.storage.bucket_path import change_of
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from kernels.sky.patches import pixels_at
from kernels.sky.projection import celestial_wcs
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey
from schemas.ledger import ExposureRecord
from schemas.patch import COVER_ORDER
from schemas.pixels import DIFFERENCE, SCIENCE, TEMPLATE

MOST_SIDE = 128
"""Side of a stamp above which it is binned, px."""

MOST_VISITS = 8
"""Largest number of other visits shown: the nearest in time."""

_LOOKED_AT = 24  # largest number of exposures checked for covering a position, nearest in time
_SOFT = 4.0  # in units of the noise: where the inverse hyperbolic sine turns from linear to logarithmic


@dataclass(frozen=True)
class Range:
    """Values shown as black and white, and the softening of an inverse hyperbolic sine."""

    low: float
    high: float
    soft: float = 0.0


@dataclass(frozen=True)
class PlaceStamp:
    """Picture of a square of an exposure.

    Attributes
    ----------
    name, title
        Short and long name.
    uri
        Data URI of the picture with an asinh stretch, for browsers without scripts.
    values
        float32, little-endian, base64, top row first; NaN: no value.
    side, width
        Side of the stamp in its own pixels and in pixels of the exposure.
    ranges
        Stretch -> range of values.
    unit
        Unit of the values.
    mark
        Fitted trail of the candidate; None on other visits.
    link
        Target of the link; "" if none.
    """

    name: str
    title: str
    uri: str
    values: str
    side: int
    width: int
    ranges: dict[str, Range]
    unit: str
    mark: Mark | None = None
    link: str = ""


@lru_cache(maxsize=256)
def _opened(path: Path, _: object) -> TileStore:
    return TileStore.open(path)


def open_tiles(out: Path, key: ExposureKey) -> TileStore | None:
    """Return the tiles of an exposure, opened only once; None if they are pruned or damaged."""
    path = tile_path(out, key)
    with suppress(OSError, BadInput):
        return _opened(path, change_of(path / "zarr.json"))
    return None


def place_stamps(store: TileStore, detection: PageDetection) -> list[PlaceStamp]:
    """Return stamps of difference, science and template around a detection, as far as they exist.

    Raises
    ------
    BadInput
        A tile is damaged.
    """
    y0, x0, side = cutout_box(detection)
    names = [name for name in (DIFFERENCE.name, SCIENCE.name, TEMPLATE.name) if name in store.planes]
    return [_stamp(store, name, (y0, x0, side), name, f"{name} image", detection) for name in names]


def other_visits(
    out: Path,
    records: Iterable[ExposureRecord],
    key: ExposureKey,
    detection: PageDetection,
    place: tuple[float, float],
    mjd: float,
) -> list[PlaceStamp]:
    """Return difference images of other visits around a position on the sky, by time.

    Parameters
    ----------
    out, records
        Output folder, and its exposures: of all nights, since what is there every night does not move.
    key, mjd
        The candidate's exposure, and its time, MJD TAI; the visits nearest in time are shown.
    detection
        Detection that sets the size of the stamps.
    place
        Right ascension and declination, deg.
    """
    pixel, night = int(pixels_at(np.array([place[0]]), np.array([place[1]]), COVER_ORDER)[0]), _day(key.night)
    near = [one for one in records if (not one.sky or pixel in one.sky) and one.key != key]
    near.sort(key=lambda one: (abs(_day(one.night) - night), abs(one.visit - key.visit)))
    seen = list[tuple[TileStore, tuple[float, float]]]()
    for record in near[:_LOOKED_AT]:
        if (store := open_tiles(out, record.key)) is not None and (at := _place_on(store.info, place)) is not None:
            seen.append((store, at))
    seen.sort(key=lambda one: abs(one[0].info.midpoint_mjd_tai - mjd))
    shown = sorted(seen[:MOST_VISITS], key=lambda one: one[0].info.midpoint_mjd_tai)
    found, side = list[PlaceStamp](), cutout_box(detection)[2]
    for store, (x, y) in shown:
        info = store.info
        name = f"{info.band} {_later(info.midpoint_mjd_tai - mjd)}"
        title = f"visit {info.visit}, {info.band}, {utc(info.midpoint_mjd_tai)} UTC: difference image"
        link = f"/exposure/{info.night}/{info.name}?x={x:.1f}&y={y:.1f}"
        with suppress(BadInput):
            box = (round(y) - side // 2, round(x) - side // 2, side)
            found.append(_stamp(store, DIFFERENCE.name, box, name, title, None, link))
    return found


def _day(night: str) -> int:
    return date.fromisoformat(night).toordinal()


def _later(days: float) -> str:
    """Return a time difference in words: minutes, or days from half a day on."""
    return f"{1440 * days:+.0f} min" if abs(days) < 0.5 else f"{days:+.1f} d"


def _place_on(info: ExposureInfo, place: tuple[float, float]) -> tuple[float, float] | None:
    """Return the position of a place on the sky in an exposure, px, 0-based; None if it is outside."""
    if info.wcs_header is None:
        return None
    from astropy.coordinates import SkyCoord

    try:
        x, y = celestial_wcs(info.wcs_header).world_to_pixel(SkyCoord(*place, unit="deg"))
    except Exception:  # far from the image a distortion may have no inverse
        return None
    ny, nx = info.shape
    return (float(x), float(y)) if -0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5 else None


def _stamp(
    store: TileStore,
    plane: str,
    box: tuple[int, int, int],
    name: str,
    title: str,
    detection: PageDetection | None,
    link: str = "",
) -> PlaceStamp:
    y0, x0, side = box
    factor = math.ceil(side / MOST_SIDE)
    full = cut_square(store, plane, box)
    binned = bin_mean(full, np.isfinite(full), factor).astype(np.float32)
    width, info = binned.shape[0] * factor, store.info
    if plane == DIFFERENCE.name:
        level, noise, bright = info.background, info.noise, 8.0
    else:
        (level, noise), bright = level_and_noise(binned), 30.0
    mark = None
    if detection is not None:
        mark = place_mark(detection, (x0, y0), width, max(1.5 * info.psf.fwhm_px, side / 12))
    return PlaceStamp(
        name=name,
        title=title,
        uri=png(stretch(binned, level, noise, high=bright)).uri,
        values=base64.b64encode(np.ascontiguousarray(binned[::-1], "<f4").tobytes()).decode(),
        side=binned.shape[0],
        width=width,
        ranges=_ranges(binned, level, noise, bright),
        unit=info.pixel_unit,
        mark=mark,
        link=link,
    )


def _ranges(values: NDArray[np.float32], level: float, noise: float, bright: float) -> dict[str, Range]:
    from astropy.visualization import ZScaleInterval

    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        finite = np.array([0.0, 1.0])
    low, high = (float(one) for one in ZScaleInterval().get_limits(finite))
    linear = float(finite.min()), float(finite.max())
    return {
        "asinh": Range(level - 3 * noise, level + bright * noise, _SOFT * noise),
        "zscale": Range(low, high if high > low else low + noise),
        "linear": Range(linear[0], linear[1] if linear[1] > linear[0] else linear[0] + noise),
    }
