"""Plan of the work on whole nights, decided from the ledger before anything is started."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flows.inputs.dust_map import dust_digest
from flows.pipeline.graph import Graph, resolve
from flows.pipeline.lineage import is_whole, stage_digest
from flows.pipeline.models import model_digests
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from schemas.ledger import DatasetRecord, ExposureRecord, NightRecord
from schemas.settings import Settings
from schemas.stage import Stage


@dataclass(frozen=True)
class NightWork:
    """Work to be done on a night as a whole.

    Attributes
    ----------
    night, out
        Label, and output folder.
    graph
        Its stages in order, and why the others do not run.
    digests
        Digests of the datasets that those make.
    record
        What the ledger holds of the night.
    kept
        Published datasets of the night that are up to date.
    """

    night: str
    out: Path
    graph: Graph
    digests: Mapping[str, str]
    record: NightRecord | None
    kept: Mapping[str, DatasetRecord]

    @cached_property
    def records(self) -> tuple[ExposureRecord, ...]:
        """Return what the ledger holds of the published exposures, by visit and detector; read when it is needed."""
        return tuple(record for record in Ledger(self.out).records(self.night) if record.status == "done")

    @property
    def idle(self) -> dict[str, str]:
        """Return datasets without input, as an earlier run found, and why."""
        known = self.record.idle.items() if self.record is not None else ()
        return {name: reason for name, (digest, reason) in known if self.digests.get(name) == digest}

    @property
    def not_run(self) -> dict[str, str]:
        """Return stage -> why it has nothing to work on."""
        idle = self.idle
        reasons = {stage.name: idle[stage.gives.name] for stage in self.graph.stages if stage.gives.name in idle}
        return {**self.graph.not_run, **reasons}

    @property
    def outdated(self) -> bool:
        """Return whether something has to be made or withdrawn."""
        published = self.record.datasets.keys() if self.record is not None else set()
        return self.digests.keys() != self.kept.keys() | self.idle.keys() or published != self.kept.keys()


def plan_nights(
    nights: Iterable[str], out: Path, settings: Settings, pipeline: Sequence[Stage]
) -> tuple[NightWork, ...]:
    """Compare the published results of nights with what their exposures would give now.

    All published exposures of a night count, whether this run was given them or not.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used.
    """
    models = model_digests(pipeline, settings)
    return tuple(_plan(night, out, settings, pipeline, models) for night in sorted(nights))


def _plan(night: str, out: Path, settings: Settings, pipeline: Sequence[Stage], models: Mapping[str, str]) -> NightWork:
    ledger = Ledger(out)
    made = _inputs(record for record in ledger.records(night) if record.status == "done")
    graph = resolve(pipeline, made, ("night",))
    for stage in graph.stages:
        read = [made[dataset.name] for dataset in (*stage.needs, *stage.optional) if dataset.name in made]
        weights = [*(models[model.name] for model in stage.models), *dust_digest(stage, settings)]
        made[stage.gives.name] = stage_digest(read, stage, weights, stage.section(settings))
    digests = {stage.gives.name: made[stage.gives.name] for stage in graph.stages}
    record = ledger.night(night)
    published = record.datasets if record is not None else {}
    kept = {
        name: entry
        for name, entry in published.items()
        if entry.digest == digests.get(name) and is_whole(out / entry.path, entry.sha256)
    }
    return NightWork(night, out, graph, digests, record, kept)


def _inputs(records: Iterable[ExposureRecord]) -> dict[str, str]:
    """Return the digest of each dataset of the exposures, over those that have it."""
    made: dict[str, dict[str, str]] = {}
    for record in records:
        for name, entry in record.datasets.items():
            made.setdefault(name, {})[record.name] = entry.digest
    return {name: digest(made[name]) for name in sorted(made)}
