"""Tiles that patches of the sky need: written again where they are gone, and what stays where they cannot be."""

from collections.abc import Collection, Iterable
from pathlib import Path

from flows.pipeline.night_work import PatchWork
from flows.storage.layout import tile_path
from schemas.exposure import ExposureKey
from schemas.patch import PatchKey


def exposures_without_tiles(patches: Iterable[PatchWork], out: Path) -> dict[ExposureKey, list[PatchKey]]:
    """Return the exposures whose tiles are gone, and the patches that have to read them.

    Parameters
    ----------
    patches, out
        Patches of which something is to be made from the exposures alone, and output folder.
    """
    readers: dict[ExposureKey, list[PatchKey]] = {}
    for patch in (one for one in patches if one.due and one.reads_pixels):
        for key in patch.keys():  # noqa: SIM118 - no mapping
            readers.setdefault(key, []).append(patch.key)
    return {key: readers[key] for key in readers if not (tile_path(out, key) / "zarr.json").is_file()}


def left_with(
    lacking: Collection[PatchKey], patches: Collection[PatchKey], former: Collection[PatchKey]
) -> tuple[set[PatchKey], set[PatchKey]]:
    """Return which patches are left out with those that cannot be made, and which former ones stay in their place.

    Parameters
    ----------
    lacking
        Patches that cannot be made.
    patches, former
        All that the night is divided into now, and into which it was divided when they were last made.
    """
    left, stay = set(lacking), set[PatchKey]()
    while True:
        stay = {one for one in former if any(_overlap(one, new) for new in left)}
        more = {one for one in patches if any(_overlap(one, old) for old in stay)}
        if more <= left:
            return left, stay
        left |= more


def _overlap(one: PatchKey, other: PatchKey) -> bool:
    finer, coarser = (one, other) if one.order > other.order else (other, one)
    return finer.pixel >> 2 * (finer.order - coarser.order) == coarser.pixel
