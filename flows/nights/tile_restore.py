"""Tiles of a published exposure, written again from the files that it was searched from."""

from contextlib import suppress
from pathlib import Path

from flows.inputs.source import Source
from flows.inputs.source_state import has_bytes, possible_sources, source_state
from flows.nights.exposure_work import store_exposure
from flows.nights.night_stages import StagesResult
from flows.results.model_use import is_read_alike
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from schemas.errors import BadInput, NightstrideError
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.settings import Settings


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
        listed += possible_sources(record.source_uri, settings, record.source_files)
    for source in listed:
        with suppress(BadInput):
            alike = is_read_alike(source, record, made, ledger)
            if alike and has_bytes(source, record.source_sha256, settings, record.source_stat):
                return source
    return None
