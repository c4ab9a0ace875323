"""Selection and order of candidates from the parameters of a list's address."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from flows.vetting.index import CLASSES, CandidateIndex
from schemas.errors import BadInput
from schemas.vetting import Verdict, VerdictRecord

SORTS = {
    "interest": "most interesting first",
    "reliability": "reliability",
    "snr": "S/N",
    "length": "length of the trail",
    "magnitude": "magnitude",
    "time": "time",
}
"""Sort orders of a list, in words."""

STATES = {
    "": "any",
    "open": "not judged by me",
    "mine": "judged by me",
    "judged": "judged by anyone",
    "unjudged": "judged by nobody",
    "disputed": "judged by me, vetters disagree",
    **{str(one): f"{one} by anyone, judged by me" for one in Verdict},
}

REVIEWED = STATES.keys() - {"", "open", "judged", "unjudged"}
"""States of candidates that the user has judged: their lists are gone through again, once."""

PAGE = 50
"""Number of rows per page."""

_COLUMNS = {"reliability": "reliability", "snr": "snr", "length": "trailLengthPx", "magnitude": "magAB",
            "time": "midpointMjdTai"}  # fmt: skip
_YES_NO = ("", "yes", "no")


@dataclass(frozen=True)
class Selection:
    """Filters and order, as in the address; an empty string means no filter."""

    night: str = ""
    band: str = ""
    klass: str = ""
    reliability_min: float | None = None
    reliability_max: float | None = None
    snr_min: float | None = None
    snr_max: float | None = None
    linked: str = ""
    known: str = ""
    tracklet: int | None = None
    state: str = ""
    sort: str = "interest"
    ascending: bool = False
    page: int = 1

    @property
    def query(self) -> str:
        """Return the selection as query string, without defaults."""
        given = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return urlencode(
            [(name, int(value) if value is True else value) for name, value in given if value != DEFAULTS[name]]
        )

    def at(self, page: int) -> "Selection":
        """Return the selection with another page."""
        return replace(self, page=page)


DEFAULTS = {field.name: field.default for field in fields(Selection)}


def parse_selection(query: Mapping[str, str]) -> Selection:
    """Return the selection in an address; other parameters are ignored.

    Raises
    ------
    BadInput
        A value is not valid for its field (``bad_filter``).
    """
    values: dict[str, object] = {}
    for field in fields(Selection):
        text = query.get(field.name, "").strip()
        if not text:
            continue
        if field.name in ("page", "tracklet"):
            values[field.name] = _whole(field.name, text)
        elif field.name.endswith(("_min", "_max")):
            values[field.name] = _number(field.name, text)
        elif field.name == "night":
            values[field.name] = _night(text)
        elif field.name == "ascending":
            values[field.name] = text == "1"
        else:
            allowed = {"klass": CLASSES, "linked": _YES_NO, "known": _YES_NO, "state": STATES, "sort": SORTS}
            if field.name in allowed and text not in allowed[field.name]:
                raise _refused(field.name, text, f"must be one of {', '.join(filter(None, allowed[field.name]))}")
            values[field.name] = text[:40]
    return Selection(**values)  # type: ignore[arg-type]


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _refused(name, text, "must be a number")
    return value


def _night(text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) == 8):
        raise _refused("night", text, "must be a night, YYYYMMDD")
    return text


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _refused(name, text, "must be a whole number")
    return max(int(text), 1) if name == "page" else int(text)


def _refused(name: str, text: str, rule: str) -> BadInput:
    return BadInput("bad_filter", name, f"is {text[:60]!r}, {rule}.", "choose another value.")


@dataclass(frozen=True)
class JudgedRows:
    """Standing verdicts, by row of the index.

    Attributes
    ----------
    mine, anyone
        Rows judged by the user, and by anyone.
    by_verdict
        Verdict -> rows to which anyone gave it, among those judged by the user; others' verdicts are hidden before.
    disputed
        Rows, among the same, with different verdicts from different users.
    """

    mine: frozenset[int]
    anyone: frozenset[int]
    by_verdict: Mapping[str, frozenset[int]]
    disputed: frozenset[int]


def sorted_verdicts(index: CandidateIndex, records: Sequence[VerdictRecord], user: str) -> JudgedRows:
    """Group verdicts by content; for each user and candidate only the last one counts, without re-checks."""
    last: dict[tuple[int, str], str] = {}
    for row, one in zip(index.rows_of(records).tolist(), records, strict=True):
        if row >= 0 and not one.blind:
            last[row, one.user] = str(one.verdict)
    said: dict[int, set[str]] = {}
    for (row, _), verdict in last.items():
        said.setdefault(row, set()).add(verdict)
    mine = frozenset(row for row, who in last if who == user)
    return JudgedRows(
        mine,
        frozenset(said),
        {str(name): frozenset(row for row in mine if name in said[row]) for name in Verdict},
        frozenset(row for row in mine if len(said[row]) > 1),
    )


def select(index: CandidateIndex, wanted: Selection, known: JudgedRows) -> NDArray[np.int64]:
    """Return the rows of the selected candidates, in order."""
    rows = np.flatnonzero(_mask(index, wanted, known))
    columns = index.columns
    if wanted.sort == "interest":
        value = _interest(index)[rows]
    else:
        value = columns[_COLUMNS[wanted.sort]][rows].astype(np.float64)
    signed = value if wanted.ascending else -value
    return rows[np.lexsort((columns["diaSourceId"][rows], np.where(np.isnan(signed), np.inf, signed)))]


def _mask(index: CandidateIndex, wanted: Selection, known: JudgedRows) -> NDArray[np.bool_]:
    columns, keep = index.columns, np.ones(len(index), bool)
    if wanted.night:
        keep &= columns["night"] == int(wanted.night)
    if wanted.band:
        keep &= columns["band"] == (index.bands.index(wanted.band) if wanted.band in index.bands else -1)
    if wanted.klass:
        keep &= columns["klass"] == CLASSES.index(wanted.klass)
    for name in ("reliability", "snr"):
        low, high = getattr(wanted, f"{name}_min"), getattr(wanted, f"{name}_max")
        keep &= True if low is None else columns[name] >= low
        keep &= True if high is None else columns[name] <= high
    if wanted.linked:
        keep &= (columns["tracklet"] >= 0) == (wanted.linked == "yes")
    if wanted.known:
        keep &= (columns["known"] > 0) == (wanted.known == "yes")
    if wanted.tracklet is not None:
        keep &= columns["tracklet"] == wanted.tracklet
    if wanted.state:
        keep &= _in_state(len(index), wanted.state, known)
    return keep


def _in_state(rows: int, state: str, known: JudgedRows) -> NDArray[np.bool_]:
    named = {"open": known.mine, "mine": known.mine, "judged": known.anyone, "unjudged": known.anyone,
             "disputed": known.disputed}  # fmt: skip
    found = np.zeros(rows, bool)
    found[list(named.get(state, known.by_verdict.get(state, frozenset())))] = True
    return ~found if state in ("open", "unjudged") else found


def _interest(index: CandidateIndex) -> NDArray[np.int64]:
    """Return a rank for each candidate, highest at the top of the night page's list, where unknown movers are.

    Candidates with the same position in the lists of several nights are next to each other.
    """
    columns = index.columns
    order = np.lexsort([columns[name] for name in ("midpointMjdTai", "night", "place", "kind")])
    place = np.empty(len(index), np.int64)
    place[order] = np.arange(len(index))[::-1]
    return place
