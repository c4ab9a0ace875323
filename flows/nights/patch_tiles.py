"""Tiles that patches of the sky need: written again where they are gone, and what stays where they cannot be."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from flows.inputs.source import Source
from flows.inputs.source_state import candidates, has_bytes, source_state
from flows.nights.exposure_work import store_exposure
from flows.nights.night_stages import StagesResult
from flows.pipeline.night_work import PatchWork
from flows.results.model_use import is_read_alike
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from schemas.errors import BadInput, NightstrideError
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.patch import PatchKey
from schemas.settings import Settings


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


def restore_tiles(key: ExposureKey, out: Path, settings: Settings, given: Source | None) -> StagesResult:
    """Write the tiles of a published exposure again, from the files that it was searched from.

    Parameters
    ----------
    key, out, settings
        Exposure, output folder and settings of the run.
    given
        Where its files are, if that is known; None, or not as they were: where the ledger has them.

    Raises
    ------
    BadInput
        ``tiles_lost``: the files are gone, or have other bytes now.
    Retryable
        They cannot be read, or the tiles not be written, now.
    """
    ledger = Ledger(out)
    record = ledger.get(key)
    if record is None:  # withdrawn since the night was planned
        return StagesResult({}, {})
    source = _source_of(record, given, ledger, settings)
    if source is None:
        state = source_state(record.source_uri, record.source_sha256, settings, record.source_stat, record.source_files)
        how = {"unchanged": "was read otherwise than it is now", "changed": "has other bytes than were searched"}
        raise BadInput(
            "tiles_lost",
            record.source_uri,
            f"{how.get(state, 'is not there')}, and the tiles made from it, {tile_path(out, key)}, are gone.",
            "put one of them back as it was, with the files beside it, and run again; an input of a manifest or of a "
            "Butler is to be given again, too.",
        )
    store_exposure(source, key, record.source_sha256, out, settings)
    return StagesResult({}, {})


def _source_of(record: ExposureRecord, given: Source | None, ledger: Ledger, settings: Settings) -> Source | None:
    """Return the files that an exposure was searched from, with the bytes and in the way of then, if they are there."""
    made = ledger.provenance(record.provenance)
    listed = [] if given is None else [given]
    with suppress(NightstrideError):
        listed += candidates(record.source_uri, settings, record.source_files)
    for source in listed:
        with suppress(BadInput):
            alike = is_read_alike(source, record, made, ledger)
            if alike and has_bytes(source, record.source_sha256, settings, record.source_stat):
                return source
    return None


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
