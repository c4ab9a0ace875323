"""Pieces of the stored planes of an exposure, with their mask and WCS; only the requested pixels are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flows.storage.layout import is_release, tile_path
from flows.storage.zarr_tiles import PLANES, TileStore
from schemas.errors import Misconfigured, choice
from schemas.exposure import ExposureInfo, ExposureKey
from schemas.pixels import DIFFERENCE, MASK, VARIANCE, MaskPlane, is_large

if TYPE_CHECKING:
    from astropy.wcs import WCS

_WIDEST = 6144  # a square of this side has as many pixels as are read at once

Section = tuple[slice, slice]
"""Rows and columns, 0-based and half open, as in numpy."""


@dataclass(frozen=True)
class PixelPiece:
    """Piece of a plane.

    Attributes
    ----------
    info
        Metadata of the exposure.
    plane
        Name of the plane.
    y0, x0
        Position of the first pixel in the image, 0-based; may be negative.
    data : (ny, nx)
        Pixel units (``info.pixel_unit``); NaN outside the image.
    bits : (ny, nx) uint16
        Bits of `schemas.pixels.MaskPlane`; `NO_DATA` outside the image.
    variance : (ny, nx) or None
        Variance of the difference image, if the exposure has it.
    """

    info: ExposureInfo
    plane: str
    y0: int
    x0: int
    data: NDArray[Any]
    bits: NDArray[np.uint16]
    variance: NDArray[np.float32] | None

    @property
    def wcs(self) -> "WCS | None":
        """Return the WCS of the piece; None if the exposure has none."""
        if self.info.wcs_header is None:
            return None
        from astropy.io.fits import Header

        from flows.inputs.wcs_cards import world_of

        cards = Header.fromstring(self.info.wcs_header, sep="\n")
        # Distortions are relative to the reference pixel, and shift with it.
        cards["CRPIX1"] -= self.x0
        cards["CRPIX2"] -= self.y0
        world = world_of(cards.tostring(sep="\n", endcard=False, padding=False))
        world.array_shape = self.data.shape  # for its footprint
        return world


def find_exposure(out: Path, nights: Sequence[str], visit: int, detector: int) -> ExposureKey:
    """Return the key of an exposure with stored pixels.

    Raises
    ------
    Misconfigured
        There are no such pixels (``no_pixels``), or in more than one night (``several_nights``).
    """
    known = nights if 0 <= visit < 2**42 and 0 <= detector < 2**9 else ()
    keys = [ExposureKey(night=night, visit=visit, detector=detector) for night in known]
    found = [key for key in keys if (tile_path(out, key) / "zarr.json").is_file()]
    if not found:
        problem = f"holds no pixels of visit {visit}, detector {detector}."
        remedy = "choose one of `.exposures`; one whose tiles were pruned has pixels again after a run on its file."
        if is_release(out):
            remedy = "open the output folder that the release was made from: releases keep no pixels."
        raise Misconfigured("no_pixels", str(out), problem, remedy)
    if len(found) > 1:
        labels = ", ".join(key.night for key in found)
        problem = f"holds visit {visit}, detector {detector} of the nights {labels}."
        raise Misconfigured("several_nights", str(out), problem, "choose one: night['YYYYMMDD'].image(...).")
    return found[0]


def image_piece(
    out: Path, key: ExposureKey, plane: str = DIFFERENCE.name, section: Section | None = None
) -> PixelPiece:
    """Return a section of a plane, or all of it.

    Parameters
    ----------
    out, key
        Output folder, and exposure.
    plane
        ``difference``, ``mask``, ``variance``, ``science`` or ``template``.
    section
        Rows and columns; None: the whole image, unless it is large (`schemas.pixels.is_large`), to avoid reading all
        of it by mistake.

    Raises
    ------
    Misconfigured
        The exposure has no such plane (``no_plane``); it is large and no section was named (``large_image``); the
        section has a step or no pixels (``bad_section``).
    BadInput
        The stored pixels are missing or damaged.
    """
    store = TileStore.open(tile_path(out, key))
    shape = store.info.shape
    if section is None and is_large(shape):
        raise Misconfigured(
            "large_image", f"exposure {key.name}", f"is {shape[0]} x {shape[1]} px.",
            "name a section: section=np.s_[y0:y1, x0:x1]; np.s_[:, :] is all of it.",
        )  # fmt: skip
    box = [_bounds(part, side) for part, side in zip(_ranges(section), shape, strict=True)]
    return _piece(store, plane, box[0], box[1])


def square_piece(store: TileStore, plane: str, y: float, x: float, side: int) -> PixelPiece:
    """Return a square around a position, 0-based px, with NaN beyond the image; raise as `image_piece` does."""
    if not 1 <= side <= _WIDEST:
        raise Misconfigured("bad_size", f"size {side}", f"is not 1 to {_WIDEST} px.", "give the side of the square.")
    y0, x0 = round(y) - side // 2, round(x) - side // 2
    return _piece(store, plane, (y0, y0 + side), (x0, x0 + side))


def _ranges(section: Any) -> Section:
    if section is None:
        return slice(None), slice(None)
    if not isinstance(section, tuple) or len(section) != 2:
        problem = "does not have a range of rows and one of columns."
        raise Misconfigured("bad_section", f"section {section!r}", problem, "write np.s_[y0:y1, x0:x1].")
    return section


def _bounds(part: Any, side: int) -> tuple[int, int]:
    if not isinstance(part, slice) or part.step not in (None, 1):
        raise Misconfigured(
            "bad_section", f"section {part!r}", "is not a range of pixels.", "write np.s_[y0:y1, x0:x1]."
        )
    first, end, _ = part.indices(side)
    if first >= end:
        problem = f"has no pixel of an axis of {side}."
        raise Misconfigured("bad_section", f"section {part.start}:{part.stop}", problem, "write np.s_[y0:y1, x0:x1].")
    return first, end


def _piece(store: TileStore, plane: str, rows: tuple[int, int], columns: tuple[int, int]) -> PixelPiece:
    if plane not in store.planes:
        where = f"exposure {store.info.name} of night {store.info.night}"
        raise Misconfigured("no_plane", where, f"has no plane {plane!r}.", choice(plane, store.planes))
    variance = None
    if plane == DIFFERENCE.name and VARIANCE.name in store.planes:
        variance = _padded(store, VARIANCE.name, rows, columns)
    bits = _padded(store, MASK.name, rows, columns)
    data = bits.copy() if plane == MASK.name else _padded(store, plane, rows, columns)
    return PixelPiece(store.info, plane, rows[0], columns[0], data, bits, variance)


def _padded(store: TileStore, plane: str, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[Any]:
    ny, nx = store.info.shape
    (y0, y1), (x0, x1) = (
        (min(max(first, 0), side), min(max(end, 0), side)) for (first, end), side in ((rows, ny), (columns, nx))
    )
    inside = store.read(plane, y0, x0, y1, x1)
    if (y0, y1, x0, x1) == (*rows, *columns):
        return np.array(inside)
    blank = int(MaskPlane.NO_DATA) if plane == MASK.name else np.nan
    whole = np.full((rows[1] - rows[0], columns[1] - columns[0]), blank, PLANES[plane].dtype)
    whole[y0 - rows[0] : y1 - rows[0], x0 - columns[0] : x1 - columns[0]] = inside
    return whole
