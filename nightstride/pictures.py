"""Images with their WCS, mask and unit, and pictures of them for notebooks."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty

from flows.results.explain import Explanation
from flows.results.explain_picture import detection_levels
from flows.results.page.picture import bin_mean, png, stretch
from flows.results.pixel_piece import PixelPiece
from schemas.exposure import ExposureInfo
from schemas.pixels import UNUSABLE

WIDEST = 640
"""Largest side of a picture in a notebook, px; larger images are averaged over pixels."""

SHOWN_PX = 160
"""Largest side of each picture of an explanation, px."""

_KEYWORDS = {
    "instrument": "INSTRUME", "midpointMjdTai": "MJDTAI", "exposureTime": "EXPTIME", "zeroPoint": "ZEROPNT",
    "psfSource": "PSFSRC", "background": "BACKGRND", "sourceUri": "SRCURI", "shape": "FULLSIZE",
}  # fmt: skip
"""Name in the metadata -> keyword in a FITS file, where the name itself is too long or means something else."""

_UNKNOWN = units.def_unit("unknown")  # for pixels whose header names no known unit


class PlaneImage(CCDData):
    """Part of a pixel plane: an astropy `CCDData`, which a notebook shows as a picture.

    ``mask`` is True where a pixel is not to be trusted. ``flags`` holds the bits of `MaskPlane`. ``meta`` holds the
    metadata of the exposure and the position of the first pixel (``x0``, ``y0``, 0-based). ``uncertainty`` is set for
    the difference image: its variance plane if there is one, else the noise of the sky.
    """

    def _slice(self, item: Any) -> dict[str, Any]:
        """Return the arguments that build a slice; astropy alone would lose the mask bits and the position."""
        found: dict[str, Any] = super()._slice(item) | {"flags": None if self.flags is None else self.flags[item]}
        parts = item if isinstance(item, tuple) else (item,)
        moved = {
            name: self.meta[name] + part.indices(side)[0]
            for name, part, side in zip(("y0", "x0"), parts, self.shape, strict=False)
            if name in self.meta and isinstance(part, slice)
        }
        return found | {"meta": {**self.meta, **moved}}

    def to_hdu(self, *args: Any, **options: Any) -> Any:
        """Return the image as astropy's `CCDData.to_hdu`, with its metadata under keywords that FITS allows."""
        from astropy.io import fits

        header = fits.Header()
        for name, value in self.meta.items():
            told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            if isinstance(told, str):
                told = told.encode("ascii", "backslashreplace").decode()
            header[_KEYWORDS.get(name, name)] = told
        plain = CCDData(
            self.data, unit=self.unit, wcs=self.wcs, mask=self.mask, uncertainty=self.uncertainty, meta=header
        )  # fmt: skip
        return plain.to_hdu(*args, **options)

    def _repr_png_(self) -> bytes:
        return _png(np.asarray(self.data), np.asarray(self.mask), self.meta["background"], self.meta["noise"])


def ccd_data(piece: PixelPiece) -> PlaneImage:
    """Return a piece of a plane as a `PlaneImage`."""
    info = piece.info
    own = _UNKNOWN if info.pixel_unit == _UNKNOWN.name else units.Unit(info.pixel_unit)
    unit = {"mask": units.dimensionless_unscaled, "variance": own**2}.get(piece.plane, own)
    mask = (piece.bits & np.uint16(UNUSABLE)) != 0
    if piece.data.dtype.kind == "f":
        mask |= ~np.isfinite(piece.data)
    image = PlaneImage(
        piece.data, unit=unit, wcs=piece.wcs, mask=mask, flags=piece.bits, uncertainty=_uncertainty(piece, unit),
        meta=_facts(info) | {"plane": piece.plane, "x0": piece.x0, "y0": piece.y0},
    )  # fmt: skip
    if piece.plane not in ("difference", "mask"):  # background and noise of the exposure are of the difference
        good = np.asarray(piece.data)[~mask]
        if good.size:
            low, middle, high = np.percentile(good, (15.9, 50, 84.1))
            image.meta |= {"background": float(middle), "noise": max(float(high - low) / 2, 1e-30)}
    return image


def _uncertainty(piece: PixelPiece, unit: Any) -> Any:
    if piece.variance is not None:
        return VarianceUncertainty(piece.variance, unit=unit**2)
    if piece.plane == "difference":  # a broadcast scalar takes no memory
        return StdDevUncertainty(np.broadcast_to(np.float32(piece.info.noise), piece.data.shape), unit=unit)
    return None


def _facts(info: ExposureInfo) -> dict[str, Any]:
    return {
        "night": info.night, "visit": info.visit, "detector": info.detector, "instrument": info.instrument,
        "band": info.band, "midpointMjdTai": info.midpoint_mjd_tai, "exposureTime": info.exposure_time_s,
        "zeroPoint": info.ab_zero_point, "gain": info.gain, "fwhm": info.psf.fwhm_px, "psfSource": info.psf.source,
        "background": info.background, "noise": info.noise, "sourceUri": info.source_uri,
        "assumed": list(info.flags), "shape": info.shape,
    }  # fmt: skip


@dataclass(frozen=True)
class Cutout:
    """Square around a detection on each plane of its exposure; pixels outside the image are NaN.

    The pixel of the detection, ``round(x)`` and ``round(y)``, has the index ``size // 2`` on both axes. The first
    pixel of each plane lies at ``meta["x0"]`` and ``meta["y0"]`` of the image, 0-based; at a border they may be
    negative.

    Attributes
    ----------
    detection
        Row of ``dia_source``.
    planes
        Plane -> image; always ``difference``, and ``science`` and ``template`` if the exposure has them.
    """

    detection: Mapping[str, Any]
    planes: Mapping[str, PlaneImage]

    @property
    def difference(self) -> PlaneImage:
        """Return the difference image: (size, size) floats in its ``unit``, with mask, WCS and uncertainty."""
        return self.planes["difference"]

    @property
    def science(self) -> PlaneImage | None:
        """Return the science image in the same form; None if there is none."""
        return self.planes.get("science")

    @property
    def template(self) -> PlaneImage | None:
        """Return the template in the same form; None if there is none."""
        return self.planes.get("template")

    def __repr__(self) -> str:
        row, side = self.detection, self.difference.shape[0]
        told = f"S/N {row['snr']:.1f}, reliability {row['reliability']:.2f}"
        return f"<Cutout of {row['diaSourceId']}: {', '.join(self.planes)}; {side} x {side} px; {told}>"

    def _repr_png_(self) -> bytes:
        gap = np.full((self.difference.shape[0], 2), np.nan)
        levels = []
        for image in self.planes.values():
            sigma = (np.asarray(image.data, np.float64) - image.meta["background"]) / image.meta["noise"]
            levels += [np.where(np.asarray(image.mask), np.nan, sigma), gap]
        row = np.hstack(levels[:-1])
        enlarged = np.kron(row, np.ones((max(1, 160 // row.shape[0]),) * 2))
        return _png(enlarged, ~np.isfinite(enlarged), 0.0, 1.0)


def explanation_picture(out: Path, found: Explanation) -> str:
    """Return a picture of a detection on each plane as an HTML image; "" if its tiles have been removed."""
    levels = detection_levels(out, found, SHOWN_PX)
    if levels is None:
        return ""
    picture = png(levels)
    larger = max(1, SHOWN_PX // picture.height)
    size = f'width="{larger * picture.width}" height="{larger * picture.height}"'
    told = f"pixels of {found.detection['diaSourceId']}: as stored, its difference first"
    return f'<img alt="{told}" src="{picture.uri}" {size} style="image-rendering: pixelated"/>'


def _png(data: Any, mask: Any, background: float, noise: float) -> bytes:
    factor = -(-max(data.shape) // WIDEST)
    values = np.where(mask, 0, data).astype(np.float32)
    binned = bin_mean(values, ~np.asarray(mask, bool), factor)
    picture = png(stretch(binned, background, noise / factor))
    return base64.b64decode(picture.uri.partition(",")[2])
