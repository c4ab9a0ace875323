"""Window of nights: possibly moving detections of a night and of earlier nights, for linking over nights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.nights.cluster.memory import require_night_fit
from flows.nights.night_stages import OverNights
from flows.results.catalogue_rows import CatalogueRows
from flows.results.exposure_rows import stored_info
from flows.results.link_nights import linked, require_heliolinx
from flows.runtime.parallel import side_by_side
from flows.storage.bucket_path import BucketPath
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from kernels.linking.nights import Window
from kernels.linking.orbits import Link
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, observatory_of
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.night_range import nights_before
from schemas.settings import LinkNightsSettings, Settings
from schemas.tracklets import NIGHT_WINDOW, TRACKLET_SOURCE

_ADDED = ("night", "own", "trackletId", "designation", "obscode")
_OF_DETECTIONS = tuple(name for name in NIGHT_WINDOW.schema.names if name not in _ADDED)


def require_linkable(settings: Settings) -> None:
    """Raise unless nights can be linked.

    Raises
    ------
    Misconfigured
        The extra is not installed, or the position of the observatory is not known.
    """
    wanted = settings.link_nights
    require_heliolinx()
    if wanted.obscode is not None and wanted.obscode not in OBSERVATORIES:
        problem = f"is {wanted.obscode!r}, not on our list."
        remedy = f"give one of {', '.join(sorted(OBSERVATORIES))}."
        raise Misconfigured("unknown_observatory", "link_nights.obscode", problem, remedy)


def read_window(out: Path, night: str, settings: LinkNightsSettings) -> pa.Table:
    """Return the possibly moving detections of a night and of earlier nights.

    Parameters
    ----------
    out, night, settings
        Output folder, label of the night, and settings with the number of nights.

    Returns
    -------
    pyarrow.Table
        Rows of `NIGHT_WINDOW`: detections of linked nights that are neither stationary nor satellites.

    Raises
    ------
    BadInput
        The position of an observatory is not known (``unknown_observatory``), the detections do not fit in memory
        (``memory``), or a catalogue cannot be read.
    """
    parts, found = [NIGHT_WINDOW.empty()], 0
    for one in nights_before(Ledger(out).nights(), night, settings.nights):
        for part in _of_night(out, one, one == night, settings.obscode):
            found += len(part)
            require_night_fit(night, found)
            parts.append(part)
    return _with_observatory(pa.concat_tables(parts), night)


def _of_night(out: Path, night: str, own: bool, obscode: str | None) -> Iterator[pa.Table]:
    """Yield the possibly moving detections of a night, if it was linked; an unknown observatory is empty."""
    links = CatalogStore(out).read_night(TRACKLET_SOURCE, night, ["diaSourceId", "stationary", "trackletId"])
    if links is None:
        return
    links = links.filter(pc.invert(links["stationary"]))
    moving = pc.field("diaSourceId").isin(links["diaSourceId"].combine_chunks())
    wanted = moving & (pc.field("trailClass") == "")
    rows = CatalogueRows(out, DIA_SOURCE, (night,)).read([*_OF_DETECTIONS, "visit", "detector"], wanted)
    if not len(rows):
        return
    known = CatalogueRows(out, SS_SOURCE, (night,)).read(["diaSourceId", "designation"], moving)
    of = pc.index_in(rows["diaSourceId"], value_set=known["diaSourceId"])
    added = {
        "night": [night] * len(rows),
        "own": [own] * len(rows),
        "trackletId": links["trackletId"].take(pc.index_in(rows["diaSourceId"], value_set=links["diaSourceId"])),
        "designation": pc.fill_null(known["designation"].take(of), ""),
        "obscode": [obscode] * len(rows) if obscode is not None else _codes(out, night, rows),
    }
    columns = {name: rows[name] for name in _OF_DETECTIONS} | added
    yield pa.table({name: columns[name] for name in NIGHT_WINDOW.schema.names}, schema=NIGHT_WINDOW.schema)


def _codes(out: Path, night: str, rows: pa.Table) -> list[str]:
    """Return the observatory of each detection, which is that of the instrument of its visit."""
    visit, detector = (rows[name].to_numpy() for name in ("visit", "detector"))
    visits, first, of = np.unique(visit, return_index=True, return_inverse=True)
    keys = [
        ExposureKey(night=night, visit=one, detector=int(detector[place]))
        for one, place in zip(visits.tolist(), first.tolist(), strict=True)
    ]
    infos = side_by_side(lambda key: stored_info(tile_path(out, key)), keys, isinstance(out, BucketPath))
    codes = [GEOCENTRE if info is None else observatory_of(info.instrument) for info in infos]
    return ["" if codes[n] == GEOCENTRE else codes[n] for n in of.tolist()]


def _with_observatory(window: pa.Table, night: str) -> pa.Table:
    """Return a window in which detections with pruned tiles have the only observatory of the others.

    Raises
    ------
    BadInput
        Some observatories are not known, and the others have none or several.
    """
    codes = pc.unique(window["obscode"]).to_pylist()
    if "" not in codes:
        return window
    if len(codes) != 2:
        problem = "the place of the observatory is not known for all detections."
        raise BadInput("unknown_observatory", f"night {night}", problem, "set link_nights.obscode.")
    (code,) = set(codes) - {""}
    place = NIGHT_WINDOW.schema.get_field_index("obscode")
    return window.set_column(place, NIGHT_WINDOW.schema.field(place), pa.array([code] * len(window)))


def link_window(window: Window) -> list[Link]:
    """Return the links of a window.

    Raises
    ------
    BadInput
        Linking failed or took too long; this affects only this night.
    """
    try:
        return linked(window)
    except Misconfigured as error:
        remedy = "set link_nights.nights to fewer, or to 0."
        raise BadInput(error.code, error.where, error.problem, remedy) from error


OVER_NIGHTS = OverNights(read_window, link_window)
"""Functions with which the stages of a night link it with earlier nights."""
