"""Tiles needed by patches of the sky: restored if missing, with the consequences if that is not possible."""

from collections.abc import Collection, Iterable
from pathlib import Path

from flows.inputs.source import Source
from flows.nights.exposure_work import store_exposure
from flows.nights.night_stages import StagesResult
from flows.pipeline.night_work import PatchWork
from flows.runtime.parallel import side_by_side
from flows.storage.bucket_path import BucketPath
from flows.storage.layout import tile_path
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.patch import PatchKey
from schemas.settings import Settings


def exposures_without_tiles(patches: Iterable[PatchWork], out: Path) -> dict[ExposureKey, list[PatchKey]]:
    """Return the exposures with missing tiles, and the patches that must read them.

    Parameters
    ----------
    patches, out
        Patches with datasets to make from exposures only, and output folder.
    """
    readers: dict[ExposureKey, list[PatchKey]] = {}
    for patch in (one for one in patches if one.due and one.reads_pixels):
        for key in patch.keys():  # noqa: SIM118 - no mapping
            readers.setdefault(key, []).append(patch.key)

    def are_there(key: ExposureKey) -> bool:
        return (tile_path(out, key) / "zarr.json").is_file()

    there = side_by_side(are_there, [*readers], isinstance(out, BucketPath))
    return {key: patches for (key, patches), found in zip(readers.items(), there, strict=True) if not found}


def restore_tiles(key: ExposureKey, out: Path, settings: Settings, source: Source, sha256: str) -> StagesResult:
    """Restore the tiles of a published exposure; parameters and errors are those of `store_exposure`."""
    store_exposure(source, key, sha256, out, settings)
    return StagesResult({}, {})


def tiles_lost(record: ExposureRecord, out: Path) -> BadInput:
    """Return the error for missing tiles whose source is also missing."""
    return BadInput(
        "tiles_lost",
        record.source_uri,
        f"is not there as it was searched, and the tiles made from it, {tile_path(out, record.key)}, are gone.",
        "put one of them back as it was, with the files beside it, and run again; an input of a manifest or of a "
        "Butler is to be given again, too.",
    )


def left_with(
    lacking: Collection[PatchKey], patches: Collection[PatchKey], former: Collection[PatchKey]
) -> tuple[set[PatchKey], set[PatchKey]]:
    """Return the patches left out because others cannot be made, and the former patches kept in their place.

    Parameters
    ----------
    lacking
        Patches that cannot be made.
    patches, former
        All patches of the night now, and when they were last made.
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
