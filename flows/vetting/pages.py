"""Pages of the server, rendered from templates; all text is escaped."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from flows.results.page.cards import length_words
from flows.results.page.found import ranked_tracklets
from flows.results.page.words import NOTHING, exposed, grade, measured, night_words, number, probability, seen, utc
from flows.vetting.candidate import CandidateContent
from flows.vetting.index import CLASSES, CandidateIndex
from flows.vetting.labels import Agreement
from flows.vetting.pyramid import SIDE, levels
from flows.vetting.selection import PAGE, SORTS, STATES, JudgedRows, Selection
from flows.vetting.stamps import open_tiles
from schemas.errors import BadInput
from schemas.exposure import ExposureKey
from schemas.pixels import MASK
from schemas.vetting import KEYS, Verdict, VerdictRecord


@dataclass(frozen=True)
class ListRow:
    """Row of the list of candidates, in words."""

    id: int
    night: str
    time: str
    band: str
    klass: str
    snr: str
    reliability: str
    grade: str
    magnitude: str
    length: str
    tracklet: str
    known: str
    mine: bool


@dataclass(frozen=True)
class Paging:
    """Position in a list of several pages."""

    page: int
    pages: int
    total: int
    first: int
    last: int


class Pages:
    """Templates of all pages, and what they share.

    Parameters
    ----------
    csrf
        Secret by which a page proves that it is from this server.
    """

    def __init__(self, csrf: str) -> None:
        loaders = [PackageLoader("flows.vetting"), PackageLoader("flows.results.page")]
        self._environment = Environment(
            loader=ChoiceLoader(loaders),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._csrf = csrf

    def _filled(self, name: str, title: str, user: str, **values: Any) -> str:
        template = self._environment.get_template(name)
        return template.render(title=title, user=user, csrf=self._csrf, **values) + "\n"

    def error(self, text: str, status: int) -> str:
        """Return the page for an error."""
        return self._filled("error.html.j2", f"Error {status}", "", text=text, status=status)

    def candidates(
        self, index: CandidateIndex, wanted: Selection, rows: NDArray[np.int64], known: JudgedRows, user: str
    ) -> str:
        """Return a page of the list of candidates."""
        paging = _paging(len(rows), wanted.page)
        shown = [_list_row(index, row, known) for row in rows[paging.first : paging.last].tolist()]
        return self._filled(
            "candidates.html.j2", "Candidates", user,
            rows=shown, wanted=wanted, paging=paging, nights=index.nights, bands=sorted(index.bands), classes=CLASSES,
            sorts=SORTS, states=STATES, damaged=index.damaged, judged=len(known.mine), everything=len(index),
            all_of=_all_of, pageof=lambda page: f"/?{wanted.at(page).query}",
        )  # fmt: skip

    def tracklets(self, index: CandidateIndex, page: int, user: str) -> str:
        """Return a page of the list of tracklets, unknown objects first."""
        order = ranked_tracklets(index.tracklets)
        paging = _paging(len(order), page)
        rows = order.slice(paging.first, paging.last - paging.first).to_pylist()
        for row in rows:
            members = index.members(row["trackletId"])
            row["first"] = int(index.columns["diaSourceId"][members[0]]) if len(members) else None
        return self._filled(
            "tracklets.html.j2", "Tracklets", user, rows=rows, paging=paging, number=number, utc=utc,
            probability=probability, pageof=lambda page: f"/tracklets?page={page}",
        )  # fmt: skip

    def agreement(self, between: Sequence[Agreement], within: Sequence[Agreement], unreadable: int, user: str) -> str:
        """Return the page on the agreement of vetters."""
        groups = (("Between vetters", between), ("With oneself, by blind re-checks", within))
        return self._filled(
            "agreement.html.j2", "Agreement", user, groups=groups, verdicts=tuple(Verdict), unreadable=unreadable
        )

    def candidate(
        self,
        found: CandidateContent,
        wanted: Selection,
        user: str,
        ticket: str,
        said: Sequence[VerdictRecord],
        *,
        part: bool,
    ) -> str:
        """Return the page of a candidate, or only the part that changes between candidates.

        Parameters
        ----------
        found, wanted
            Content, and the selection of the list it was opened from.
        user, ticket
            Vetter, and a token for what their page shows.
        said
            Verdicts that the vetter may see.
        part
            Whether to return only the changing part.
        """
        name = "_candidate.html.j2" if part else "candidate.html.j2"
        mine = [one for one in said if one.user == user and not one.blind]
        return self._filled(
            name, f"Candidate {found.detection.id}", user,
            one=found, wanted=wanted, ticket=ticket, said=said, mine=mine[-1] if mine else None, keys=KEYS,
            night=night_words(found.key.night), pictures=[*found.stamps, *found.visits], data=asdict_ranges,
            probability=probability,
        )  # fmt: skip

    def explanation(self, source_id: int, text: str, user: str) -> str:
        """Return the page with the output of `explain`."""
        return self._filled("explain.html.j2", f"Origin of {source_id}", user, id=source_id, text=text)

    def exposure(
        self, out: Path, index: CandidateIndex, key: ExposureKey, middle: tuple[float, float], user: str
    ) -> str:
        """Return the page of a whole detector.

        Raises
        ------
        BadInput
            Its tiles do not exist (``no_exposure``).
        """
        store = open_tiles(out, key)
        if store is None:
            raise BadInput("no_exposure", key.name, "has no tiles any more.", "run the night again to make them.")
        info, columns = store.info, index.columns
        marks = [
            {
                "id": str(columns["diaSourceId"][row]),
                "x": round(float(columns["x"][row]), 2),
                "y": round(float(columns["y"][row]), 2),
                "length": round(_finite(columns["trailLengthPx"][row]), 1),
                "grade": grade(float(columns["reliability"][row])),
                "text": f"{CLASSES[columns['klass'][row]]}, S/N {number(float(columns['snr'][row]))}, reliability "
                f"{probability(float(columns['reliability'][row]))}",
            }
            for row in index.on_exposure(key).tolist()
        ]
        ny, nx = info.shape
        at = middle if all(math.isfinite(v) and v >= 0 for v in middle) else (-1.0, -1.0)
        planes = [name for name in store.planes if name not in (MASK.name, "variance")]
        return self._filled(
            "exposure.html.j2", f"Exposure {info.name}", user,
            info=info, marks=marks, planes=planes, side=SIDE, levels=levels(info.shape), nx=nx, ny=ny, at=at,
            when=exposed(info), night=night_words(info.night),
        )  # fmt: skip


def asdict_ranges(ranges: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the ranges of a stamp as plain values."""
    return {name: asdict(one) for name, one in ranges.items()}


def _all_of(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("", "all"), *((name, name.replace("_", " ")) for name in names)]


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


def _paging(total: int, page: int) -> Paging:
    pages = max(1, math.ceil(total / PAGE))
    page = min(page, pages)
    return Paging(page, pages, total, (page - 1) * PAGE, min(page * PAGE, total))


def _list_row(index: CandidateIndex, row: int, known: JudgedRows) -> ListRow:
    columns = {name: values[row] for name, values in index.columns.items()}
    tracklet = int(columns["tracklet"])
    return ListRow(
        id=int(columns["diaSourceId"]),
        night=f"{int(columns['night']):08}",
        time=seen(columns)[-8:],
        band=index.bands[columns["band"]],
        klass=CLASSES[columns["klass"]],
        snr=number(float(columns["snr"])),
        reliability=probability(float(columns["reliability"])),
        grade=grade(float(columns["reliability"])),
        magnitude=measured(float(columns["magAB"]), float(columns["magABErr"]), 2),
        length=length_words({name: float(columns[name]) for name in ("trailLengthPx", "trailLengthPxErr")}, ""),
        tracklet=str(tracklet) if tracklet >= 0 else "at rest" if columns["stationary"] else NOTHING,
        known=index.designations[columns["known"]] or NOTHING,
        mine=row in known.mine,
    )
