"""Work on whole nights and their patches: dependencies, existing results, and parts in which it is done."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from flows.pipeline.graph import Graph, following
from flows.storage.digest import digest
from schemas.dia_object import ASSOCIATION
from schemas.exposure import ExposureKey, key_of
from schemas.ledger import DatasetRecord, NightRecord, PatchRecord
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from schemas.static_object import STATIC_ASSOCIATION

MARGIN = "_margin"
"""Suffix of the names of the parts of a dataset published around a patch."""


@dataclass(frozen=True)
class Work:
    """Work on a night as a whole, or on a patch of it.

    Attributes
    ----------
    night, out
        Label, and output folder.
    graph
        Stages in order, and why the others do not run.
    digests
        Digests of the datasets that these stages make.
    record
        Record in the ledger.
    kept
        Published datasets that are up to date.
    exposures
        Dataset -> names of the exposures to read it from, by visit and detector. For a patch these are the exposures
        that may touch it or its surroundings.
    rows
        Number of rows read from these exposures; approximate for a patch.
    """

    night: str
    out: Path
    graph: Graph
    digests: Mapping[str, str]
    record: NightRecord | PatchRecord | None
    kept: Mapping[str, DatasetRecord]
    exposures: Mapping[str, tuple[str, ...]]
    rows: int

    def keys(self, dataset: str | None = None) -> list[ExposureKey]:
        """Return the exposures that have a dataset, or any dataset, by visit and detector."""
        names = self.exposures.values() if dataset is None else [self.exposures.get(dataset, ())]
        every = [key_of(self.night, name) for name in {name for some in names for name in some}]
        return sorted(every, key=lambda key: (key.visit, key.detector))

    @property
    def idle(self) -> dict[str, str]:
        """Return the datasets without input according to an earlier run, with the reasons."""
        known = self.record.idle.items() if self.record is not None else ()
        return {name: reason for name, (digest, reason) in known if self.digests.get(name) == digest}

    @property
    def not_run(self) -> dict[str, str]:
        """Return stage -> reason why it has no input."""
        idle = self.idle
        reasons = {stage.name: idle[stage.gives.name] for stage in self.graph.stages if stage.gives.name in idle}
        return {**self.graph.not_run, **reasons}

    @property
    def due(self) -> bool:
        """Return whether any dataset must be made."""
        kept = {name for name in self.kept if not name.endswith(MARGIN)}
        return self.digests.keys() != kept | self.idle.keys()

    @property
    def reads_pixels(self) -> bool:
        """Return whether a stage that must run reads pixels of exposures."""
        wanted = self.digests.keys() - self.kept.keys() - self.idle.keys()
        return any(stage.pixels for stage in Graph(self.graph.stages, {}).towards(wanted, self.kept))

    @property
    def outdated(self) -> bool:
        """Return whether any dataset must be made or withdrawn."""
        published = self.record.datasets.keys() if self.record is not None else set()
        return self.due or published != self.kept.keys()


@dataclass(frozen=True)
class PatchWork(Work):
    """Work on a patch of the sky.

    Attributes
    ----------
    key
        Key of the patch.
    """

    key: PatchKey

    @property
    def objects_due(self) -> bool:
        """Return whether the objects of the science images must be made."""
        return OBJECT.name in self.digests.keys() - self.kept.keys() - self.idle.keys()

    @property
    def of_exposures(self) -> "PatchWork":
        """Return the part of the work that depends only on the exposures."""
        stages = self.graph.stages
        after = following(stages, ASSOCIATION.name) | following(stages, STATIC_ASSOCIATION.name)
        return self._part(self.digests.keys() - after)

    @property
    def of_association(self) -> "PatchWork":
        """Return the part of the work that depends on the association and on the first part of all patches."""
        return self._part(following(self.graph.stages, ASSOCIATION.name))

    @property
    def of_static(self) -> "PatchWork":
        """Return the part of the work that depends on the association of its objects with permanent ones."""
        return self._part(following(self.graph.stages, STATIC_ASSOCIATION.name))

    def _part(self, names: Set[str]) -> "PatchWork":
        graph = Graph(tuple(stage for stage in self.graph.stages if stage.gives.name in names), {})
        digests = {name: digest for name, digest in self.digests.items() if name in names}
        kept = {name: entry for name, entry in self.kept.items() if name.removesuffix(MARGIN) in names}
        return replace(self, graph=graph, digests=digests, kept=kept)


@dataclass(frozen=True)
class NightWork(Work):
    """Work on a night: on its patches, and as a whole.

    Attributes
    ----------
    published
        Number of its published exposures.
    patches
        All of its patches.
    window
        Digest of the nights with which it is linked; empty if there are none.
    made_from
        As in `schemas.ledger.NightRecord`, for its current exposures.
    """

    published: int
    patches: tuple[PatchWork, ...] = ()
    window: str = ""
    made_from: str = ""

    @property
    def patch_rows(self) -> dict[str, int]:
        """Return the number of rows of the kept datasets of its patches, by dataset."""
        found: dict[str, int] = {}
        for patch in self.patches:
            for name, entry in patch.kept.items():
                found[name] = found.get(name, 0) + entry.rows
        return {name: rows for name, rows in found.items() if not name.endswith(MARGIN)}

    @property
    def not_run(self) -> dict[str, str]:
        """Return stage -> reason why it has no input; a patch-level stage is included if it has none in any patch."""
        found = super().not_run
        reasons = [patch.not_run for patch in self.patches]
        everywhere = set.intersection(*(set(one) for one in reasons)) if reasons else set()
        return found | {name: reasons[0][name] for name in everywhere}

    @property
    def outdated(self) -> bool:
        """Return whether any dataset of the night or of a patch must be made or withdrawn."""
        known = self.record.patches if isinstance(self.record, NightRecord) else ""
        return super().outdated or self.patch_digest != known or any(patch.outdated for patch in self.patches)

    @property
    def patch_digest(self) -> str:
        """Return the digest of the inputs of all patches; empty if there are none."""
        made = {patch.key.name: dict(patch.digests) for patch in self.patches}
        return digest(made) if made else ""
