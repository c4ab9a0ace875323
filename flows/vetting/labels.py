"""Labels from verdicts, and the agreement of vetters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.storage.atomic import publish_file
from flows.storage.folder import require_ending, require_folder
from flows.storage.writing import writing
from flows.vetting.verdicts import VerdictStore
from kernels.statistics.class_scores import cohen_kappa
from schemas.dia_source import exposure_of
from schemas.errors import Misconfigured
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.vetting import LABEL, SAME_PX, Verdict, VerdictRecord

Detection = tuple[str, int, int, int]
"""Night, visit and detector of a detection, and its number among the judged ones of that exposure."""


def judged_detections(records: Sequence[VerdictRecord]) -> list[Detection]:
    """Return the detection of each record, by its place: a night searched with other settings has other ids."""
    places: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
    found = []
    for one in records:
        exposure = (one.night, *exposure_of(one.diaSourceId))
        known = places.setdefault(exposure, [])
        near = (n for n, place in enumerate(known) if math.dist(place, (one.x, one.y)) <= SAME_PX)
        if (which := next(near, None)) is None:
            which = len(known)
            known.append((one.x, one.y))
        found.append((*exposure, which))
    return found


def label_table(records: Sequence[VerdictRecord], nights: NightRange = EVERY_NIGHT) -> pa.Table:
    """Return the last verdict of each user on each detection, without re-checks, by detection and user.

    Parameters
    ----------
    records
        Standing verdicts in order of time.
    nights
        Only these nights.
    """
    judged = zip(judged_detections(records), records, strict=True)
    last = {(what, one.user): one for what, one in judged if not one.blind and one.night in nights}
    rows = []
    for one in sorted(last.values(), key=lambda one: (one.night, one.diaSourceId, one.user)):
        visit, detector = exposure_of(one.diaSourceId)
        rows.append({
            "diaSourceId": one.diaSourceId, "visit": visit, "detector": detector, "x": one.x, "y": one.y,
            "label": str(one.verdict), "user": one.user, "time": datetime.fromisoformat(one.at),
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LABEL.schema)


def export_labels(out: Path, to: Path, nights: NightRange = EVERY_NIGHT) -> int:
    """Write the labels of an output folder to a Parquet file; return their number.

    Raises
    ------
    Misconfigured
        The file name does not end in ``.parquet`` (``other_format``), there is no verdict (``no_verdict``), or the
        file cannot be written.
    Retryable
        The disk is full.
    """
    require_ending(to, "--export", ".parquet", "labels", "labels")
    table = label_table(VerdictStore(out).standing(), nights)
    if not len(table):
        of = f" of {nights}" if nights else ""
        raise Misconfigured("no_verdict", str(out), f"holds no verdict{of}.", "give some: `nightstride vet OUT`.")
    require_folder(to, "--export")
    staged = to.with_name(f".{to.name}.staging")
    try:
        with writing(to):
            pq.write_table(table, staged)
        publish_file(staged, to)
    finally:
        staged.unlink(missing_ok=True)
    return len(table)


@dataclass(frozen=True)
class Agreement:
    """Agreement of two vetters, or of one with their own earlier verdicts.

    Attributes
    ----------
    first, second
        Users; the same for re-checks, with the earlier verdict first.
    table : (k, k)
        Numbers of candidates by both verdicts, in the order of `Verdict`.
    kappa, error
        Cohen's kappa and its standard error; NaN if undefined.
    """

    first: str
    second: str
    table: NDArray[np.int64]
    kappa: float
    error: float

    @property
    def both(self) -> int:
        """Return the number of candidates judged by both."""
        return int(self.table.sum())

    @property
    def agreed(self) -> int:
        """Return the number of candidates on which they agree."""
        return int(np.trace(self.table))

    @property
    def words(self) -> str:
        """Return kappa with its error, or a dash if it is undefined."""
        if math.isnan(self.kappa):
            return "–"
        return (f"{self.kappa:.2f}" + (f" ± {self.error:.2f}" if self.error else "")).replace("-", "−")


def agreements(records: Sequence[VerdictRecord]) -> tuple[list[Agreement], list[Agreement]]:
    """Return the agreement of each pair of vetters with common candidates, and of each vetter with their re-checks.

    A re-check is compared with the last verdict before it.
    """
    last: dict[str, dict[Detection, Verdict]] = {}
    again: dict[str, list[tuple[Verdict, Verdict]]] = {}
    for what, one in zip(judged_detections(records), records, strict=True):
        own = last.setdefault(one.user, {})
        if not one.blind:
            own[what] = one.verdict
        elif what in own:
            again.setdefault(one.user, []).append((own[what], one.verdict))
    between = []
    for first, second in combinations(sorted(last), 2):
        common = sorted(last[first].keys() & last[second].keys())
        if common:
            between.append(_agreement(first, second, [(last[first][one], last[second][one]) for one in common]))
    return between, [_agreement(user, user, pairs) for user, pairs in sorted(again.items())]


def _agreement(first: str, second: str, pairs: Sequence[tuple[Verdict, Verdict]]) -> Agreement:
    place: Mapping[Verdict, int] = {name: n for n, name in enumerate(Verdict)}
    table = np.zeros((len(place), len(place)), np.int64)
    for one, other in pairs:
        table[place[one], place[other]] += 1
    return Agreement(first, second, table, *cohen_kappa(table))
