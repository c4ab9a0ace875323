"""Graph of the pipeline: the stages that can run on an exposure, and their order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from schemas.dataset import ArrayOf, FileOf, TableOf
from schemas.dia_object import ASSOCIATION
from schemas.errors import Misconfigured
from schemas.forced import FORCED_SOURCE
from schemas.packet_source import ZTF_PACKET_SOURCE
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, TEMPLATE, VARIANCE
from schemas.received_alert import RECEIVED_ALERT
from schemas.stage import Stage
from schemas.static_object import STATIC_ASSOCIATION
from schemas.tracklets import NIGHT_WINDOW
from stages import PIPELINE

PLANES = frozenset(plane.name for plane in (DIFFERENCE, MASK, VARIANCE, SCIENCE, TEMPLATE))
"""Datasets that an exposure may bring, rather than a stage."""

GIVEN = PLANES | {ASSOCIATION.name, STATIC_ASSOCIATION.name, NIGHT_WINDOW.name}
"""Datasets not made by any stage: they come with an exposure, or from earlier nights."""

ASKED = frozenset({NIGHT_WINDOW.name})
"""Those of `GIVEN` that exist only if the settings request them."""

LEVELS = ("tile", "exposure", "patch", "night")
"""Units that one call of a stage covers, from small to large; a stage reads from its own level or a smaller one."""

OF_EXPOSURE = ("tile", "exposure")
"""Levels of the stages that run on one exposure, whatever else the night holds."""


@dataclass(frozen=True)
class Graph:
    """Stages that run, in dependency order, and the reasons why others do not.

    No reason is given for stages that were not requested: those that need a file or nights that the settings do not
    name, and those that only feed such stages.
    """

    stages: tuple[Stage, ...]
    not_run: Mapping[str, str]

    def at(self, level: str) -> tuple[Stage, ...]:
        """Return the stages that run at a level, in order."""
        return tuple(stage for stage in self.stages if stage.per == level)

    def results(self, level: str) -> tuple[Stage, ...]:
        """Return the stages of a level whose dataset is published: products, and datasets that no stage of it reads."""
        consumed = {dataset.name for stage in self.at(level) for dataset in stage.needs}
        return tuple(stage for stage in self.at(level) if _is_product(stage) or stage.gives.name not in consumed)

    def beside(self) -> tuple[frozenset[str], ...]:
        """Return the datasets of an exposure that do not depend on those of its tiles, in groups made together.

        Independent datasets form separate groups; those that search copies form one group, which comes last.
        """
        made = {stage.gives.name for stage in self.at("tile")}
        after = made.union(*(following(self.stages, name) for name in made))
        parts = list[tuple[Stage, ...]]()
        for stage in (one for one in self.at("exposure") if one.gives.name not in after):
            read = {dataset.name for dataset in (*stage.needs, *stage.optional)}
            before = [
                part
                for part in parts
                if any(one.gives.name in read or (one.searches and stage.searches) for one in part)
            ]
            parts = [part for part in parts if part not in before]
            parts.append((*(one for part in before for one in part), stage))
        parts.sort(key=lambda part: any(stage.searches for stage in part))
        return tuple(frozenset(stage.gives.name for stage in part) for part in parts)

    def towards(self, wanted: Collection[str], given: Collection[str] = ()) -> tuple[Stage, ...]:
        """Return the stages that must run for given datasets, in order, if other datasets already exist."""
        needed, chosen = set(wanted), []
        for stage in reversed(self.stages):
            if stage.gives.name in needed - set(given):
                chosen.append(stage)
                needed |= {dataset.name for dataset in (*stage.needs, *stage.optional)}
        return tuple(reversed(chosen))


def following(stages: Sequence[Stage], dataset: str) -> set[str]:
    """Return the datasets that stages, in any order, make directly or indirectly from a given one."""
    found, before = {dataset}, set[str]()
    while found != before:
        before = set(found)
        read = (stage for stage in stages if any(one.name in before for one in (*stage.needs, *stage.optional)))
        found |= {stage.gives.name for stage in read}
    return found - {dataset}


def resolve(pipeline: Sequence[Stage], present: Collection[str], levels: Collection[str] = LEVELS) -> Graph:
    """Return the graph of a pipeline from the inputs and outputs of its stages.

    Parameters
    ----------
    pipeline
        Stages in any order.
    present
        Names of the planes of the exposure, of the files in the settings, and of existing datasets.
    levels
        Levels to include; stages of other levels are not given as reasons.

    Raises
    ------
    Misconfigured
        A stage needs a dataset that no stage makes, or reads synthetic rows; two stages make the same dataset, or
        depend on each other.
    """
    return _resolved(tuple(pipeline), frozenset(present), frozenset(levels))


@lru_cache(64)
def _resolved(pipeline: tuple[Stage, ...], present: frozenset[str], levels: frozenset[str]) -> Graph:
    producers = _producers(pipeline)
    ordered = _sorted(pipeline)
    available, unasked, runs, not_run = set(present), set(ASKED), [], dict[str, str]()
    for stage in ordered:
        if stage.per not in levels:
            continue
        missing = {dataset.name: dataset for dataset in stage.needs if dataset.name not in available}
        if any(isinstance(one, FileOf) or one.name in unasked for one in missing.values()):
            unasked.add(stage.gives.name)
        elif missing:
            not_run[stage.name] = "; ".join(_why(name, producers) for name in sorted(missing))
        else:
            runs.append(stage)
            available.add(stage.gives.name)
    return Graph(tuple(runs), not_run)


def _why(name: str, producers: Mapping[str, Stage]) -> str:
    if name in producers:
        return f"no {name}: stage {producers[name].name} did not run"
    return f"no {name} in the input"


def _producers(pipeline: Sequence[Stage]) -> dict[str, Stage]:
    producers: dict[str, Stage] = {}
    for stage in pipeline:
        name = stage.gives.name
        if name in producers or name in GIVEN:
            other = f"stage {producers[name].name!r}" if name in producers else "the input"
            raise Misconfigured(
                "two_producers", f"stage {stage.name!r}", f"gives {name!r}, as {other} does.", "keep one of them."
            )
        producers[name] = stage
    _refuse_synthetic(pipeline)
    for stage in pipeline:
        for dataset in stage.needs:
            producer = producers.get(dataset.name)
            if producer is None and dataset.name not in GIVEN and not isinstance(dataset, FileOf):
                raise Misconfigured(
                    "no_producer",
                    f"stage {stage.name!r}",
                    f"needs {dataset.name!r}, which no stage of the pipeline and no input gives.",
                    "add the stage that gives it to the pipeline.",
                )
            if producer is not None and LEVELS.index(producer.per) > LEVELS.index(stage.per):
                raise Misconfigured(
                    "level",
                    f"stage {stage.name!r}",
                    f"works per {stage.per} but needs {dataset.name!r}, which is made per {producer.per}.",
                    f"make it work per {producer.per}.",
                )
    return producers


def _refuse_synthetic(pipeline: Sequence[Stage]) -> None:
    """Refuse a stage that would publish results from synthetic rows."""
    for stage in pipeline:
        if isinstance(stage.gives, TableOf) and stage.gives.synthetic:
            continue
        for dataset in (*stage.needs, *stage.optional):
            if isinstance(dataset, TableOf) and dataset.synthetic:
                raise Misconfigured(
                    "synthetic_input",
                    f"stage {stage.name!r}",
                    f"reads {dataset.name!r}, whose rows are synthetic.",
                    "let it read 'dia_source'; synthetic rows are for the evaluation alone.",
                )


def _is_product(stage: Stage) -> bool:
    return isinstance(stage.gives, TableOf) and stage.gives.product


def _sorted(pipeline: Sequence[Stage]) -> list[Stage]:
    """Return the stages in topological order; of those that could come next, the first in the pipeline is taken."""
    ordered: list[Stage] = []
    waiting = list(pipeline)
    while waiting:
        open_names = {stage.gives.name for stage in waiting}
        ready = next(
            (stage for stage in waiting if not open_names & {d.name for d in (*stage.needs, *stage.optional)}), None
        )
        if ready is None:
            raise Misconfigured(
                "cycle",
                "pipeline",
                f"stages {sorted(stage.name for stage in waiting)} wait for each other's results.",
                "make one of them need something else.",
            )
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def declared_tables() -> dict[str, TableOf]:
    """Return the declared schema of each published table, by name."""
    published = (*(stage.gives for stage in PIPELINE), FORCED_SOURCE, RECEIVED_ALERT, ZTF_PACKET_SOURCE)
    return {dataset.name: dataset for dataset in published if isinstance(dataset, TableOf)}


def declared_arrays() -> frozenset[str]:
    """Return the names of the published arrays."""
    return frozenset(stage.gives.name for stage in PIPELINE if isinstance(stage.gives, ArrayOf))
