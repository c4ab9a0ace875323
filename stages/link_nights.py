"""Stage: links between detections of a night and earlier nights that lie on one orbit around the Sun."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.linking.detections import SkyDetections, detections_of, name_of_half
from kernels.linking.nights import three_nights
from kernels.linking.orbits import Link
from kernels.linking.windows import MOST_TRACKLETS, pairs_between, window_of
from schemas.errors import BadInput
from schemas.settings import LinkNightsSettings
from schemas.stage import Context, Stage
from schemas.tracklets import LINK_SOURCE, LINKED_BY, NIGHT_WINDOW, TRACKLET

_OF_DETECTIONS = ("diaSourceId", "trackletId", "midpointMjdTai", "ra", "dec")


def link_nights(inputs: Mapping[str, Any], context: Context) -> pa.Table:
    """Return the links of a night with the nights before it.

    Parameters
    ----------
    inputs
        ``night_window``, and ``tracklet`` of the night, whose detections are also in the window.
    context
        The section `LinkNightsSettings`, and the function ``link``.

    Returns
    -------
    pyarrow.Table
        Rows of `LINK_SOURCE`, by linkId and time: all detections of links that end in the night, each in one link.
        There are no rows if the night has no detection that may move, or fewer than three nights have such detections.

    Raises
    ------
    BadInput
        There are too many tracklets (``too_many_tracklets``), or ``context.link`` refuses the window.
    """
    table = inputs[NIGHT_WINDOW.name].sort_by([("midpointMjdTai", "ascending"), ("diaSourceId", "ascending")])
    own = table["own"].to_numpy()
    if not own.any():
        return LINK_SOURCE.empty()
    detections = detections_of({name: table[name].to_numpy() for name in LINKED_BY})
    obscode = np.array(table["obscode"].to_pylist(), np.str_)
    groups, rate = _groups(table, detections, obscode, context.settings.nights)
    if not len(three_nights(detections.mjd[[group[0] for group in groups]])):
        return LINK_SOURCE.empty()
    window, places = window_of(detections, obscode, groups, "tai")
    assert context.link is not None, "the caller passes what links a window"
    links = [one._replace(members=tuple(places[list(one.members)].tolist())) for one in context.link(window)]
    return _rows(table, [one for one in links if own[one.members[-1]]], rate)


def _groups(
    table: pa.Table, detections: SkyDetections, obscode: NDArray[np.str_], nights: int
) -> tuple[list[tuple[int, ...]], float]:
    """Return the row numbers of the detections of each tracklet and pair, and the fastest pair, deg / day."""
    of = np.flatnonzero(table["trackletId"].is_valid().to_numpy())
    ids = table["trackletId"].combine_chunks().drop_null().to_numpy()
    order = np.argsort(ids, kind="stable")
    parts = np.split(of[order], np.flatnonzero(np.diff(ids[order])) + 1) if len(of) else []
    groups = sorted(tuple(part.tolist()) for part in parts)
    if len(groups) > MOST_TRACKLETS:
        problem = f"{len(groups)} tracklets within {nights} nights are more than {MOST_TRACKLETS}."
        raise BadInput("too_many_tracklets", NIGHT_WINDOW.name, problem, "set link_nights.nights to fewer, or to 0.")
    alone = np.ones(len(table), np.bool_)
    alone[of] = False
    pairs, rate = pairs_between(detections, obscode, np.arange(len(table)), alone, MOST_TRACKLETS - len(groups))
    return [*groups, *pairs], rate


def _rows(table: pa.Table, links: Sequence[Link], rate: float) -> pa.Table:
    """Return the rows of links, whose members are row numbers of the table, by time."""
    ids, names = table["diaSourceId"].to_numpy(), table["designation"].to_pylist()
    links = sorted(links, key=lambda one: int(ids[one.members[0]]))
    count = [len(one.members) for one in links]
    members = pa.array([place for one in links for place in one.members], pa.int64())
    of_link = {
        "linkId": [int(ids[one.members[0]]) for one in links],
        "nSources": count,
        "nNights": [one.nights for one in links],
        "designation": [name_of_half([names[place] for place in one.members]) for one in links],
        "linkRms": [one.rms for one in links],
        "pairRateMax": [rate] * len(links),
        "a": [one.a for one in links],
        "e": [one.e for one in links],
        "i": [one.i for one in links],
    }
    each = np.repeat(np.arange(len(links)), count)
    own = {name: table[name].take(members) for name in _OF_DETECTIONS} | {"sourceNight": table["night"].take(members)}
    repeated = {
        name: pa.array(values, LINK_SOURCE.schema.field(name).type).take(pa.array(each))
        for name, values in of_link.items()
    }
    return pa.table(own | repeated).select(LINK_SOURCE.schema.names).cast(LINK_SOURCE.schema)


STAGE = Stage(
    name="link_nights",
    version="3",
    per="night",
    needs=(NIGHT_WINDOW, TRACKLET),
    gives=LINK_SOURCE,
    run=link_nights,
    settings=LinkNightsSettings,
    columns={TRACKLET.name: ("trackletId",)},
)
