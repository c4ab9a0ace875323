"""Use of models: the exposures searched with each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flows.inputs.source import Source, name_of
from flows.inputs.sources import list_sources
from flows.pipeline.lineage import memo_name, trace
from flows.pipeline.models import recorded_digests
from flows.pipeline.provenance import NIGHT_MODELS, night_models, recorded_settings, search_models
from flows.storage.layout import require_output
from flows.storage.ledger import Ledger
from schemas.errors import Misconfigured, NightstrideError
from schemas.ledger import ExposureRecord, ProvenanceRecord, file_of_source
from schemas.model_card import ModelCard
from schemas.settings import Settings
from stages import PIPELINE

LEAST_DIGITS = 8
"""Minimum number of digits of a SHA-256 that name a model."""


@dataclass
class ModelUse:
    """Use of a model in an output folder.

    Attributes
    ----------
    model, name, version, sha256
        Name used by the stages; name, version and digest of the weights, from its card. Empty: not recorded.
    nights
        Nights with exposures that were last searched with the model; for a model of a night-level stage, the nights
        that were last processed with it.
    exposures, detections
        Numbers of published exposures, and of their rows of `dia_source`; a night-level model has no detections.
    quarantined, failed
        Numbers of quarantined and failed exposures, whose earlier results may have been withdrawn.
    replaced
        Number of exposures whose results from the model have since been replaced.
    """

    model: str
    name: str
    version: str
    sha256: str
    nights: set[str] = field(default_factory=set)
    exposures: int = 0
    detections: int = 0
    quarantined: int = 0
    failed: int = 0
    replaced: int = 0

    @property
    def total(self) -> int:
        """Return the number of exposures that were last searched with the model."""
        return self.exposures + self.quarantined + self.failed


def model_uses(out: Path) -> tuple[ModelUse, ...]:
    """Return the models of the last search of each exposure, and those of replaced results; nothing is changed.

    Raises
    ------
    Misconfigured
        The folder is not an output folder, or was written by a later version.
    """
    require_output(out)
    ledger, uses = Ledger(out), dict[tuple[str, str, str, str], ModelUse]()
    known: dict[str | None, list[ModelUse]] = {}

    def of(provenance: str | None) -> list[ModelUse]:
        if provenance not in known:
            names = _names(ledger.provenance(provenance))
            known[provenance] = [uses.setdefault(one, ModelUse(*one)) for one in names]
        return known[provenance]

    for night in ledger.whole_nights():
        if isinstance(night, NightstrideError):
            raise night
        for model, card in night_models(night, ledger.provenance(night.provenance)).items():
            use = uses.setdefault(_of(model, card), ModelUse(*_of(model, card)))
            use.nights.add(night.night)
            use.exposures += night.exposures
    for record in ledger.records():
        for use in of(record.provenance):
            use.nights.add(record.night)
            use.exposures += record.status == "done"
            use.quarantined += record.status == "quarantined"
            use.failed += record.status == "failed"
            use.detections += record.detections if record.status == "done" else 0
        for use in {id(one): one for before in record.previous for one in of(before.provenance)}.values():
            use.replaced += 1
    return tuple(uses[one] for one in sorted(uses))


def searched_with(out: Path, wanted: str) -> Callable[[ExposureRecord], bool]:
    """Return a function that tells whether an exposure was last searched with a model, whatever the outcome.

    Parameters
    ----------
    out
        Output folder.
    wanted
        Name; name and version, with a space between; or the first digits of the SHA-256 of its weights.

    Raises
    ------
    Misconfigured
        No exposure was last searched with such a model.
    """
    require_output(out)
    ledger, uses = Ledger(out), model_uses(out)
    searching = [use for use in uses if use.total and use.model not in NIGHT_MODELS]
    if not any(_is(use, wanted) for use in searching):
        there = ", ".join(sorted({f"{use.name} {use.version} ({use.sha256[:12]})" for use in searching}))
        raise Misconfigured(
            "no_such_model",
            f"--searched-with {wanted}",
            f"no exposure of {out} was last searched with it; its models: {there or 'none'}.",
            "name one of these, by its name, 'name version' or SHA-256; see `nightstride models OUT`.",
        )
    known: dict[str | None, bool] = {}

    def test(record: ExposureRecord) -> bool:
        if record.provenance not in known:
            names = _names(ledger.provenance(record.provenance))
            known[record.provenance] = any(_is(ModelUse(*one), wanted) for one in names)
        return known[record.provenance]

    return test


def recorded_sources(out: Path, test: Callable[[ExposureRecord], bool], settings: Settings) -> list[Source]:
    """Return the sources of exposures of the ledger, at their locations when they were searched.

    Raises
    ------
    Misconfigured
        A source no longer exists, or was read with data that its name does not show: mask, PSF, band, zero point.
    """
    ledger = Ledger(out)
    records = {record.source_uri: record for record in ledger.records() if test(record)}
    listed = list_sources(sorted(set(map(file_of_source, records))), settings)
    found = [source for source in listed if name_of(source) in records]
    made = {one: ledger.provenance(one) for one in {record.provenance for record in records.values()} if one}
    pairs = [(source, records[name_of(source)]) for source in found]
    others = [
        record.source_uri
        for source, record in pairs
        if not is_read_alike(source, record, made.get(record.provenance or ""), ledger)
    ]
    if others:
        raise Misconfigured(
            "read_otherwise",
            others[0],
            f"{len(others)} of {len(found)} exposures were read with more or other than what lies beside the file, as "
            "from a manifest or a Butler; or it is not known how.",
            "give ARCHIVE: what they were searched from.",
        )
    return found


def is_read_alike(source: Source, record: ExposureRecord, made: ProvenanceRecord | None, ledger: Ledger) -> bool:
    """Return whether a source was read as for a record with provenance ``made``: same planes, same files beside it."""
    if made is None:
        return False
    settings = recorded_settings(made)
    same_stages = made.stages == {stage.name: stage.version for stage in PIPELINE}
    if record.status == "done" and same_stages:
        used = {**recorded_digests(made.models, PIPELINE), **made.files}
        return trace(source, record.source_sha256, PIPELINE, used, settings).final == record.digest
    # The digests cannot be recomputed; the memo of the source is enough, unless it was read in two ways.
    memo = ledger.remembered(memo_name(source, settings))
    return memo is not None and memo.key == record.key and record.source_sha256 in ("", memo.sha256)


def _names(made: ProvenanceRecord | None) -> Iterable[tuple[str, str, str, str]]:
    if made is None:
        return [("not recorded", "", "", "")]
    return [_of(model, card) for model, card in search_models(made).items()]


def _of(model: str, card: ModelCard) -> tuple[str, str, str, str]:
    return model, card.name, card.version, card.sha256


def _is(use: ModelUse, wanted: str) -> bool:
    digits = len(wanted) >= LEAST_DIGITS and use.sha256.startswith(wanted.lower())
    return bool(use.name) and (wanted in (use.name, f"{use.name} {use.version}") or digits)
