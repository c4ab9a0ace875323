"""Night page: one HTML file that needs nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.results.evaluation.evaluate import Truth
from flows.results.evaluation.recovery import read_recoveries
from flows.results.motion import read_motion
from flows.results.page.completeness import Completeness, Recovered, completeness_of, recovered
from flows.results.page.detection import MotionNote
from flows.results.page.galaxies import NightGalaxies, galaxies_of
from flows.results.page.night import Exposure, PublishedNight, read_night
from flows.results.page.objects import Objects, objects_of
from flows.results.page.panel import Panel, panel, share_cutouts
from flows.results.page.quality import Band, quality_of
from flows.results.page.tables import (
    HEADINGS,
    CauseRow,
    Counts,
    ExposureRow,
    Timing,
    TroubleRow,
    assumed_notes,
    cause_rows,
    counts,
    exposure_row,
    figures,
    lead,
    length_histogram,
    snr_histogram,
    timing,
    troubles,
)
from flows.results.page.tracklets import Tracklets, motion_notes, tracklets_of
from flows.results.page.words import GRADES, Figure, count, duration, night_words
from flows.storage.array_store import room_for
from flows.storage.atomic import write_file
from flows.storage.zarr_tiles import TileStore
from schemas.errors import BadInput
from schemas.recovery import Recovery
from schemas.summary import RunSummary

Found = TypeVar("Found")

_ELAPSED = {"startup": "to start", "search": "to search", "wall": "in all by the clock"}


@dataclass(frozen=True)
class Limits:
    """Limits that keep the page below 25 MB, however large the night.

    Attributes
    ----------
    panels
        Exposures shown in pictures.
    cutouts_each, cutouts
        Cutouts of one exposure, and of the page.
    rows
        Lines of the tables of exposures and tracklets, and of the list of troubles.
    """

    panels: int = 24
    cutouts_each: int = 24
    cutouts: int = 240
    rows: int = 1000


LIMITS = Limits()


@dataclass(frozen=True)
class Content:
    """Content of the template `night.html.j2`: text only, except for SVG and pictures."""

    title: str
    lead: tuple[str, ...]
    made_at: str
    figures: tuple[Figure, ...]
    counts: Counts | None
    notes: tuple[str, ...]
    quality: tuple[Band, ...]
    histograms: tuple[tuple[str, str], ...]
    tracklets: Tracklets | None
    causes: tuple[CauseRow, ...]
    recovery: Recovered | None
    truth: Completeness | None
    objects: Objects | None
    galaxies: NightGalaxies | None
    pictured: str
    panels: tuple[Panel, ...]
    timing: Timing | None
    elapsed: str
    rows: tuple[ExposureRow, ...]
    rows_left_out: str
    troubles: tuple[TroubleRow, ...]
    troubles_left_out: str
    colophon: str
    headings: tuple[tuple[str, str], ...] = HEADINGS
    grades: tuple[tuple[str, str], ...] = tuple((letter, words) for letter, _, words in GRADES)

    @property
    def panel_names(self) -> frozenset[str]:
        """Return the names of the exposures that have a panel."""
        return frozenset(panel.name for panel in self.panels)

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        """Return anchor and name of each section that is there."""
        there = (
            ("summary", "Summary", True),
            ("quality", "Quality", self.quality),
            ("detections", "Detections", self.histograms),
            ("tracklets", "Tracklets", self.tracklets),
            ("causes", "Vetoes", self.causes),
            ("depth", "Depth", self.recovery),
            ("truth", "Truth", self.truth),
            ("objects", "Objects", self.objects),
            ("galaxies", "Galaxies", self.galaxies),
            ("exposures", "Pictures", True),
            ("timing", "Time", self.timing),
            ("table", "Table", self.rows),
            ("troubles", "Not searched", self.troubles),
        )
        return tuple((anchor, name) for anchor, name, present in there if present)


def write_report(
    out: Path,
    night: str,
    summary: RunSummary | None = None,
    truth: Truth | None = None,
) -> Path:
    """Write ``OUT/reports/<night>/index.html``.

    Parameters
    ----------
    out
        Output folder of a run.
    night
        Label of the night, YYYYMMDD.
    summary
        Of the run that asks for the page; None if the page is made afterwards.
    truth
        What was put into the exposures; None if that is not known.

    Returns
    -------
    Path
        The page. The same night gives the same bytes.

    Raises
    ------
    Misconfigured
        Something in ``out`` was written by a later version, or the page cannot be written.
    Retryable
        The disk is full.
    """
    path = out / "reports" / night / "index.html"
    page = content(out, read_night(out, night, summary), LIMITS, truth)
    write_file(path, render_page(page).encode(), out / "staging")
    return path


def render_page(page: Content) -> str:
    """Fill in the template; text is escaped, pictures and charts go in as they are."""
    style = Markup(_environment().get_template("night.css").render())
    return _environment().get_template("night.html.j2").render(page=page, style=style) + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("flows.results.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def warm_up() -> None:
    """Compile the templates, which takes as long as drawing a page of one exposure."""
    for name in _environment().list_templates():
        _environment().get_template(name)


def content(out: Path, night: PublishedNight, limits: Limits, truth: Truth | None) -> Content:
    """Gather and draw what the page of ``night`` shows; tiles are read from ``out``."""
    stores = {exposure.record.key.name: _store(out, exposure) for exposure in _described(night, limits)}
    infos = {name: store.info for name, store in stores.items() if store is not None}
    listed, trouble = night.exposures[: limits.rows], troubles(night)
    motion, unread = _readable(lambda: read_motion(out, night.label))
    objects, damage = _readable(lambda: objects_of(out, night.label))
    galaxies, lost = _readable(lambda: galaxies_of(out, night.label))
    chosen = _chosen(night, limits)
    notes = motion_notes(motion, [exposure.sources["diaSourceId"] for exposure in chosen], limits.rows)
    panels = _panels(out, chosen, stores, limits, notes)
    cutouts = [cutout for panel in panels for cutout in panel.cutouts]
    return Content(
        title=night_words(night.label),
        lead=lead(night, tuple(infos.values())),
        made_at=f"As of {night.made_at[:19].replace('T', ' ')} UTC" if night.made_at else "",
        figures=figures(night, tuple(infos.values())),
        counts=counts(night.summary.exposures) if night.summary else None,
        notes=assumed_notes(tuple(infos.values())) + _notes(night) + unread + damage + lost,
        quality=quality_of(out, night.label),
        histograms=_histograms(night),
        tracklets=tracklets_of(motion, cutouts, limits.rows),
        causes=cause_rows(night),
        recovery=recovered(_recoveries(out, night), limits.rows),
        truth=None if truth is None else completeness_of(out, night, truth),
        objects=objects,
        galaxies=galaxies,
        pictured=_pictured(panels, night),
        panels=panels,
        timing=timing(_worker_seconds(night)),
        elapsed=_elapsed(night),
        rows=tuple(exposure_row(exposure, infos.get(exposure.record.key.name)) for exposure in listed),
        rows_left_out=_left_out(len(listed), len(night.exposures), "exposures, by visit and detector"),
        troubles=trouble[: limits.rows],
        troubles_left_out=_left_out(min(limits.rows, len(trouble)), len(trouble), "inputs"),
        colophon=_colophon(night),
    )


def _readable(read: Callable[[], Found]) -> tuple[Found | None, tuple[str, ...]]:
    """Return what is read of catalogues of the night, or what is wrong with them."""
    try:
        return read(), ()
    except BadInput as error:
        return None, (str(error),)


def _recoveries(out: Path, night: PublishedNight) -> tuple[Recovery, ...]:
    """Return the recoveries from the summary of the run, if it has just made them, else from the catalogues."""
    if night.summary is not None:
        return tuple(one for one in night.summary.injection if one.night == night.label)
    return read_recoveries(out, night.label)


def _chosen(night: PublishedNight, limits: Limits) -> list[Exposure]:
    """Return the exposures to picture, those with the most expected real detections, in the night's own order."""
    ranked = sorted(night.exposures, key=lambda exposure: -exposure.interest)  # stable: ties by visit and detector
    names = {exposure.record.key.name for exposure in ranked[: limits.panels]}
    return [exposure for exposure in night.exposures if exposure.record.key.name in names]


def _described(night: PublishedNight, limits: Limits) -> list[Exposure]:
    """Return the exposures whose metadata are read: those of the table, those in pictures, and the last one."""
    return [*night.exposures[: limits.rows], *_chosen(night, limits), *night.exposures[-1:]]


def _store(out: Path, exposure: Exposure) -> TileStore | None:
    record = exposure.record
    try:
        return TileStore.open(out / "tiles" / record.night / f"{record.key.name}.zarr")
    except BadInput:  # tiles may be pruned, the catalogue stays
        return None


def _panels(
    out: Path,
    chosen: Sequence[Exposure],
    stores: Mapping[str, TileStore | None],
    limits: Limits,
    motions: Mapping[int, MotionNote],
) -> tuple[Panel, ...]:
    shares = share_cutouts([len(exposure.sources) for exposure in chosen], limits.cutouts_each, limits.cutouts)
    drawn = []
    for exposure, share in zip(chosen, shares, strict=True):
        store = stores[exposure.record.key.name]
        if store is None:
            continue
        with room_for(store.info.shape, out) as allocate:
            try:
                difference, mask = (store.read_all(name, allocate) for name in ("difference", "mask"))
                drawn.append(panel(exposure, store.info, difference, mask, share, motions))
            except BadInput:
                continue
    return tuple(drawn)


def _histograms(night: PublishedNight) -> tuple[tuple[str, str], ...]:
    sources = night.sources
    if not len(sources):
        return ()
    reliability = sources["reliability"].to_numpy()
    return (
        ("Signal to noise", snr_histogram(sources["snr"].to_numpy(), reliability)),
        ("Trail length", length_histogram(sources["trailLengthPx"].to_numpy(), reliability)),
    )


def _pictured(panels: Sequence[Panel], night: PublishedNight) -> str:
    published = len(night.exposures)
    if not published:
        return "There is no exposure to show."
    if len(panels) == published:
        return f"All {count(published, 'exposure')}, by visit and detector." if published > 1 else "The one exposure."
    return (
        f"{count(len(panels))} of {count(published, 'exposure')}: those whose detections have the largest sum of "
        "reliabilities and whose tiles are there. The catalogue holds the detections of all."
    )


def _notes(night: PublishedNight) -> tuple[str, ...]:
    if night.summary is None:
        return night.damaged
    not_run = tuple(f"Stage {stage} was not run: {reason}" for stage, reason in night.summary.not_run.items())
    return (*night.damaged, *not_run, *night.summary.warnings)


def _worker_seconds(night: PublishedNight) -> Mapping[str, float]:
    """Return worker time from the summary, with waiting, if the run made the whole night; else from the records."""
    summary = night.summary
    if summary is not None and summary.nights == (night.label,) and summary.exposures.done == len(night.exposures):
        return summary.worker_seconds
    return night.seconds


def _elapsed(night: PublishedNight) -> str:
    seconds = night.summary.seconds if night.summary else {}
    told = [f"{duration(seconds[key])} {words}" for key, words in _ELAPSED.items() if key in seconds]
    return ", ".join(told)


def _left_out(shown: int, present: int, what: str) -> str:
    return "" if shown == present else f"The first {count(shown)} of {count(present)} {what}."


def _colophon(night: PublishedNight) -> str:
    versions = sorted({f"nightstride {exposure.record.software}" for exposure in night.exposures})
    models = sorted({str(version) for version in night.reliability_versions})
    told = ", ".join(versions) or "nightstride"
    return f"Made by {told}" + (f"; reliability from {', '.join(models)}." if models else ".")
