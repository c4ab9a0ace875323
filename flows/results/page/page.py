"""Night page: one self-contained HTML file, and lists beside it if it cannot hold everything."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.results.evaluation.evaluate import Truth
from flows.results.evaluation.recovery import read_recoveries
from flows.results.motion import read_motion
from flows.results.page.cards import LIMITS, LINE_HEADINGS, LIST_HEADINGS, DrawnList, Limits, ListPart, list_pages
from flows.results.page.completeness import Completeness, Recovered, completeness_of, recovered
from flows.results.page.curves import NightCurves, curves_of
from flows.results.page.detection import detections
from flows.results.page.found import (
    AT_REST,
    LINK_HEADINGS,
    FoundNight,
    NightLinks,
    found_in,
    found_words,
    links_of,
    read_on_stars,
)
from flows.results.page.night import Exposure, PublishedNight, read_night
from flows.results.page.objects import NightGalaxies, Objects, galaxies_of, objects_of
from flows.results.page.panel import Panel, panel
from flows.results.page.tables import (
    HEADINGS,
    Band,
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
    headline,
    lead,
    length_histogram,
    quality_of,
    snr_histogram,
    timing,
    troubles,
)
from flows.results.page.words import GRADES, NOTHING, Figure, Told, count, duration, idle_words, night_words
from flows.results.quality.measure import spread
from flows.storage.array_store import room_for
from flows.storage.atomic import remove, write_file
from flows.storage.layout import page_path, staging_folder, tile_path
from flows.storage.zarr_tiles import TileStore, read_info
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureInfo
from schemas.recovery import Recovery
from schemas.settings import AssociationSettings
from schemas.summary import RunSummary

Found = TypeVar("Found")

_ASSOCIATION = AssociationSettings()
_ELAPSED = {"startup": "to start", "search": "to search", "wall": "in all by the clock"}


@dataclass(frozen=True)
class Content:
    """Content of the template `night.html.j2`: text only, except for SVG and pictures."""

    title: str
    night_assumed: str
    lead: tuple[str, ...]
    made_at: str
    headline: tuple[Told, ...]
    look: str
    besides: str
    notes: tuple[str, ...]
    troubles: tuple[TroubleRow, ...]
    troubles_left_out: str
    parts: tuple[ListPart, ...]
    pictured: str
    panels: tuple[Panel, ...]
    links: NightLinks | None
    recovery: Recovered | None
    truth: Completeness | None
    objects: Objects | None
    galaxies: NightGalaxies | None
    curves: NightCurves | None
    histograms: tuple[tuple[str, str], ...]
    causes: tuple[CauseRow, ...]
    rows: tuple[ExposureRow, ...]
    rows_left_out: str
    quality: tuple[Band, ...]
    figures: tuple[Figure, ...]
    counts: Counts | None
    timing: Timing | None
    elapsed: str
    not_run: tuple[str, ...]
    colophon: str
    lists: int = 0
    headings: tuple[tuple[str, str], ...] = HEADINGS
    line_headings: tuple[str, ...] = LINE_HEADINGS
    link_headings: tuple[str, ...] = LINK_HEADINGS
    grades: tuple[tuple[str, str], ...] = tuple((letter, words) for letter, _, words in GRADES)

    @property
    def panel_names(self) -> frozenset[str]:
        """Return the names of the exposures with a panel."""
        return frozenset(panel.name for panel in self.panels)

    @property
    def cards(self) -> frozenset[str]:
        """Return the anchors of the cards."""
        return frozenset(one.anchor for part in self.parts for one in part.cards)

    @property
    def has_history(self) -> bool:
        """Return whether the quality of the night was compared with earlier nights, or is insufficient."""
        return bool(self.bad) or any(line.cells[3] != NOTHING for band in self.quality for line in band.gates)

    @property
    def bad(self) -> tuple[tuple[Band, str, str, str], ...]:
        """Return band, verdict, problem and remedy for each quality problem of the night."""
        lines = ((band, line) for band in self.quality for line in (*band.gates, *band.drifts))
        return tuple((band, line.verdict, line.problem, line.remedy) for band, line in lines if line.problem)

    @property
    def problems(self) -> bool:
        """Return whether there are any problems."""
        return bool(self.notes or self.troubles or self.bad)

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        """Return anchor and name of each section on the page."""
        there = (
            ("problems", "Problems", self.problems),
            ("found", "Found", self.parts),
            ("exposures", "Pictures", self.panels),
            ("links", "Links", self.links),
            ("depth", "Depth", self.recovery),
            ("truth", "Truth", self.truth),
            ("objects", "Objects", self.objects),
            ("galaxies", "Galaxies", self.galaxies),
            ("curves", "Light curves", self.curves),
            ("detections", "Detections", self.histograms),
            ("causes", "Vetoes", self.causes),
            ("table", "Exposures", self.rows),
            ("quality", "Quality", self.quality),
            ("timing", "Numbers", self.rows or self.counts),
        )
        return tuple((anchor, name) for anchor, name, present in there if present)


def write_report(
    out: Path,
    night: str,
    summary: RunSummary | None = None,
    truth: Truth | None = None,
    limits: Limits = LIMITS,
    association: AssociationSettings = _ASSOCIATION,
) -> Path:
    """Write ``OUT/reports/<night>/index.html``, and ``pages/0001.html``, ... beside it if it cannot hold everything.

    Parameters
    ----------
    out
        Output folder of a run.
    night
        Label of the night, YYYYMMDD.
    summary
        Summary of the run that requests the page; None if the page is made later.
    truth
        Objects that were drawn into the exposures; None if not known.
    limits
        Limits for the page.
    association
        Settings with the store of objects' detections in other nights.

    Returns
    -------
    Path
        Path of the page. The same night gives the same bytes.

    Raises
    ------
    Misconfigured
        A file in ``out`` was written by a later version, or the page cannot be written.
    Retryable
        The disk is full.
    """
    path = page_path(out, night)
    drawing = Drawing(out, read_night(out, night, summary), limits, association)
    page = drawing.content(truth)
    folder, written = path.parent / "pages", set[str]()
    for name, text in drawing.lists(page) if page.lists else ():
        write_file(folder / name, text.encode(), staging_folder(out))
        written.add(name)
    write_file(path, render_page(page).encode(), staging_folder(out))
    if folder.is_dir():
        for stale in sorted(one for one in folder.iterdir() if one.name not in written) if written else [folder]:
            remove(stale)
    return path


def render_page(page: Content) -> str:
    """Fill in the template; text is escaped, pictures and charts are not."""
    return _filled("night.html.j2", page=page)


def _filled(name: str, **values: object) -> str:
    style = Markup(_environment().get_template("night.css").render())
    return _environment().get_template(name).render(style=style, **values) + "\n"


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
    """Import what a page needs, and compile the templates: this takes as long as drawing a page of one exposure."""
    import pyarrow.acero  # noqa: F401
    from PIL import Image

    Image.preinit()
    for name in _environment().list_templates():
        _environment().get_template(name)


@dataclass(frozen=True)
class Drawing:
    """Drawing of a night, for which each input is read once.

    Attributes
    ----------
    out
        Output folder, with the tiles.
    night, limits
        Night, and limits for its page.
    association
        As in `write_report`.
    """

    out: Path
    night: PublishedNight
    limits: Limits
    association: AssociationSettings = _ASSOCIATION

    @cached_property
    def _damage(self) -> list[str]:
        """Return the errors of reading so far."""
        return []

    def _readable(self, read: Callable[[], Found]) -> Found | None:
        """Return what is read from catalogues of the night; None, with a note, if they are damaged."""
        try:
            return read()
        except BadInput as error:
            self._damage.append(str(error))
            return None

    def _curves(self) -> NightCurves | None:
        """Return the light curves; None, with a note, if the store of the association does not answer."""
        try:
            return self._readable(lambda: curves_of(self.out, self.night.label, self.association))
        except (Misconfigured, Retryable) as error:
            self._damage.append(str(error))
            return None

    @cached_property
    def found(self) -> FoundNight:
        """Return the finds, ranked."""
        label = self.night.label
        motion = self._readable(lambda: read_motion(self.out, label))
        on_stars = self._readable(lambda: read_on_stars(self.out, label, self.night.sources)) or ()
        return found_in(self.night.sources, self.night.known, motion, on_stars, compared=self.night.compared)

    @cached_property
    def _stores(self) -> dict[int, TileStore | None]:
        return {}

    def _store(self, exposure: int) -> TileStore | None:
        """Return the tiles of an exposure, opened once; None if they were removed or are damaged."""
        if exposure not in self._stores:
            self._stores[exposure] = None
            with suppress(BadInput):
                path = tile_path(self.out, self.night.exposures[exposure].record.key)
                self._stores[exposure] = TileStore.open(path)
        return self._stores[exposure]

    @cached_property
    def infos(self) -> dict[str, ExposureInfo]:
        """Return the metadata of exposures by name; for a very large night, of many spread over it."""
        looked = {one.record.name: one for one in (*spread(self.night.exposures), *self._listed)}
        infos = {}
        for name, exposure in looked.items():
            with suppress(BadInput):  # tiles may have been removed, but the catalogue remains
                infos[name] = read_info(tile_path(self.out, exposure.record.key))
        return infos

    @property
    def _listed(self) -> tuple[Exposure, ...]:
        return self.night.exposures[: self.limits.rows]

    @cached_property
    def list(self) -> DrawnList:
        """Return the list of finds, as shown on the page."""
        return DrawnList(self.found, self.night.exposures, self._store, self.limits)

    def lists(self, page: Content) -> Iterator[tuple[str, str]]:
        """Yield name and text of each page of the lists."""
        for one in list_pages(self.found, self.night.exposures, self.list.shown):
            text = _filled("list.html.j2", page=page, list=one, headings=LIST_HEADINGS)
            yield f"{one.number:04d}.html", text

    def panels(self) -> tuple[Panel, ...]:
        """Return the overviews of the exposures whose detections are first in the list, in the order of the night."""
        interesting = self.found.table.filter(self.found.kinds < AT_REST)["exposure"].unique().to_pylist()
        order = dict.fromkeys([*interesting, *range(len(self.night.exposures))])
        chosen = sorted([one for one in order if self._store(one) is not None][: self.limits.panels])
        drawn_panels = []
        for exposure in chosen:
            with suppress(BadInput):
                drawn_panels.append(self._panel(exposure, len(chosen)))
        return tuple(drawn_panels)

    def _panel(self, exposure: int, of: int) -> Panel:
        store = self._store(exposure)
        assert store is not None
        found = detections(self.night.sources_of(exposure), self.found.places(exposure, self.list.shown))
        with room_for(store.info.shape, self.out) as allocate:
            difference, mask = (store.read_all(name, allocate) for name in ("difference", "mask"))
            return panel(store.info, difference, mask, found, of)

    def content(self, truth: Truth | None) -> Content:
        """Collect and draw the contents of the page."""
        out, night, limits = self.out, self.night, self.limits
        infos, trouble, panels, parts = tuple(self.infos.values()), troubles(night), self.panels(), self.list.parts()
        objects = self._readable(lambda: objects_of(out, night.label))
        galaxies = self._readable(lambda: galaxies_of(out, night.label))
        links = self._readable(lambda: links_of(out, night.label, limits.rows))
        curves = self._curves()
        look, besides = found_words(self.found)
        if night.exposures and not self.found.table.num_rows and not night.damaged:
            besides = "Nothing was detected."
        warnings = night.summary.warnings if night.summary else ()
        return Content(
            title=night_words(night.label),
            night_assumed=_night_assumed(infos),
            lead=lead(night, infos),
            made_at=f"As of {night.made_at[:19].replace('T', ' ')} UTC" if night.made_at else "",
            headline=headline(night, infos),
            look=look,
            besides=besides,
            notes=(*night.damaged, *self._damage, *assumed_notes(infos, len(night.exposures)), *warnings),
            troubles=trouble[: limits.rows],
            troubles_left_out=_left_out(min(limits.rows, len(trouble)), len(trouble), "inputs"),
            parts=parts,
            pictured=_pictured(panels, night),
            panels=panels,
            links=links,
            recovery=recovered(_recoveries(out, night), limits.rows),
            truth=None if truth is None else completeness_of(out, night, truth),
            objects=objects,
            galaxies=galaxies,
            curves=curves,
            histograms=_histograms(night),
            causes=cause_rows(night),
            rows=tuple(exposure_row(exposure, self.infos.get(exposure.record.name)) for exposure in self._listed),
            rows_left_out=_left_out(len(self._listed), len(night.exposures), "exposures, by visit and detector"),
            quality=quality_of(out, night.label),
            figures=figures(night, infos) if night.exposures else (),
            counts=counts(night.summary.exposures) if night.summary else None,
            timing=timing(_worker_seconds(night)),
            elapsed=_elapsed(night),
            not_run=idle_words(night.summary.not_run if night.summary else {}),
            colophon=_colophon(night),
            lists=self.list.pages,
        )


def _night_assumed(infos: Sequence[ExposureInfo]) -> str:
    """Return why the night may be wrong; "" if there is no reason."""
    flags = {flag for info in infos for flag in info.flags}
    return "time not known" if "no_time" in flags else "site assumed" if "assumed_site" in flags else ""


def _recoveries(out: Path, night: PublishedNight) -> tuple[Recovery, ...]:
    """Return the recoveries from the summary of the run, if it has just made them, or else from the catalogues."""
    if night.summary is not None:
        return tuple(one for one in night.summary.injection if one.night == night.label)
    return read_recoveries(out, night.label)


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
    if len(panels) == published:
        return f"All {count(published, 'exposure')}, by visit and detector." if published > 1 else "The one exposure."
    return (
        f"{count(len(panels))} of {count(published, 'exposure')}: those whose detections come first in the list and "
        "whose tiles are there."
    )


def _worker_seconds(night: PublishedNight) -> Mapping[str, float]:
    """Return worker time with waiting from the summary if the run made the whole night; else from the records."""
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
