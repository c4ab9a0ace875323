"""Which exposures were searched with which model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flows.adapters.ledger import Ledger
from flows.adapters.sources import Source, list_sources
from flows.source_name import name_of
from schemas.errors import Misconfigured
from schemas.ledger import ExposureRecord, ProvenanceRecord
from schemas.model_card import ModelCard
from schemas.settings import Settings

LEAST_DIGITS = 8
"""Of a SHA-256, to name a model by."""


@dataclass
class ModelUse:
    """What an output folder has of a model.

    Attributes
    ----------
    model, name, version, sha256
        As stages call it; name, version and digest of the weights, of its card. Empty: not recorded.
    nights
        Nights with exposures whose published results are from it.
    exposures, detections
        How many exposures, and rows of `dia_source`.
    replaced
        Exposures of which it made results that were replaced since.
    """

    model: str
    name: str
    version: str
    sha256: str
    nights: set[str] = field(default_factory=set)
    exposures: int = 0
    detections: int = 0
    replaced: int = 0


def model_uses(out: Path) -> tuple[ModelUse, ...]:
    """List the models of all published exposures, and of what was replaced; nothing is changed.

    Raises
    ------
    Misconfigured
        It is no output folder, or was written by a later version.
    """
    _require_ledger(out)
    ledger, uses = Ledger(out), dict[tuple[str, str, str, str], ModelUse]()
    known: dict[str | None, list[ModelUse]] = {}

    def of(provenance: str | None) -> list[ModelUse]:
        if provenance not in known:
            made = ledger.provenance(provenance) if provenance else None
            known[provenance] = [uses.setdefault(one, ModelUse(*one)) for one in _names(made)]
        return known[provenance]

    for record in ledger.records():
        if record.status != "done":
            continue
        for use in of(record.provenance):
            use.nights.add(record.night)
            use.exposures += 1
            use.detections += record.detections
        for use in {id(one): one for before in record.previous for one in of(before.provenance)}.values():
            use.replaced += 1
    return tuple(uses[one] for one in sorted(uses))


def searched_with(out: Path, wanted: str) -> Callable[[ExposureRecord], bool]:
    """Give the test whether the published results of an exposure are from a model.

    Parameters
    ----------
    out
        Output folder.
    wanted
        Name; name and version, with a space between; or the first digits of the SHA-256 of its weights.

    Raises
    ------
    Misconfigured
        Nothing that is published is from such a model.
    """
    _require_ledger(out)
    ledger, uses = Ledger(out), model_uses(out)
    if not any(use.exposures and _is(use, wanted) for use in uses):
        there = ", ".join(sorted({f"{use.name} {use.version} ({use.sha256[:12]})" for use in uses if use.exposures}))
        raise Misconfigured(
            "no_such_model",
            f"--searched-with {wanted}",
            f"nothing that {out} has published was searched with it; its models: {there or 'none'}.",
            "name one of these, by its name, 'name version' or SHA-256; see `nightstride models OUT`.",
        )
    known: dict[str | None, bool] = {}

    def test(record: ExposureRecord) -> bool:
        if record.provenance not in known:
            made = ledger.provenance(record.provenance) if record.provenance else None
            known[record.provenance] = any(_is(ModelUse(*names), wanted) for names in _names(made))
        return record.status == "done" and known[record.provenance]

    return test


def recorded_sources(out: Path, test: Callable[[ExposureRecord], bool], settings: Settings) -> list[Source]:
    """Give the sources of exposures of the ledger, from where they were when they were searched.

    Raises
    ------
    Misconfigured
        One of them is not there any more.
    """
    wanted = [record.source_uri for record in Ledger(out).records() if test(record)]
    found = list_sources(sorted({_file(uri) for uri in wanted}), settings)
    return [source for source in found if name_of(source) in set(wanted)]


def _file(uri: str) -> str:
    return uri.rpartition("[")[0] if uri.endswith("]") else uri


def _names(made: ProvenanceRecord | None) -> Iterable[tuple[str, str, str, str]]:
    if made is None:
        return [("not recorded", "", "", "")]
    return [_of(model, card) for model, card in made.models.items()]


def _of(model: str, card: ModelCard) -> tuple[str, str, str, str]:
    return model, card.name, card.version, card.sha256


def _is(use: ModelUse, wanted: str) -> bool:
    digits = len(wanted) >= LEAST_DIGITS and use.sha256.startswith(wanted.lower())
    return bool(use.name) and (wanted in (use.name, f"{use.name} {use.version}") or digits)


def _require_ledger(out: Path) -> None:
    if not (out / "ledger").is_dir():
        raise Misconfigured("no_output", str(out), "is no output folder: it has no ledger/.", "name one.")
