"""Pixels of an exposure for alerts: cutouts, flags, and fluxes on the science image and the template."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.publish.cutout_fits import CutoutPixels, LocalWcs, fits_files
from flows.publish.rubin_source import pixel_flags
from flows.publish.stamps import Stamps, cut_stamps
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from kernels.measure.photometry import njy_per_unit, stamp_fluxes
from kernels.psf.gaussian_mixture import brightness, moffat_mixture
from kernels.sky.projection import celestial_wcs, local_scales
from schemas.alert_settings import AlertSettings
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, TEMPLATE, UNUSABLE, VARIANCE

CUTOUTS = {DIFFERENCE.name: "cutoutDifference", SCIENCE.name: "cutoutScience", TEMPLATE.name: "cutoutTemplate"}
"""Plane -> field of the alert."""

_PSF_REACH = 3.0  # FWHM from the middle of its image to the sides
_MAD_TO_SIGMA = 1.4826


class Pictured(NamedTuple):
    """Flags, fluxes and cutouts of detections from the pixels.

    Attributes
    ----------
    which : (n,)
        Rows of the detections.
    values
        Rubin's name of a flag or flux -> (n,).
    cutouts
        Field of the alert -> FITS files.
    """

    which: NDArray[np.int64]
    values: dict[str, NDArray[Any]]
    cutouts: dict[str, list[bytes]]


class ExposurePixels:
    """Pixels of an exposure.

    Parameters
    ----------
    store
        Tile store of the exposure, which must have a WCS.
    """

    def __init__(self, store: TileStore) -> None:
        self._store, self.info = store, store.info
        psf = self.info.psf
        self._mixture = moffat_mixture(psf.fwhm_px, psf.beta)
        reach = ceil(_PSF_REACH * psf.fwhm_px)
        place = np.arange(-reach, reach + 1.0)
        image = brightness(self._mixture, place[:, None] ** 2 + place**2)
        self._psf_image = (image / image.sum()).astype(np.float32)

    def pictured(self, rows: pa.Table, settings: AlertSettings, *, cutouts: bool = True) -> Iterator[Pictured]:
        """Yield flags, fluxes and cutouts of detections, in batches.

        Parameters
        ----------
        rows
            Rows of `DIA_SOURCE`.
        settings
            Settings with the sides of the cutouts.
        cutouts
            False: only flags and fluxes.

        Raises
        ------
        BadInput
            The pixels, or the WCS, cannot be read.
        """
        x, y = rows["x"].to_numpy(), rows["y"].to_numpy()
        wcs = self._local(x, y) if cutouts else None
        side = np.clip(rows["bboxSize"].to_numpy().astype(np.int64), settings.cutout_min, settings.cutout_max)
        ids = rows["diaSourceId"].to_numpy()
        for stamps in cut_stamps(self._store, x, y, side):
            which = stamps.which
            some = rows.take(pa.array(which))
            values: dict[str, NDArray[Any]] = dict(pixel_flags(some, stamps, self.info.psf.fwhm_px))
            values |= self._fluxes(stamps, x[which], y[which])
            yield Pictured(which, values, {} if wcs is None else self._files(stamps, wcs, ids[which]))

    def _files(self, stamps: Stamps, wcs: LocalWcs, ids: NDArray[np.int64]) -> dict[str, list[bytes]]:
        """Return cutouts as FITS files, by fields of the alert."""
        place, here = (stamps.x0, stamps.y0), wcs.take(stamps.which)
        return {
            CUTOUTS[name]: fits_files(self._picture(name, stamps), here, place, stamps.outside, ids)
            for name in CUTOUTS
            if name in stamps.planes
        }

    def _local(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> LocalWcs:
        try:
            wcs = celestial_wcs(self.info.wcs_header or "")
        except ValueError as error:
            remedy = "correct the header of the exposure, and run it again."
            raise BadInput("bad_wcs", f"exposure {self.info.name}", f"{error}.", remedy) from error
        ra, dec, matrix = local_scales(wcs, x, y)
        return LocalWcs(ra, dec, x, y, matrix)

    def _scale(self, plane: str) -> float | None:
        """Return the nJy of a pixel unit of a plane; None if not known.

        The difference and science images share a zero point. A template in a separate file may have another one, which
        is not in the stored headers.
        """
        zero_point = self.info.ab_zero_point
        one_unit = plane != TEMPLATE.name or self.info.pixel_unit == "nJy" or "subtracted" in self.info.flags
        return njy_per_unit(zero_point) if zero_point is not None and one_unit else None

    def _fluxes(self, stamps: Stamps, x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Return the point-source fluxes, nJy, at the positions of detections on the science image and the template."""
        found = dict[str, NDArray[Any]]()
        for plane in (SCIENCE.name, TEMPLATE.name):
            if plane in stamps.planes and (scale := self._scale(plane)) is not None:
                pixels = stamps.planes[plane].astype(np.float32, copy=True)
                pixels[(stamps.planes[MASK.name] & np.uint16(UNUSABLE)) != 0] = np.nan
                fluxes = stamp_fluxes(pixels, x - stamps.x0, y - stamps.y0, self._mixture, self.info.psf.fwhm_px)
                found[f"{plane}Flux"], found[f"{plane}FluxErr"] = scale * fluxes.value, scale * fluxes.error
        return found

    def _picture(self, plane: str, stamps: Stamps) -> CutoutPixels:
        scale = self._scale(plane)
        factor = np.float32(1.0 if scale is None else scale)
        data = np.asarray(stamps.planes[plane], np.float32)
        return CutoutPixels(
            plane,
            "nJy" if scale is not None else self.info.pixel_unit.replace("unknown", ""),
            data * factor,
            _variance(plane, stamps, self.info) * factor**2,
            np.asarray(stamps.planes[MASK.name], np.uint16),
            self._psf_image,
            self.info.psf.source,
        )


def _variance(plane: str, stamps: Stamps, info: ExposureInfo) -> NDArray[np.float32]:
    """Return the variances of pixels, pixel units squared, (n, side, side).

    Variances of the difference image are stored, or follow from its noise and gain. For other planes the noise is the
    scatter of the cutout, plus the Poisson noise of their light if the gain is known.
    """
    data = np.asarray(stamps.planes[plane], np.float32)
    if plane == DIFFERENCE.name and VARIANCE.name in stamps.planes:
        return np.asarray(stamps.planes[VARIANCE.name], np.float32)
    if plane == DIFFERENCE.name:
        level, noise = np.full(len(data), info.background), np.full(len(data), info.noise)
    else:
        level, noise = _level_and_scatter(data)
    light = np.maximum(data - level[:, None, None].astype(np.float32), 0)
    gain = np.inf if info.gain is None or plane == TEMPLATE.name else info.gain
    return np.where(np.isfinite(data), (noise**2)[:, None, None] + light / gain, np.nan).astype(np.float32)


def _level_and_scatter(data: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median and scaled median absolute deviation of the pixels of each square, without NaN."""
    level = _medians(data)
    return level, _MAD_TO_SIGMA * _medians(np.abs(data - level[:, None, None].astype(np.float32)))


def _medians(data: NDArray[np.float32]) -> NDArray[np.float64]:
    ordered = np.sort(data.reshape(len(data), -1), axis=1)  # NaN comes last
    count = np.isfinite(ordered).sum(axis=1)
    row = np.arange(len(ordered))
    low, high = ordered[row, np.maximum(count - 1, 0) // 2], ordered[row, np.minimum(count // 2, ordered.shape[1] - 1)]
    return (low.astype(np.float64) + high) / 2


def opened_pixels(out: Path, key: ExposureKey) -> ExposurePixels | None:
    """Return the pixels of an exposure; None if they were removed.

    Raises
    ------
    BadInput
        The pixels are damaged.
    """
    path = tile_path(out, key)
    return ExposurePixels(TileStore.open(path)) if path.exists() else None
