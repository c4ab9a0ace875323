"""Status of an output folder, night by night."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.pipeline.provenance import night_models, search_models
from flows.results.quality.judge import told
from flows.runtime.words import counted
from flows.storage.bucket_path import BucketPath
from flows.storage.holder import Holder
from flows.storage.layout import catalogs_folder, ledger_folder, require_output
from flows.storage.lease import dead_holder_of, holder_of
from flows.storage.ledger import Brief, Ledger
from flows.storage.night_sums import night_sums
from flows.storage.quarantine import Quarantine, is_gone
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NightstrideError, printable
from schemas.ledger import NightRecord, Percentiles, ProvenanceRecord, QuarantineRecord, WatchRecord
from schemas.night_range import EVERY_NIGHT, NightRange
from schemas.quality import BandQuality
from schemas.settings import AssociationSettings
from schemas.summary import Trouble
from schemas.tracklets import LINK_SOURCE, TRACKLET

UNKNOWN = "unknown"
"""Night of inputs whose night is not known."""


@dataclass(frozen=True)
class NightStatus:
    """Status of one night.

    Attributes
    ----------
    night
        Label; `UNKNOWN` for inputs without a night.
    exposures
        State (done, outdated, quarantined, failed) -> number of exposures. Outdated: the published results are from an
        earlier state, and the attempt to replace them failed.
    detections
        Rows of `dia_source` published.
    lag_s
        Lag from the end of an exposure to its catalogue, s: median and 99th percentile.
    models
        Model and version -> number of exposures searched with it.
    troubles
        Problems with their reasons.
    quality
        Verdicts on its bands.
    tracklets
        Rows of `tracklet` published; None if the night was not linked.
    links
        Rows of `link_source` published; None if the night was not linked with those before it.
    gone
        Quarantined inputs that no longer exist; they are not counted as exposures.
    """

    night: str
    exposures: dict[str, int]
    detections: int
    lag_s: Percentiles | None
    models: dict[str, int]
    troubles: tuple[Trouble, ...]
    quality: tuple[BandQuality, ...] = ()
    tracklets: int | None = None
    links: int | None = None
    gone: tuple[Trouble, ...] = ()


@dataclass(frozen=True)
class Space:
    """Space of a file system: total and free bytes and files; 0 files if the file system does not count them."""

    bytes: int
    bytes_free: int
    files: int
    files_free: int

    def __str__(self) -> str:
        said = f"{self.bytes_free / 2**30:,.1f} of {self.bytes / 2**30:,.1f} GiB free"
        return said if not self.files else f"{said}, {self.files_free:,} of {counted(self.files, 'file')}"


@dataclass(frozen=True)
class Status:
    """Status of an output folder: its nights, its holder, and its stream, if any.

    ``space`` is that of its file system; None in a bucket. ``dead`` held the folder and ended without releasing it,
    because it was killed or did not stop in time; the next run does the rest. ``unreadable`` are nights whose records
    are damaged or missing. ``notes`` report that objects were first matched with other settings; they are not errors.
    """

    nights: tuple[NightStatus, ...]
    holder: Holder | None
    watch: WatchRecord | None
    space: Space | None = None
    dead: Holder | None = None
    unreadable: tuple[Trouble, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Return 2 if a night cannot be read, 1 if work is left or the last run did not end, else 0."""
        return 2 if self.unreadable else int(self.dead is not None or any(one.troubles for one in self.nights))

    def values(self) -> dict[str, Any]:
        """Return everything as JSON-serialisable values."""
        nights = [
            {**asdict(one), "lag_s": _values(one.lag_s)}
            | {name: list(map(_values, getattr(one, name))) for name in ("troubles", "quality", "gone")}
            for one in self.nights
        ]
        known = {name: _values(getattr(self, name)) for name in ("holder", "dead", "watch")}
        known["space"] = None if self.space is None else asdict(self.space)
        unreadable = {"unreadable": list(map(_values, self.unreadable))} if self.unreadable else {}
        return {"nights": nights, **known, **unreadable, "notes": list(self.notes)}


def read_status(out: Path, nights: NightRange = EVERY_NIGHT) -> Status:
    """Return the status of an output folder. Nothing is changed, and no catalogue is opened.

    Parameters
    ----------
    out
        Output folder.
    nights
        Range of nights; inputs without a known night are included only for every night.

    Raises
    ------
    Misconfigured
        ``out`` is not an output folder, holds none of these nights, was written by another version, or none of these
        nights can be read.
    """
    require_output(out)
    ledger, found, unreadable = Ledger(out), list[NightStatus](), list[Trouble]()
    held = set(ledger.nights())
    unusable: dict[str, list[QuarantineRecord]] = {}
    for one in Quarantine(out).list():
        unusable.setdefault(one.key.night if one.key else UNKNOWN, []).append(one)
    holder, dead = holder_of(out), dead_holder_of(out)
    # A run publishes catalogues before their records, and makes the datasets of whole nights last.
    ended = holder is None and dead is None
    searched = _searched(out) if ended else {}
    lost = {night for night, folder in searched.items() if night not in held and any(folder.iterdir())}
    labels = [one for one in nights.among(held | unusable.keys() | lost, str(out)) if one not in lost - unusable.keys()]
    known: dict[str | None, ProvenanceRecord | None] = {}
    for label in labels:
        try:
            found.append(_of(label, unusable.get(label, ()), ledger, known, label in searched))
        except Misconfigured as error:  # its file is damaged: the others are reported
            if error.code != "damaged_ledger" or len(unreadable) == len(labels) - 1:
                raise
            unreadable.append(Trouble.of(f"night {label}", error))
    unreadable += [_lost(out, label) for label in sorted(lost) if label in nights]
    watched = _watched(ledger.watch(), holder)
    changed = _settings_changed(out, nights) if ended else ()
    return Status(tuple(found), holder, watched, _space(out), dead, tuple(unreadable), changed)


def _unfinished(night: str, exposures: int, published: str, whole: NightRecord | None) -> Iterator[Trouble]:
    """Yield a trouble if the published exposures of a night differ from those of its tracklets and objects."""
    count, made_from = (whole.exposures, whole.made_from) if whole is not None else (0, "")
    known = "" not in (made_from, published)
    if count == exposures and (made_from == published or not known):
        return
    problem = f"has {counted(exposures, 'published exposure')}, but its tracklets and objects were made from {count}."
    if count == exposures:
        problem = "has exposures that were searched again after its tracklets and objects were made."
    remedy = "run it again, to its end: `nightstride run` with its images."
    yield Trouble.of(f"night {night}", BadInput("unfinished_night", f"night {night}", problem, remedy))


def _settings_changed(out: Path, nights: NightRange) -> tuple[str, ...]:
    """Return the settings, other than the current ones, with which the store of an output folder matched objects.

    The result is empty if the store cannot be read; `verify` reports its errors.
    """
    from flows.storage.association_store import association_as_it_is

    with suppress(NightstrideError), association_as_it_is(out, AssociationSettings()) as store:
        return () if store is None else tuple(str(one) for one in store.setting_changes() if one.night in nights)
    return ()


def _searched(out: Path) -> dict[str, Path]:
    """Return the folder of detections of each night that has one, without the folders of alert packets."""
    folders = (catalogs_folder(out) / DIA_SOURCE.name).glob("night=*")
    return {folder.name.removeprefix("night="): folder for folder in folders}


def _lost(out: Path, night: str) -> Trouble:
    problem = f"has catalogues, and no record in the ledger, {ledger_folder(out)}."
    remedy = "put the ledger back from a backup, or search the night again: `nightstride run`."
    return Trouble.of(f"night {night}", BadInput("lost_ledger", f"night {night}", problem, remedy))


def _watched(watch: WatchRecord | None, holder: Holder | None) -> WatchRecord | None:
    """Return the state of the last stream, which was killed if it has not ended and does not hold the folder."""
    if watch is None or watch.state == "ended":
        return watch
    return watch if _is_of(watch, holder) else watch.model_copy(update={"state": "killed"})


def _is_of(watch: WatchRecord, holder: Holder | None) -> bool:
    return holder is not None and (holder.host, holder.pid) == (watch.host, watch.pid)


def _gave_up(dead: Holder, watch: WatchRecord | None) -> bool:
    """Return whether the holder that did not release the folder is a stream that recorded its remaining work."""
    return watch is not None and watch.state == "ended" and watch.on_the_way + watch.waiting > 0 and _is_of(watch, dead)


def _space(out: Path) -> Space | None:
    if isinstance(out, BucketPath):
        return None
    found = os.statvfs(out)
    return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail)


def _of(
    night: str,
    unusable: Sequence[QuarantineRecord],
    ledger: Ledger,
    known: dict[str | None, ProvenanceRecord | None],
    searched: bool,
) -> NightStatus:
    sums = night_sums(ledger, night)
    troubled = list(ledger.troubled(night)) if sums.states.keys() - {"done"} else []
    recorded = {record.source_uri for record in troubled if record.status == "quarantined"}
    rest = [one for one in unusable if one.source_uri not in recorded]
    states = Counter(sums.states)
    states["quarantined"] += len(rest)
    quality, whole = ledger.quality(night), ledger.night(night)
    told = [(_trouble(record), record.status == "quarantined") for record in troubled]
    told += [(Trouble(uri=one.source_uri, code=one.code, message=_words(one)), True) for one in rest]
    gone = [one for one, put_away in told if put_away and is_gone(one.uri, one.code)]
    states["quarantined"] -= len(gone)
    troubles = [one for one, _ in told if one not in gone]
    troubles += whole.failed if whole is not None else ()
    if searched:
        troubles += _unfinished(night, states["done"] + states["outdated"], sums.published, whole)
    models = Counter[str]()
    for provenance, exposures in sums.searched.items():
        models.update(dict.fromkeys(_models(provenance or None, ledger, known), exposures))
    linked = {} if whole is None else {name: entry.rows for name, entry in whole.datasets.items()}
    return NightStatus(
        night,
        {state: count for state, count in sorted(states.items()) if count},
        sums.detections,
        sums.lag_s,
        dict(models) | _of_night(whole, ledger),
        tuple(troubles),
        quality.judged if quality is not None else (),
        linked.get(TRACKLET.name),
        linked.get(LINK_SOURCE.name),
        tuple(gone),
    )


def _words(put: QuarantineRecord) -> str:
    return f"{put.where}: {put.problem} To fix, {put.remedy}"


def _models(provenance: str | None, ledger: Ledger, known: dict[str | None, ProvenanceRecord | None]) -> list[str]:
    if provenance not in known:
        known[provenance] = ledger.provenance(provenance)
    made = known[provenance]
    if made is None:
        return ["not recorded"]
    return [f"{name}: {card.name} {card.version}" for name, card in search_models(made).items()]


def _of_night(record: NightRecord | None, ledger: Ledger) -> dict[str, int]:
    """Return the models of the night-level stages that ran, each with the number of exposures of its night."""
    if record is None:
        return {}
    cards = night_models(record, ledger.provenance(record.provenance))
    return {f"{name}: {card.name} {card.version}": record.exposures for name, card in cards.items()}


def _trouble(record: Brief) -> Trouble:
    code, _, message = (record.reason or "").partition(": ")
    return Trouble(uri=record.source_uri, code=code, message=message)


def _values(model: Any) -> Any:
    return None if model is None else model.model_dump(mode="json")


STATES = ("done", "outdated", "quarantined", "failed")
MOST = 20
"""Maximum number of troubles of a night, and of missing files, that are listed; the rest are counted."""

WIDTH = 80
"""Least width of the table, characters: in narrower terminals, or with ``COLUMNS=0``, its cells would be empty."""

LIVE_S = 7 * 86400.0
"""Delay, s: exposures of which half became catalogues later than this after their shutter closed are an archive."""


def show_status(status: Status, console: Console) -> None:
    """Print a table of the nights, the problems, and the active run."""
    table = Table("night", *STATES, "detections", "lag p50 / p99")
    for column in table.columns[1:6]:
        column.justify = "right"
    for one in status.nights:
        counts = (str(one.exposures.get(state, 0)) for state in STATES)
        table.add_row(one.night, *counts, f"{one.detections:,}", _lag(one.lag_s))
    console.width = max(console.width, WIDTH)
    console.print(table)
    for one in status.nights:
        for model, count in one.models.items():
            _say(f"{one.night} {model}: {counted(count, 'exposure')}", console)
        if one.tracklets is not None:
            _say(f"{one.night} tracklets: {one.tracklets:,}", console)
        if one.links is not None:
            _say(f"{one.night} links over nights: {counted(one.links, 'detection')}", console)
        for band in one.quality:
            _say(f"{one.night} quality of {band.instrument} {band.band}: {band.verdict.replace('_', ' ')}", console)
            for line in (*band.notes, *told(band)):
                _say(f"{one.night} {band.band} {line}", console)
        _list(one.night, [f"{trouble.code}: {trouble.message}" for trouble in one.troubles], console)
        gone = "gone: {} was quarantined ({}), and is not there any more; `nightstride prune` forgets it"
        _list(one.night, [gone.format(trouble.uri, trouble.code) for trouble in one.gone], console)
    for trouble in status.unreadable:
        _say(f"{trouble.uri}: {trouble.message}", console)
    for note in status.notes:
        _say(f"note: {note}.", console)
    if status.dead is not None:
        who = f"process {status.dead.pid} on {status.dead.host}, since {status.dead.since}"
        why = "gave up what was on its way" if _gave_up(status.dead, status.watch) else "was killed"
        _say(f"the last run did not end: {who}, {why}; run again: the next one does the rest", console)
    if status.holder is not None:
        _say(f"held by process {status.holder.pid} on {status.holder.host}, since {status.holder.since}", console)
    if status.space is not None:
        _say(str(status.space), console)
    if status.watch is not None:
        _say(_stream(status.watch), console)


def _stream(watch: WatchRecord) -> str:
    counts = watch.exposures
    killed = watch.state == "killed"
    told = "does not run any more; it was killed, and last seen" if killed else watch.state
    numbers = ((watch.on_the_way, "in progress"), (watch.waiting, "waiting"))
    left = [f"{number:,} {name}" for number, name in numbers if number]
    return (
        f"watch of {watch.source}: {told} at {watch.updated_at}; {', '.join(left) or 'nothing waiting'}; "
        f"{counts.done} done, {counts.skipped} skipped, {counts.quarantined} quarantined, {counts.failed} failed; "
        f"from shutter close {_lag(watch.lag_s)}, from arrival {_percentiles(watch.turnaround_s)}"
    )


def _lag(lag: Percentiles | None) -> str:
    """Return the time from the end of an exposure to its catalogue; for an archive it does not measure our speed."""
    return "archive" if lag is not None and lag.p50 > LIVE_S else _percentiles(lag)


def _percentiles(found: Percentiles | None) -> str:
    return "-" if found is None else f"{_duration(found.p50)} / {_duration(found.p99)}"


def _duration(seconds: float) -> str:
    """Return a duration as text in a suitable unit."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _list(night: str, lines: Sequence[str], console: Console) -> None:
    for line in lines[:MOST]:
        _say(f"{night} {line}", console)
    if len(lines) > MOST:
        _say(f"{night}: {len(lines) - MOST} more, see --json", console)


def _say(text: str, console: Console) -> None:
    console.print(printable(text), highlight=False, markup=False, soft_wrap=True)
