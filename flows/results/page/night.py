"""A night's results read from the output folder; nothing is computed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.storage.catalog_store import CatalogStore, joined
from flows.storage.layout import require_output
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord, QuarantineRecord
from schemas.summary import RunSummary

COLUMNS = (
    "diaSourceId", "visit", "detector", "x", "y", "ra", "dec", "raErr", "decErr", "midpointMjdTai", "band", "magAB",
    "magABErr", "snr", "trailLength", "trailLengthErr", "trailAngle", "trailAngleErr", "trailLengthPx",
    "trailLengthPxErr", "trailAnglePx", "trailAnglePxErr", "trailClass", "reliability", "reliabilityVersion", "pTrail",
    "pPoint", "pSatellite", "pArtefact", "flags", "bboxSize", "psfFlux",
)  # fmt: skip
"""Columns of `dia_source` used by the page."""

_EXPOSURE = pa.field("exposure", pa.int64())
_EMPTY = pa.schema([*map(DIA_SOURCE.schema.field, COLUMNS), _EXPOSURE]).empty_table()
_UNUSED: Mapping[str, Any] = {"datasets": {}, "sky": (), "previous": ()}  # half of the contents of thousands of records


@dataclass(frozen=True)
class Exposure:
    """Published exposure.

    Attributes
    ----------
    record
        Record in the ledger, without its datasets and sky coverage.
    known
        Detection -> known object, from `ss_source`.
    compared
        Whether known objects were searched for.
    """

    record: ExposureRecord
    known: Mapping[int, str]
    compared: bool


@dataclass(frozen=True)
class PublishedNight:
    """Night with its ledger, catalogues and quarantine.

    Attributes
    ----------
    exposures
        Published exposures, by visit and detector.
    sources
        Their rows of `dia_source` with the columns used by the page, and the index of the exposure as ``exposure``, in
        the order of this.
    quarantined
        Unusable inputs; those of unknown night are listed with every night.
    summary
        Summary of the run that requested the page; None if the page is made later.
    damaged
        Errors of catalogues that are in the ledger but cannot be read.
    failed
        Files of exposures that failed and have no published results.
    """

    label: str
    exposures: tuple[Exposure, ...]
    sources: pa.Table
    quarantined: tuple[QuarantineRecord, ...]
    summary: RunSummary | None
    damaged: tuple[str, ...]
    failed: tuple[str, ...] = ()

    def sources_of(self, exposure: int) -> pa.Table:
        """Return the rows of an exposure, given its index."""
        first, end = np.searchsorted(self._places, [exposure, exposure + 1])
        return self.sources.slice(first, end - first)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        return self.sources["exposure"].to_numpy()

    @property
    def known(self) -> dict[int, str]:
        """Return detection -> known object."""
        return {one: name for exposure in self.exposures for one, name in exposure.known.items()}

    @property
    def compared(self) -> bool:
        """Return whether known objects were searched for on any exposure."""
        return any(exposure.compared for exposure in self.exposures)

    @property
    def reliability_versions(self) -> list[str]:
        """Return the models that gave the reliabilities."""
        return list(pc.unique(self.sources["reliabilityVersion"]).to_pylist())

    @property
    def made_at(self) -> str:
        """Return when the last of its exposures was finished, so that the page changes only with the night."""
        times = [exposure.record.finished_at for exposure in self.exposures]
        return max(times + [record.when for record in self.quarantined], default="")

    @property
    def seconds(self) -> Mapping[str, float]:
        """Return the worker time by stage, summed over exposures, s; in the order of the stages."""
        total: Counter[str] = Counter()
        for exposure in self.exposures:
            total.update(exposure.record.seconds)
        return dict(total)


def known_nights(out: Path) -> tuple[str, ...]:
    """Return the nights with an exposure in the output folder, published or quarantined."""
    return tuple(
        sorted({*Ledger(out).nights(), *(record.key.night for record in Quarantine(out).list() if record.key)})
    )


def chosen_nights(out: Path) -> tuple[str, ...]:
    """Return the nights of an output folder that can be chosen.

    Raises
    ------
    Misconfigured
        It is not an output folder, or has no night.
    """
    require_output(out)
    nights = known_nights(out)
    if not nights:
        raise Misconfigured("no_night", str(out), "holds no night.", "make one with `nightstride run`.")
    return nights


def read_night(out: Path, label: str, summary: RunSummary | None) -> PublishedNight:
    """Read the results of a night from the output folder.

    Raises
    ------
    Misconfigured
        Some file was written by a later version.
    """
    store, exposures, damaged, failed = CatalogStore(out), list[Exposure](), list[str](), list[str]()

    def tables() -> Iterator[pa.Table]:
        for record in Ledger(out).records(label):
            if record.status == "failed":
                failed.append(record.source_uri)
            if record.status != "done":
                continue
            known = dict[int, str]()
            try:
                rows = store.read(DIA_SOURCE, record.key).select(COLUMNS)
                known = _known(store, record)
                yield rows.append_column(_EXPOSURE, pa.array([len(exposures)] * len(rows), _EXPOSURE.type))
            except BadInput as error:
                damaged.append(str(error))
            compared = SS_SOURCE.name in record.datasets
            exposures.append(Exposure(record.model_copy(update=_UNUSED), known, compared))

    sources = (joined(tables()) or _EMPTY).combine_chunks()
    quarantined = [record for record in Quarantine(out).list() if record.key is None or record.key.night == label]
    told = tuple(exposures), sources, tuple(quarantined), summary, tuple(damaged), tuple(failed)
    return PublishedNight(label, *told)


def _known(store: CatalogStore, record: ExposureRecord) -> dict[int, str]:
    entry = record.datasets.get(SS_SOURCE.name)
    if entry is None or not entry.rows:
        return {}
    rows = store.read(SS_SOURCE, record.key)
    return dict(zip(rows["diaSourceId"].to_pylist(), rows["designation"].to_pylist(), strict=True))
