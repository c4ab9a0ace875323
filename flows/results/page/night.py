"""Night as read from the output folder; nothing is computed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flows.results.page.detection import COLUMNS
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import require_output
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, choice
from schemas.ledger import ExposureRecord, QuarantineRecord
from schemas.summary import RunSummary

_EMPTY = pa.schema([DIA_SOURCE.schema.field(name) for name in COLUMNS]).empty_table()


@dataclass(frozen=True)
class Exposure:
    """Published exposure: its record, and its rows of `dia_source` with the columns that the page reads."""

    record: ExposureRecord
    sources: pa.Table

    @property
    def interest(self) -> float:
        """Return the sum of the reliabilities: the expected number of real detections."""
        return float(pc.sum(self.sources["reliability"]).as_py() or 0.0)


@dataclass(frozen=True)
class PublishedNight:
    """Night by its ledger, catalogues and quarantine.

    Attributes
    ----------
    exposures
        Published ones, by visit and detector.
    quarantined
        Inputs that could not be used; one whose night is not known is listed with every night.
    summary
        Of the run that asked for the page; None if the page is made afterwards.
    damaged
        What is wrong with catalogues that the ledger lists and that cannot be read.
    """

    label: str
    exposures: tuple[Exposure, ...]
    quarantined: tuple[QuarantineRecord, ...]
    summary: RunSummary | None
    damaged: tuple[str, ...]

    @property
    def sources(self) -> pa.Table:
        """Return the rows of all exposures."""
        return pa.concat_tables([_EMPTY, *(exposure.sources for exposure in self.exposures)])

    @property
    def reliability_versions(self) -> list[str]:
        """Return the models behind the reliabilities."""
        return list(pc.unique(self.sources["reliabilityVersion"]).to_pylist())

    @property
    def made_at(self) -> str:
        """Return when the last of its exposures was finished: the page changes only when the night does."""
        times = [exposure.record.finished_at for exposure in self.exposures]
        return max(times + [record.when for record in self.quarantined], default="")

    @property
    def seconds(self) -> Mapping[str, float]:
        """Return the worker time by stage, summed over the exposures, s; in the order of the stages."""
        total: Counter[str] = Counter()
        for exposure in self.exposures:
            total.update(exposure.record.seconds)
        return dict(total)


def known_nights(out: Path) -> tuple[str, ...]:
    """Return the nights of which the output folder holds an exposure, published or quarantined."""
    return tuple(
        sorted({*Ledger(out).nights(), *(record.key.night for record in Quarantine(out).list() if record.key)})
    )


def chosen_nights(out: Path, night: str | None) -> tuple[str, ...]:
    """Return the nights of an output folder, or the requested one.

    Raises
    ------
    Misconfigured
        It is not an output folder, or it has no night, or not this one.
    """
    require_output(out)
    nights = known_nights(out)
    if not nights:
        raise Misconfigured("no_night", str(out), "holds no night.", "make one with `nightstride run`.")
    if night is None:
        return nights
    if night not in nights:
        raise Misconfigured("no_night", str(out), f"holds no night {night}.", choice(night, nights))
    return (night,)


def read_night(out: Path, label: str, summary: RunSummary | None) -> PublishedNight:
    """Read what the output folder holds of a night.

    Raises
    ------
    Misconfigured
        Something in it was written by a later version.
    """
    store, exposures, damaged = CatalogStore(out), [], []
    for record in Ledger(out).records(label):
        if record.status != "done":
            continue
        try:
            sources = store.read(DIA_SOURCE, record.key).select(COLUMNS)
        except BadInput as error:
            damaged.append(str(error))
            sources = _EMPTY
        exposures.append(Exposure(record, sources))
    quarantined = [record for record in Quarantine(out).list() if record.key is None or record.key.night == label]
    return PublishedNight(label, tuple(exposures), tuple(quarantined), summary, tuple(damaged))
