"""Pictures (difference, science, template) of a detection and of the others of its tracklet or object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.results.explain import Explanation
from flows.results.light_curve import find_detection
from flows.results.page.picture import bin_mean, stretch, usable
from flows.results.pixel_piece import square_piece
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore
from schemas.errors import NightstrideError

MOST_ROWS = 12
"""Maximum number of detections in one picture, spread over time for objects with more."""

_SHOWN = ("difference", "science", "template")
_PAPER = 255


def detection_levels(out: Path, found: Explanation, most: int) -> NDArray[np.uint8] | None:
    """Return a picture of a detection on the difference, science image and template, side by side, as available.

    Parameters
    ----------
    out, found
        Output folder, and the detection.
    most
        Largest side of one picture, px; larger ones are averaged over pixels.

    Returns
    -------
    (ny, nx) uint8 or None
        Levels of `flows.results.page.picture.stretch`, north as in the image, first row at the bottom; None where the
        tiles were pruned or cannot be read.
    """
    return _levels(out / found.tiles, found.detection, _side(found.detection), most)


def related_levels(out: Path, found: Explanation, most: int) -> tuple[NDArray[np.uint8], list[int]] | None:
    """Return a row of pictures for each detection of the tracklet, or else of the stationary object, of a detection.

    Parameters
    ----------
    out, found, most
        As in `detection_levels`.

    Returns
    -------
    levels, ids
        Levels as in `detection_levels`, in rows of pictures by time, earliest on top, all at one scale; and the ids of
        the detections. None if none can be drawn.
    """
    rows = dict[int, tuple[Path, Mapping[str, Any]]]()
    nights = sorted({found.record.night, *(() if found.history is None else found.history.nights)})
    for identity in related_ids(found):
        try:
            key, row = find_detection(out, nights, identity)
        except NightstrideError:
            continue
        rows[identity] = tile_path(out, key), row
    side = max((_side(row) for _, row in rows.values()), default=0)
    drawn = {one: levels for one, (path, row) in rows.items() if (levels := _levels(path, row, side, most)) is not None}
    if not drawn:
        return None
    wide = max(levels.shape[1] for levels in drawn.values())
    parts = list[NDArray[np.uint8]]()
    for levels in drawn.values():  # the first row of an array is at the bottom
        parts[:0] = [_padded(levels, wide), np.full((1, wide), _PAPER, np.uint8)]
    return np.vstack(parts[:-1]), list(drawn)


def related_ids(found: Explanation) -> list[int]:
    """Return the detections of a detection's tracklet, else of its stationary object, by time; at least itself."""
    own = int(found.detection["diaSourceId"])
    if found.motion is not None and found.motion.tracklet is not None:
        return [int(one["diaSourceId"]) for one in found.motion.members]
    if found.history is None:
        return [own]
    ids = [int(one["diaSourceId"]) for one in found.history.detections]
    chosen = {ids[n] for n in np.linspace(0, len(ids) - 1, min(len(ids), MOST_ROWS)).round().astype(int).tolist()}
    if own not in chosen:
        chosen.remove(next(one for one in reversed(ids) if one in chosen))
    return [one for one in ids if one in chosen or one == own]


def _side(row: Mapping[str, Any]) -> int:
    return max(int(1.4 * row["bboxSize"]), 21) | 1


def _padded(levels: NDArray[np.uint8], wide: int) -> NDArray[np.uint8]:
    return np.pad(levels, ((0, 0), (0, wide - levels.shape[1])), constant_values=_PAPER)


def _levels(tiles: Path, row: Mapping[str, Any], side: int, most: int) -> NDArray[np.uint8] | None:
    levels = list[NDArray[np.uint8]]()
    try:
        store = TileStore.open(tiles)
        pieces = [square_piece(store, one, row["y"], row["x"], side) for one in _SHOWN if one in store.planes]
    except NightstrideError:
        return None
    for piece in pieces:
        good = usable(piece.data, piece.bits)
        values = np.where(good, piece.data, np.nan)
        middle, noise = piece.info.background, piece.info.noise
        if piece.plane != _SHOWN[0] and good.any():  # a sky of its own
            low, middle, high = (float(one) for one in np.nanpercentile(values, (15.9, 50, 84.1)))
            noise = max(high - low, 1e-30) / 2
        levels.append(stretch(bin_mean(values, good, -(-side // most)), middle, noise))
    gap = np.full((levels[0].shape[0], 1), _PAPER, np.uint8)
    return np.hstack([part for one in levels for part in (one, gap)][:-1])
