"""Window of nights: detections of a night and of those before it that may move, as linking over nights reads them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.nights.night_stages import OverNights
from flows.results.catalogue_rows import CatalogueRows
from flows.results.exposure_rows import stored_info
from flows.results.link_nights import linked, require_heliolinx
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from kernels.linking.nights import Window
from kernels.linking.orbits import Link
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, observatory_of
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.night_range import nights_before
from schemas.settings import LinkNightsSettings, Settings
from schemas.tracklets import NIGHT_WINDOW, TRACKLET, TRACKLET_SOURCE

_ADDED = ("night", "own", "trackletId", "designation", "obscode")
_OF_DETECTIONS = tuple(name for name in NIGHT_WINDOW.schema.names if name not in _ADDED)


def require_linkable(settings: Settings) -> None:
    """Make sure that nights can be linked.

    Raises
    ------
    Misconfigured
        The extra is not installed, or the place of the observatory is not known.
    """
    wanted = settings.link_nights
    require_heliolinx()
    if wanted.obscode is not None and wanted.obscode not in OBSERVATORIES:
        problem = f"is {wanted.obscode!r}, not on our list."
        remedy = f"give one of {', '.join(sorted(OBSERVATORIES))}."
        raise Misconfigured("unknown_observatory", "link_nights.obscode", problem, remedy)


def read_window(out: Path, night: str, settings: LinkNightsSettings) -> pa.Table:
    """Read what may move in a night and in those before it.

    Parameters
    ----------
    out, night, settings
        Output folder, the night, and how many nights there are in all.

    Returns
    -------
    pyarrow.Table
        Of `NIGHT_WINDOW`: detections that are neither at rest nor satellites, of nights that were linked.

    Raises
    ------
    BadInput
        The place of an observatory is not known (``unknown_observatory``), or a catalogue cannot be read.
    """
    wanted = nights_before(Ledger(out).nights(), night, settings.nights)
    parts = [part for one in wanted for part in _of_night(out, one, one == night, settings.obscode)]
    return pa.concat_tables([NIGHT_WINDOW.empty(), *parts])


def _of_night(out: Path, night: str, own: bool, obscode: str | None) -> Iterator[pa.Table]:
    store = CatalogStore(out)
    links = store.read_night(TRACKLET_SOURCE, night, ["diaSourceId", "stationary", "trackletId"])
    if links is None:
        return
    links = links.filter(pc.invert(links["stationary"]))
    wanted = pc.field("diaSourceId").isin(links["diaSourceId"].combine_chunks()) & (pc.field("trailClass") == "")
    rows = CatalogueRows(out, DIA_SOURCE, (night,)).read([*_OF_DETECTIONS, "visit", "detector"], wanted)
    if not len(rows):
        return
    tracklet = links["trackletId"].take(pc.index_in(rows["diaSourceId"], value_set=links["diaSourceId"]))
    named = store.read_night(TRACKLET, night, ["trackletId", "designation"])
    known = TRACKLET.empty() if named is None else named
    designation = known["designation"].take(pc.index_in(tracklet, value_set=known["trackletId"], skip_nulls=True))
    codes = [obscode] * len(rows) if obscode is not None else _codes(out, night, rows)
    added = {
        "night": [night] * len(rows),
        "own": [own] * len(rows),
        "trackletId": tracklet,
        "designation": pc.fill_null(designation, ""),
        "obscode": codes,
    }
    columns = {name: rows[name] for name in _OF_DETECTIONS} | added
    yield pa.table({name: columns[name] for name in NIGHT_WINDOW.schema.names}, schema=NIGHT_WINDOW.schema)


def _codes(out: Path, night: str, rows: pa.Table) -> list[str]:
    """Return the observatory of each detection: that of the instrument which its visit was taken with."""
    visit, detector = (rows[name].to_numpy() for name in ("visit", "detector"))
    known = {one: _code(out, night, one, np.unique(detector[visit == one])) for one in np.unique(visit).tolist()}
    return [known[one] for one in visit.tolist()]


def _code(out: Path, night: str, visit: int, detectors: NDArray[np.int64]) -> str:
    for detector in detectors.tolist():
        info = stored_info(tile_path(out, ExposureKey(night=night, visit=visit, detector=detector)))
        if info is not None and (code := observatory_of(info.instrument)) != GEOCENTRE:
            return code
    problem = f"the place of the observatory of visit {visit} is not known."
    raise BadInput("unknown_observatory", f"night {night}", problem, "set link_nights.obscode.")


def link_window(window: Window) -> list[Link]:
    """Return the links of a window.

    Raises
    ------
    BadInput
        What links failed or took too long: that concerns this night alone.
    """
    try:
        return linked(window)
    except Misconfigured as error:
        remedy = "set link_nights.nights to fewer, or to 0."
        raise BadInput(error.code, error.where, error.problem, remedy) from error


OVER_NIGHTS = OverNights(read_window, link_window)
"""What the stages of a night link it with those before it by."""
