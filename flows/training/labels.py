"""People's labels from the vetting page, as candidates for the reliability model to learn from."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.runtime.parallel import map_in_processes
from flows.storage.digest import file_digest
from flows.storage.layout import require_output, tile_path
from flows.storage.ledger import Ledger
from flows.storage.object_store import configure, configured
from flows.training.candidates import Labelled, described_candidates
from flows.training.examples import Example
from kernels.statistics.matching import POSITION_TOLERANCE_PX, Targets
from schemas.errors import BadInput, Misconfigured, read_failure
from schemas.exposure import ExposureKey
from schemas.settings import StoreSettings
from schemas.vetting import LABEL, Verdict

BY_VETTERS = 4
"""Label of candidates that people call real, without their kind. Satellites are labelled 2 like simulated ones."""

MOST_REPEATS = 20
"""Largest number of repetitions of a label: more would be memorised."""

_FALSE = (Verdict.BOGUS, Verdict.ARTEFACT)


@dataclass(frozen=True)
class NightLabels:
    """Labels, and output folders with their exposures.

    Attributes
    ----------
    table
        Rows of `schemas.vetting.LABEL`.
    outs
        Output folders with tiles.
    sha256
        SHA-256 of the file of labels.
    """

    table: pa.Table
    outs: tuple[Path, ...]
    sha256: str

    @property
    def summary(self) -> dict[str, object]:
        """Return a summary for a card: numbers of labels by kind, number of people, and digest of the file."""
        users = len(set(self.table["user"].to_pylist()))
        return {"labels": dict(Counter(self.table["label"].to_pylist())), "vetters": users, "sha256": self.sha256}


def read_labels(path: Path, outs: Sequence[Path]) -> NightLabels:
    """Read a file of labels written by ``nightstride vet OUT --export FILE``.

    Raises
    ------
    Misconfigured
        The file cannot be read (``bad_labels``), there is no folder, or one is not an output folder.
    """
    for out in outs:
        require_output(out)
    if not outs:
        raise Misconfigured("no_night_out", str(path), "has labels of nights in no folder.", "give --night-out OUT.")
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        found = pq.read_table(path)
        missing = sorted(set(LABEL.schema.names) - set(found.schema.names))
        if missing:
            raise ValueError(f"it has no columns {missing}")
        table = found.select(LABEL.schema.names).cast(LABEL.schema)
        if unknown := sorted(set(table["label"].to_pylist()) - set(map(str, Verdict))):
            raise ValueError(f"it has labels {unknown}, which are not among {', '.join(Verdict)}")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Misconfigured(
            "bad_labels",
            str(path),
            f"cannot be read as labels: {read_failure(error)}.",
            "write it with `nightstride vet OUT --export`.",
        ) from error
    return NightLabels(table, tuple(outs), file_digest(path))


def labelled_candidates(labels: NightLabels, detector: str, workers: int, say: Callable[[str], None]) -> list[Labelled]:
    """Search the labelled exposures again, and label the candidates found.

    Parameters
    ----------
    labels
        Labels, and output folders.
    detector
        Shipped name or folder.
    workers
        Number of processes.
    say
        Receives the number of usable labels.

    Returns
    -------
    list
        Candidates of each exposure; those without a label, or with a tie of labels, are neither real nor false.

    Raises
    ------
    Misconfigured
        None of the exposures is in the folders (``no_labelled_exposure``), or a store refuses access.
    Retryable
        A store does not answer.
    """
    wanted = _by_exposure(labels)
    if not wanted:
        raise Misconfigured(
            "no_labelled_exposure", "--night-out", "holds none of the exposures of the labels.",
            "name the output folder that was vetted, with its tiles.",
        )  # fmt: skip
    found = map_in_processes(partial(_search, detector, configured()), wanted, workers)
    kept = [one for one in found if one is not None]
    used = sum(int(one.known.sum()) for one in kept)
    said = len(labels.table)
    say(f"{used} candidates of {len(kept)} exposures have labels; {said} labels were given")
    return kept


def repeated(labelled: Sequence[Labelled], others: int, share: float) -> list[Labelled]:
    """Return labelled candidates, repeated until they are a given fraction of all, at most `MOST_REPEATS` times.

    Parameters
    ----------
    labelled
        Candidates labelled by people.
    others
        Number of simulated candidates.
    share
        Fraction of labelled candidates among all, 0 to 1.
    """
    count = sum(int(one.known.sum()) for one in labelled)
    if not count:
        return []
    times = round(share / (1 - share) * others / count)
    only = [_only(one, one.known) for one in labelled]
    return only * min(max(times, 1), MOST_REPEATS)


def _only(one: Labelled, kept: NDArray[np.bool_]) -> Labelled:
    names = ("features", "stamps", "label", "target", "found_snr", "classed")
    return replace(one, **{name: getattr(one, name)[kept] for name in names})


def _by_exposure(labels: NightLabels) -> list[tuple[Path, pa.Table]]:
    """Return the tiles of each available exposure, with its labels."""
    columns = (labels.table[name].to_pylist() for name in ("visit", "detector"))
    rows: dict[tuple[int, int], list[int]] = {}
    for n, key in enumerate(zip(*columns, strict=True)):
        rows.setdefault(key, []).append(n)
    found = []
    for (visit, detector), mine in sorted(rows.items()):
        for out in labels.outs:
            keys = (ExposureKey(night=night, visit=visit, detector=detector) for night in Ledger(out).nights())
            path = next((tile_path(out, key) for key in keys if tile_path(out, key).exists()), None)
            if path is not None:
                found.append((path, labels.table.take(mine)))
                break
    return found


def _search(detector: str, store: StoreSettings, wanted: tuple[Path, pa.Table]) -> Labelled | None:
    path, said = wanted
    configure(store)  # another process only knows the environment
    try:
        described = described_candidates(Example(path, pa.table({})), detector)
    except BadInput:  # flooded, or damaged meanwhile
        return None
    table = described.table
    x, y = (table[name].to_numpy().astype(np.float64) for name in ("x", "y"))
    label = label_places(x, y, said)
    nothing = Targets(np.zeros(0, np.str_), *(np.zeros(0) for _ in range(5)))
    classed = np.array([bool(one) for one in table["trailClass"].to_pylist()], bool)
    stamps, none = described.stamps.astype(np.float16), np.full(len(x), -1, np.int64)
    return Labelled(described.features, stamps, label, none, nothing, np.zeros(0), table["snr"].to_numpy(), classed)


def label_places(x: NDArray[np.float64], y: NDArray[np.float64], said: pa.Table) -> NDArray[np.int64]:
    """Return the label of each candidate from people's labels of positions.

    Parameters
    ----------
    x, y : (n,)
        Positions of candidates, px.
    said
        Rows of `schemas.vetting.LABEL` of the exposure.

    Returns
    -------
    (n,) int64
        0 false, 2 satellite, `BY_VETTERS` real; -1 without a label, or if all are unsure or two labels tie. A label
        goes to the nearest candidate within 3 px.
    """
    votes: dict[int, Counter[int]] = {}
    for row in said.select(["x", "y", "label"]).to_pylist():
        verdict = Verdict(row["label"])
        distance = np.hypot(x - row["x"], y - row["y"])
        if verdict is Verdict.UNSURE or not len(x) or distance.min() > POSITION_TOLERANCE_PX:
            continue
        value = 0 if verdict in _FALSE else 2 if verdict is Verdict.SATELLITE else BY_VETTERS
        votes.setdefault(int(distance.argmin()), Counter())[value] += 1
    label = np.full(len(x), -1, np.int64)
    for place, counts in votes.items():
        (first, most), *rest = counts.most_common()
        if not rest or rest[0][1] < most:
            label[place] = first
    return label
