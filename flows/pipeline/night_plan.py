"""Plan of the work on whole nights and their patches, made from the ledger before any work starts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from flows.inputs.dust_map import dust_digest
from flows.pipeline.graph import GIVEN, Graph, following, resolve
from flows.pipeline.lineage import is_whole, stage_digest
from flows.pipeline.models import model_digests
from flows.pipeline.night_work import MARGIN, NightWork, PatchWork
from flows.storage.digest import digest
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.night_sums import published_digest
from kernels.sky.patches import cover, divided
from schemas.dia_object import ASSOCIATION
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.ledger import DatasetRecord, ExposureRecord, NightRecord, PatchRecord
from schemas.night_range import nights_before
from schemas.objects import SOURCE
from schemas.patch import COVER_ORDER, PatchKey
from schemas.settings import Settings
from schemas.stage import Stage
from schemas.static_object import STATIC_ASSOCIATION
from schemas.tracklets import NIGHT_WINDOW, TRACKLET


def plan_nights(
    nights: Iterable[str],
    out: Path,
    settings: Settings,
    pipeline: Sequence[Stage],
    associations: Mapping[str, str] | None = None,
    static: Mapping[str, str | None] | None = None,
) -> tuple[NightWork, ...]:
    """Return the work on nights whose published results differ from what their exposures would give now.

    All published exposures of a night count, including those that are not inputs of this run.

    Parameters
    ----------
    nights, out, settings, pipeline
        Labels, output folder, settings and stages of the run.
    associations
        Night -> digest of the association up to it; None: it is not known now, and results made from it are kept.
    static
        The same for the association of the objects of the science images, where a single night may also have None.
        Results made from it are then also kept in patches whose objects will be made.

    Raises
    ------
    Misconfigured
        A model or the ledger cannot be used.
    """
    models = model_digests(pipeline, settings)
    found, linked = list[NightWork](), dict[str, str]()
    for night in sorted(nights):
        own = None if static is None or static.get(night, "") is None else static
        known = {ASSOCIATION.name: associations, STATIC_ASSOCIATION.name: own}
        found.append(_Planned(night, out, settings, pipeline, models, linked).work(known))
        linked[night] = found[-1].digests.get(TRACKLET.name, "")
    return tuple(found)


def window_digest(ledger: Ledger, night: str, settings: Settings, linked: Mapping[str, str] | None = None) -> str:
    """Return the digest of the earlier nights with which a night is linked; empty if none are requested.

    Parameters
    ----------
    ledger, night, settings
        Ledger, label of the night, and settings of the run.
    linked
        Night -> digest of its tracklets, for nights made before this one; others are used as published.
    """
    if not (count := settings.link_nights.nights):
        return ""
    before = [one for one in nights_before(ledger.nights(), night, count) if one != night]
    records = {one: ledger.night(one) for one in before}
    made = {one: record.datasets[TRACKLET.name].digest for one, record in records.items() if _linked(record)}
    return digest(made | {one: linked[one] for one in before if linked and linked.get(one)})


def _linked(record: NightRecord | None) -> TypeGuard[NightRecord]:
    return record is not None and TRACKLET.name in record.datasets


class _Member(NamedTuple):
    """Published exposure: its position on the sky, and digests and row counts of its datasets."""

    name: str
    sky: NDArray[np.int64]
    digests: Mapping[str, str]
    rows: Mapping[str, int]


@dataclass(frozen=True)
class _Planned:
    """Plan of one night: parameters of `plan_nights`, digests of models, and digests of earlier nights' tracklets."""

    night: str
    out: Path
    settings: Settings
    pipeline: Sequence[Stage]
    models: Mapping[str, str]
    linked: Mapping[str, str]

    def work(self, associations: Mapping[str, Mapping[str, str | None] | None]) -> NightWork:
        ledger = Ledger(self.out)
        published = [one for one in ledger.records(self.night) if one.status == "done"]
        members = [_member(one, self.out) for one in published]
        made = _combined(members)
        record = ledger.night(self.night)
        known = {one.key: one for one in ledger.patches(self.night) if isinstance(one, PatchRecord)}
        given = {name: self._association(name, one, known) for name, one in associations.items()} if made else {}
        able = resolve(self.pipeline, {*made, *(name for name, one in given.items() if one is not None)}, ("patch",))
        patches = tuple(self._patches(members, able, known))
        made |= _of_patches(patches)
        for name, association in given.items():
            if association is None:
                continue
            unknown = associations[name] is None
            made[name] = digest(association, *(one.key.name for one in patches))
            patches = tuple(
                self._with_association(
                    one, name, made, unknown or (name == STATIC_ASSOCIATION.name and one.objects_due)
                )
                for one in patches
            )
            made |= _of_patches(patches)
        if window := window_digest(ledger, self.night, self.settings, self.linked):
            made[NIGHT_WINDOW.name] = window
        graph = resolve(self.pipeline, made, ("night",))
        digests = self._digests(graph, made, {})
        graph = Graph(graph.stages, {**able.not_run, **({} if patches else _unplaced(able)), **graph.not_run})
        kept = self._kept(record.datasets if record is not None else {}, digests)
        exposures, rows = _read(members, _reads(graph))
        return NightWork(
            self.night, self.out, graph, digests, record, kept, exposures, rows, len(members), patches, window,
            published_digest(published),
        )  # fmt: skip

    def _association(
        self, name: str, associations: Mapping[str, str | None] | None, known: Mapping[PatchKey, PatchRecord]
    ) -> str | None:
        """Return the digest of an association; empty if it is not known and earlier results made from it are kept."""
        if associations is not None:
            return associations.get(self.night)
        after = following(self.pipeline, name)
        return "" if any(after & _recorded(one).keys() for one in known.values()) else None

    def _patches(
        self, members: Sequence[_Member], able: Graph, known: Mapping[PatchKey, PatchRecord]
    ) -> Iterator[PatchWork]:
        """Yield the work on patches that exposures touch, in order of position, without results of the association."""
        read = _reads(able)
        if ASSOCIATION.name in read:
            read.add(DIA_SOURCE.name)  # the association is made of these
        there = [one for one in members if len(one.sky) and read & one.digests.keys()]
        if not able.stages or not there:
            return
        rows = [sum(one.rows[name] for name in read & one.rows.keys()) / len(one.sky) for one in there]
        counts = [len(one.sky) for one in there]
        pixels = np.concatenate([one.sky for one in there])
        order = np.argsort(pixels, kind="stable")
        pixels, load = pixels[order], np.repeat(rows, counts)[order]
        owner = np.repeat(np.arange(len(there)), counts)[order]
        wanted = self.settings.patches
        for depth, pixel in divided(pixels, load, wanted.order, wanted.sources):
            start, end = np.searchsorted(
                pixels, [pixel << 2 * (COVER_ORDER - depth), (pixel + 1) << 2 * (COVER_ORDER - depth)]
            )
            key = PatchKey(night=self.night, order=depth, pixel=pixel)
            near = [there[index] for index in np.unique(owner[start:end])]
            yield self._patch(key, near, load[start:end].sum(), known.get(key), read)

    def _patch(
        self, key: PatchKey, near: Sequence[_Member], load: float, record: PatchRecord | None, read: Set[str]
    ) -> PatchWork:
        given = {name: one for name, one in _combined(near).items() if name in read}
        graph = resolve(self.pipeline, given, ("patch",))
        digests = self._digests(graph, self._placed(given, key), {})
        kept = self._kept(record.datasets if record is not None else {}, digests)
        exposures, _ = _read(near, read)
        return PatchWork(self.night, self.out, graph, digests, record, kept, exposures, round(load), key)

    def _with_association(self, patch: PatchWork, name: str, made: Mapping[str, str], stays: bool) -> PatchWork:
        """Return the work on a patch with the results of an association, which depend on the whole night.

        Parameters
        ----------
        patch, name, made
            Work without the association; name of the association; digests of the association and of the datasets of
            exposures and patches.
        stays
            Whether earlier results made from the association are kept, and no new ones are made.
        """
        graph = resolve(self.pipeline, {*patch.exposures, *(GIVEN & made.keys())}, ("patch",))
        after = following(graph.stages, name)
        before = {key: one for key, one in _recorded(patch.record).items() if stays and key in after}
        stages = tuple(stage for stage in graph.stages if stage.gives.name in (before if stays else after))
        digests = self._digests(Graph(stages, {}), self._placed(made, patch.key), before)
        kept = self._kept(patch.record.datasets if patch.record is not None else {}, digests)
        stages = tuple(stage for stage in graph.stages if stage.gives.name in {*patch.digests, *digests})
        return replace(
            patch, graph=Graph(stages, graph.not_run), digests={**patch.digests, **digests}, kept={**patch.kept, **kept}
        )

    def _placed(self, made: Mapping[str, str], key: PatchKey) -> dict[str, str]:
        """Return the digests of the parts of datasets that a patch reads."""
        place = f"{key.name} {self.settings.patches.margin_arcsec}"
        return {name: digest(one, place) for name, one in made.items()}

    def _digests(self, graph: Graph, made: dict[str, str], before: Mapping[str, str]) -> dict[str, str]:
        """Return the digests of the datasets of stages, given those of ``made`` and ``before``."""
        for stage in graph.stages:
            if stage.gives.name in before:
                made[stage.gives.name] = before[stage.gives.name]
                continue
            read = [made[dataset.name] for dataset in (*stage.needs, *stage.optional) if dataset.name in made]
            weights = [*(self.models[model.name] for model in stage.models), *dust_digest(stage, self.settings)]
            made[stage.gives.name] = stage_digest(read, stage, weights, stage.section(self.settings))
        return {stage.gives.name: made[stage.gives.name] for stage in graph.stages}

    def _kept(self, published: Mapping[str, DatasetRecord], digests: Mapping[str, str]) -> dict[str, DatasetRecord]:
        """Return the published datasets that are up to date; a dataset and its margin count only together."""
        found = {
            name: entry
            for name, entry in published.items()
            if entry.digest == digests.get(name.removesuffix(MARGIN)) and is_whole(self.out / entry.path, entry.sha256)
        }
        halves = {name.removesuffix(MARGIN) for name in published if name.endswith(MARGIN)}
        broken = {name for name in halves if not {name, name + MARGIN} <= found.keys()}
        return {name: entry for name, entry in found.items() if name.removesuffix(MARGIN) not in broken}


def _member(record: ExposureRecord, out: Path) -> _Member:
    digests = {name: entry.digest for name, entry in record.datasets.items()}
    rows = {name: entry.rows for name, entry in record.datasets.items()}
    sky = record.sky
    if not sky and SOURCE.name in digests:  # it has no WCS, or its record is older than this field
        from flows.storage.zarr_tiles import TileStore  # zarr is slow to import, and rarely needed

        with suppress(BadInput):
            info = TileStore.open(tile_path(out, record.key)).info
            sky = () if info.wcs_header is None else cover(info.wcs_header, info.shape)
    return _Member(record.name, np.array(sky, np.int64), digests, rows)


def _reads(graph: Graph) -> set[str]:
    """Return the datasets that stages read."""
    return {dataset.name for stage in graph.stages for dataset in (*stage.needs, *stage.optional)}


def _read(members: Iterable[_Member], read: Set[str]) -> tuple[dict[str, tuple[str, ...]], int]:
    """Return the exposures that have each of several datasets, and the total number of rows."""
    having: dict[str, list[str]] = {}
    rows = 0
    for one in members:
        for name in read & one.digests.keys():
            having.setdefault(name, []).append(one.name)
            rows += one.rows[name]
    return {name: tuple(having[name]) for name in sorted(having)}, rows


def _combined(members: Iterable[_Member]) -> dict[str, str]:
    """Return the digest of each dataset over the exposures that have it."""
    made: dict[str, dict[str, str]] = {}
    for one in members:
        for name, entry in one.digests.items():
            made.setdefault(name, {})[one.name] = entry
    return {name: digest(made[name]) for name in sorted(made)}


def _unplaced(able: Graph) -> dict[str, str]:
    return dict.fromkeys((stage.name for stage in able.stages), "no exposure has a position on the sky")


def _of_patches(patches: Sequence[PatchWork]) -> dict[str, str]:
    """Return the digest of each dataset over all patches."""
    names = sorted({name for one in patches for name in one.digests})
    return {name: digest({one.key.name: one.digests.get(name, "") for one in patches}) for name in names}


def _recorded(record: NightRecord | PatchRecord | None) -> dict[str, str]:
    """Return the digests of the datasets of a patch, and of those for which it had no input."""
    if record is None:
        return {}
    published = {name: entry.digest for name, entry in record.datasets.items() if not name.endswith(MARGIN)}
    return published | {name: one for name, (one, _) in record.idle.items()}
