"""Records the outcomes of the exposures of a run. Only the process that holds the lease writes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from flows.inputs.source import Source, name_of
from flows.pipeline.lineage import Stored, is_whole, memo_of, trace, verdict_digest
from flows.pipeline.models import model_digests
from flows.pipeline.outcome import Item, Outcome, trouble_of
from flows.pipeline.provenance import provenance_of
from flows.storage.catalog_parts import withdraw
from flows.storage.ledger import Ledger, unpublish
from flows.storage.quarantine import Quarantine
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.forced import FORCED_SOURCE
from schemas.ledger import PREVIOUS, DatasetRecord, ExposureRecord, Previous, SourceFile, file_of_source
from schemas.settings import Settings
from schemas.stage import Stage
from schemas.summary import Trouble

PASSING = frozenset({"damaged_tiles", "unreadable_catalogue", "changed_meanwhile", "memory"})
"""Error codes that do not blame the bytes of the file: the next run tries the exposure again."""

OF_WORKERS = frozenset({"memory", "killed_workers"})
"""Error codes that may be the workers' fault as much as the file's: published results are kept."""


class Recorder:
    """Ledger, quarantine and remembered identities of sources in the output folder of a run.

    Parameters
    ----------
    out, settings, pipeline
        Output folder, settings and stages of the run.
    sha256_of
        Returns the SHA-256 of the files of a source.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        pipeline: Sequence[Stage],
        sha256_of: Callable[[Source, Settings], str],
    ) -> None:
        self._sha256_of = sha256_of
        self._out, self._settings, self._pipeline = out, settings, pipeline
        self._ledger, self._quarantine = Ledger(out), Quarantine(out)
        self._models = model_digests(pipeline, settings)

    @cached_property
    def _provenance(self) -> str:
        return self._ledger.put_provenance(provenance_of(self._pipeline, self._settings))

    def stored(self, item: Item, stored: Stored) -> None:
        """Remember the identity of a source, now that all of it has been read."""
        self._ledger.remember(memo_of(item, stored.info.source_sha256, self._settings))

    def done(self, item: Item, stored: Stored, datasets: Mapping[str, DatasetRecord], outcome: Outcome) -> None:
        """Record a published exposure. Reruns skip it from now on."""
        # Before the record: if the run is killed in between, the next plan reports the superseded exposures again.
        self._withdraw_superseded(item)
        record = self._record(item, stored.info.source_sha256, stored.lineage.final, outcome)
        files, flags = _files(item, stored), stored.info.flags
        datasets = {**self._measured_before(item, outcome), **datasets}
        more = {"datasets": datasets, "sky": stored.sky, "source_files": files, "flags": flags}
        self._ledger.put(record.model_copy(update=more))
        self._withdraw(item, keep={dataset.path for dataset in datasets.values()})
        for name in (name_of(item.source), *_replaced(item)):
            if self._quarantine.path(name).exists():
                self._quarantine.clear(name)

    def _measured_before(self, item: Item, outcome: Outcome) -> dict[str, DatasetRecord]:
        """Return the forced photometry of an exposure whose detections were kept: its pixels are the same."""
        entry = item.record.datasets.get(FORCED_SOURCE.name) if item.record is not None else None
        if outcome.searched or entry is None or not is_whole(self._out / entry.path, entry.sha256):
            return {}
        return {FORCED_SOURCE.name: entry}

    def quarantined(self, item: Item, error: BadInput) -> Outcome:
        """Quarantine an exposure, and withdraw what was published from earlier content of its file.

        If the workers may be at fault and the exposure was published before, it fails instead and stays published.
        """
        trouble = trouble_of(item, error)
        if error.code in OF_WORKERS and item.record is not None and item.record.status == "done":
            return self.failed(item, trouble)  # the bytes need not be worse than before
        outcome = Outcome(item, "quarantined", trouble=trouble)
        self._quarantine.put(error, name_of(item.source), item.key)
        self._withdraw_superseded(item)
        self._withdraw(item)
        self._ledger.remove(item.key)
        if error.code not in PASSING:
            self._remember_verdict(item, outcome)
        return outcome

    def failed(self, item: Item, trouble: Trouble) -> Outcome:
        """Record that an exposure failed, and why. Anything published before is kept."""
        outcome = Outcome(item, "failed", trouble=trouble)
        reason = f"{trouble.code}: {trouble.message}"
        with suppress(Retryable, Misconfigured, OSError):  # the disk may be full: the summary reports it anyway
            if item.record is not None and item.record.status == "done":
                record = item.record.model_copy(update={"reason": reason})
            else:
                record = self._record(item, item.sha256 or "", "", outcome)
            self._ledger.put(record)
        return outcome

    def _withdraw_superseded(self, item: Item) -> None:
        """Remove what was published when the source was taken for other exposures."""
        for record in item.superseded:
            unpublish(record, self._out)

    def _withdraw(self, item: Item, keep: Collection[str] = ()) -> None:
        """Remove files of an earlier state of an exposure that are no longer published."""
        datasets = item.record.datasets.values() if item.record else ()
        withdraw(self._out / dataset.path for dataset in datasets if dataset.path not in keep)

    def _remember_verdict(self, item: Item, outcome: Outcome) -> None:
        """Record a verdict on the bytes of a file, so that a rerun need not read it again."""
        try:
            sha256 = item.sha256 or self._sha256_of(item.source, self._settings)
        except (BadInput, Retryable):
            return
        self._ledger.remember(memo_of(item, sha256, self._settings))
        final = trace(item.source, sha256, self._pipeline, self._models, self._settings).final
        code = outcome.trouble.code if outcome.trouble is not None else ""
        self._ledger.put(self._record(item, sha256, verdict_digest(final, self._settings, code), outcome))

    def _record(self, item: Item, sha256: str, digest: str, outcome: Outcome) -> ExposureRecord:
        windows, unscored = outcome.windows, outcome.unscored
        if not outcome.searched and item.record is not None:
            # Its detections were kept: they come from windows searched in an earlier run.
            windows, unscored = item.record.windows, item.record.windows_unscored
        return ExposureRecord(
            **item.key.model_dump(),
            source_uri=name_of(item.source),
            source_sha256=sha256,
            source_stat=item.stat,
            digest=digest,
            windows=windows,
            windows_unscored=unscored,
            detections=outcome.detections,
            causes=dict(outcome.causes),
            seconds={stage: round(value, 4) for stage, value in outcome.seconds.items()},
            status=outcome.status,
            reason=f"{outcome.trouble.code}: {outcome.trouble.message}" if outcome.trouble else None,
            software=version("nightstride"),
            shutter_closed_at=_text(outcome.exposure_ended),
            provenance=self._provenance,
            previous=_previous(item.record, digest),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def _files(item: Item, stored: Stored) -> dict[str, SourceFile]:
    """Return plane -> file for an exposure with several files; empty for a single file."""
    source, known = item.source, dict(stored.file_sha256)
    if not source.siblings:
        return {}
    if not known and item.record is not None and item.record.source_sha256 == stored.info.source_sha256:
        known = {file.uri: file.sha256 for file in item.record.source_files.values() if file.sha256}
    return {plane: SourceFile(uri=uri, sha256=known.get(uri)) for plane, uri in source.files}


def _previous(record: ExposureRecord | None, digest: str) -> tuple[Previous, ...]:
    """Return earlier published states of an exposure, latest first."""
    if record is None:
        return ()
    if record.status != "done" or record.digest == digest:
        return record.previous
    replaced = Previous(
        digest=record.digest,
        provenance=record.provenance,
        files={name: entry.sha256 for name, entry in record.datasets.items()},
        detections=record.detections,
        finished_at=record.finished_at,
    )
    return (replaced, *record.previous)[:PREVIOUS]


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")


def _replaced(item: Item) -> Iterator[str]:
    """Yield the quarantined file that an exposure replaces, if that file no longer exists.

    This includes files whose folder is gone: the exposure is published, wherever the file was moved to.
    """
    if item.record is not None and item.record.status == "quarantined":
        uri = item.record.source_uri
        if "://" not in uri and not Path(file_of_source(uri)).exists():
            yield uri
