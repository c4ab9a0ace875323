"""Cutouts as FITS files that `astropy.nddata.CCDData` reads: pixels behind headers that are made once.

The bytes are assembled here because `CCDData.write` takes 2 ms per file.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.pixels import MaskPlane

_BLOCK, _CARD = 2880, 80
_VALUE = slice(10, 30)  # columns of the value in a card
_NOTES = MaskPlane.DETECTED | MaskPlane.DETECTED_NEGATIVE  # not faults of a pixel

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


class LocalWcs(NamedTuple):
    """Linear projections around positions.

    Attributes
    ----------
    ra, dec : (n,)
        Positions, ICRS, deg.
    x, y : (n,)
        Their pixel coordinates, 0-based on the whole image.
    matrix : (n, 2, 2)
        Offsets to the east and to the north (first axis) per pixel along x and y (second axis), deg.
    """

    ra: Floats
    dec: Floats
    x: Floats
    y: Floats
    matrix: Floats

    def take(self, which: NDArray[np.int64]) -> "LocalWcs":
        """Return the projections at some indices."""
        return LocalWcs(*(one[which] for one in self))

    @property
    def rotation(self) -> Floats:
        """Return the position angles of the y axis, north through east, deg."""
        return np.degrees(np.arctan2(self.matrix[:, 0, 1], self.matrix[:, 1, 1]))


class CutoutPixels(NamedTuple):
    """Pixels of cutouts of one plane.

    Attributes
    ----------
    name
        Name of the plane.
    unit
        Unit in the notation of FITS: nJy, adu, electron/s; empty if it is not known.
    data, variance : (n, side, side)
        Pixels, and their variances.
    mask : (n, side, side) uint16
        Bits of `MaskPlane`.
    psf : (m, m)
        Point-spread function, with sum 1.
    psf_from
        Source of the point-spread function; see `schemas.exposure.PsfModel`.
    """

    name: str
    unit: str
    data: NDArray[np.floating]
    variance: NDArray[np.floating]
    mask: NDArray[np.uint16]
    psf: NDArray[np.floating]
    psf_from: str


def fits_files(
    picture: CutoutPixels,
    wcs: LocalWcs,
    corner: tuple[NDArray[np.int64], NDArray[np.int64]],
    outside: NDArray[np.int64],
    ids: NDArray[np.int64],
) -> list[bytes]:
    """Return a FITS file for each cutout.

    Parameters
    ----------
    picture
        Pixels of the cutouts.
    wcs
        Projections around the detections.
    corner
        x and y of the first pixels on the whole image, 0-based, (n,) each.
    outside
        Numbers of pixels beyond the image, (n,).
    ids
        diaSourceId of the detections, (n,).

    Returns
    -------
    list of bytes
        Primary HDU with the pixels, and extensions MASK (16-bit integers, bits named by cards ``MP_...``; 0: the pixel
        can be trusted), UNCERT (variances) and PSFIMAGE.
    """
    count, side, _ = picture.data.shape
    header = np.repeat(_head(side, picture.name, picture.unit)[None], count, axis=0)
    values: dict[str, NDArray[Any]] = {
        "CRVAL1": wcs.ra,
        "CRVAL2": wcs.dec,
        "CRPIX1": wcs.x - corner[0] + 1,
        "CRPIX2": wcs.y - corner[1] + 1,
        "CD1_1": wcs.matrix[:, 0, 0],
        "CD1_2": wcs.matrix[:, 0, 1],
        "CD2_1": wcs.matrix[:, 1, 0],
        "CD2_2": wcs.matrix[:, 1, 1],
        "ROTPA": wcs.rotation,
        "CUTMINX": corner[0],
        "CUTMINY": corner[1],
        "OUTSIDE": outside,
        "SOURCEID": ids,
    }
    for name, numbers in values.items():
        place = _CARD * _NAMES.index(name)
        header[:, place + _VALUE.start : place + _VALUE.stop] = _written(numbers)
    trusted = picture.mask & ~np.uint16(_NOTES)
    tail = np.concatenate([_psf_head(*picture.psf.shape, picture.psf_from), _padded(picture.psf[None], ">f4")[0]])
    parts = [
        header, _padded(picture.data, ">f4"),
        _repeated(_mask_head(side), count), _padded(trusted, ">i2"),
        _repeated(_variance_head(side, picture.unit), count), _padded(picture.variance, ">f4"),
        _repeated(tail, count),
    ]  # fmt: skip
    return [one.tobytes() for one in np.concatenate(parts, axis=1)]


def _repeated(content: Bytes, count: int) -> Bytes:
    return np.broadcast_to(content, (count, len(content)))


def _padded(pixels: NDArray[Any], form: str) -> Bytes:
    """Return each image as the data of an HDU, (n, bytes), padded to whole blocks."""
    plain = np.ascontiguousarray(pixels, form).view(np.uint8).reshape(len(pixels), -1)
    return np.pad(plain, ((0, 0), (0, -plain.shape[1] % _BLOCK)))


def _written(numbers: NDArray[Any]) -> Bytes:
    """Return numbers as values of FITS cards, (n, 20) bytes."""
    form = "%20d" if np.issubdtype(numbers.dtype, np.integer) else "%20.12E"
    text = np.array([form % one for one in numbers.tolist()], "S20")
    return text.view(np.uint8).reshape(-1, 20)


_FIRST: Mapping[str, Any] = {
    "SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 0, "EXTEND": True, "BUNIT": "",
    "WCSAXES": 2, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS",
    "CRPIX1": 0.0, "CRPIX2": 0.0, "CRVAL1": 0.0, "CRVAL2": 0.0, "CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0,
    "ROTPA": 0.0, "CUTMINX": 0, "CUTMINY": 0, "OUTSIDE": 0, "PLANE": "", "SOURCEID": 0,
}  # fmt: skip
"""Cards of the primary header, in order; zeros stand for values that each cutout fills in."""

_NAMES = tuple(_FIRST)

_COMMENTS = {
    "ROTPA": "position angle of the y axis, N through E, deg", "CUTMINX": "column of the first pixel, 0-based",
    "CUTMINY": "row of the first pixel, 0-based", "OUTSIDE": "pixels beyond the image", "SOURCEID": "diaSourceId",
}  # fmt: skip


def _header(cards: Mapping[str, Any]) -> Bytes:
    """Return a header in whole blocks, with values in fixed format (FITS 4.0, section 4.2)."""
    lines = [f"{name:<8}= {_value(value)}{_comment(name)}".ljust(_CARD)[:_CARD] for name, value in cards.items()]
    text = "".join([*lines, "END".ljust(_CARD)])
    return np.frombuffer(text.ljust(-(-len(text) // _BLOCK) * _BLOCK).encode("ascii"), np.uint8)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    return f"'{value:<8}'".ljust(20) if isinstance(value, str) else f"{value:>20}"


def _comment(name: str) -> str:
    return f" / {_COMMENTS[name]}" if name in _COMMENTS else ""


@lru_cache(512)
def _head(side: int, plane: str, unit: str) -> Bytes:
    return _header({**_FIRST, "NAXIS1": side, "NAXIS2": side, "BUNIT": unit, "PLANE": plane})


def _extension(bits: int, ny: int, nx: int, name: str, **more: Any) -> Bytes:
    first = {"XTENSION": "IMAGE", "BITPIX": bits, "NAXIS": 2, "NAXIS1": nx, "NAXIS2": ny, "PCOUNT": 0, "GCOUNT": 1}
    return _header({**first, "EXTNAME": name, **more})


@lru_cache(512)
def _mask_head(side: int) -> Bytes:
    bits = {f"MP_{one.name}"[:8]: one.bit_length() - 1 for one in MaskPlane if not one & _NOTES}
    return _extension(16, side, side, "MASK", **bits)


@lru_cache(512)
def _variance_head(side: int, unit: str) -> Bytes:
    squared = "/".join(f"{part}2" for part in unit.split("/") if part)
    return _extension(-32, side, side, "UNCERT", UTYPE="VarianceUncertainty", BUNIT=squared)


@lru_cache(64)
def _psf_head(ny: int, nx: int, psf_from: str) -> Bytes:
    return _extension(-32, ny, nx, "PSFIMAGE", PSFFROM=psf_from)
