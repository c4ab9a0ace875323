"""Tracklets of a table of detections: linked, named, written."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel

from flows.results.detection_table import SATELLITE, DetectionTable
from flows.runtime.words import counted
from flows.storage.atomic import write_file
from kernels.linking.detections import find_stationary, first_copies, name_of_half
from kernels.linking.orbits import Link
from kernels.linking.tracklets import Tracklet, find_tracklets
from kernels.orbits.ephemeris import OrbitCatalogue
from kernels.orbits.matching import match_ephemerides, near_radius
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, observer_at
from kernels.sky.positions import sky_position

_MATCH_RADIUS, _MATCH_MOST = 2.0, 30.0  # arcsec: for known objects
_UNITS = {"rate": "deg / day", "positionAngle": "deg", "rms": "arcsec", "linkRms": "arcsec", "a": "AU", "i": "deg"}


class LinkSummary(BaseModel):
    """Summary of linking.

    Attributes
    ----------
    detections
        Number of rows of the table.
    tracklets, linked
        Numbers of tracklets, and of detections in them.
    stationary
        Number of detections that were seen again at their position.
    left_out
        Rows that were not used, by reason.
    not_given
        Values taken as missing, by column; None if there are none.
    known
        Number of tracklets of known objects; None if no orbits were given.
    links, linked_nights
        Numbers of links over nights, and of detections in them; None if links were not searched for.
    """

    detections: int
    tracklets: int
    linked: int
    stationary: int
    left_out: dict[str, int]
    not_given: dict[str, int] | None = None
    known: int | None = None
    links: int | None = None
    linked_nights: int | None = None

    @property
    def exit_code(self) -> int:
        """Return 1 if rows could not be used."""
        return int(any(reason != SATELLITE for reason in self.left_out))

    @property
    def words(self) -> str:
        """Return the summary as a sentence."""
        rest = f"{self.stationary} of {self.detections} are at rest"
        links, linked = counted(self.links or 0, "link"), counted(self.linked_nights or 0, "detection")
        nights = "" if self.links is None else f"; {links} of {linked} over nights"
        known = "" if self.known is None else f", {self.known} of them of known objects"
        return f"{counted(self.tracklets, 'tracklet')} of {counted(self.linked, 'detection')}{known}; {rest}{nights}"

    def with_links(self, links: Sequence[Link]) -> "LinkSummary":
        """Return the summary with the links over nights."""
        return self.model_copy(update={"links": len(links), "linked_nights": sum(len(one.members) for one in links)})


def link_table(table: DetectionTable) -> tuple[LinkSummary, list[Tracklet], NDArray[np.bool_]]:
    """Return the tracklets of each observatory, night by night, using the first of copies with one time and position.

    Returns
    -------
    LinkSummary, list of Tracklet, (n,) bool
        Summary; tracklets, whose members are row numbers of the table, by time; which detections are stationary.
    """
    stationary = np.zeros(len(table.ids), np.bool_)
    tracklets: list[Tracklet] = []
    for code in np.unique(table.obscode):
        here = np.flatnonzero(table.obscode == code)
        own = table.detections.take(here)
        still = find_stationary(own)
        stationary[here] = still
        itself = first_copies(own, table.obscode[here], ~still) == np.arange(len(here))
        found = find_tracklets(own, ~still & itself)
        tracklets += [one._replace(members=tuple(int(here[n]) for n in one.members)) for one in found]
    tracklets.sort(key=lambda one: (one.motion.mjd, one.members))
    summary = LinkSummary(
        detections=table.rows,
        tracklets=len(tracklets),
        linked=sum(len(one.members) for one in tracklets),
        stationary=int(stationary.sum()),
        left_out={reason: len(rows) for reason, rows in table.left_out.items()},
        not_given=table.not_given or None,
    )
    return summary, tracklets, stationary


def name_detections(table: DetectionTable, catalogue: OrbitCatalogue) -> list[str]:
    """Return the designation of the known object at each detection; empty if there is none.

    Exposures are identified by observatory and time. An object is searched for within the sum of 2 arcsec, the effect
    of rounded elements and three times the error of the detection; along its motion the uncertainty of its orbit is
    added, at most 30 arcsec. Of several orbits of an object the one that tells its place best is used.
    """
    own, names = table.detections, np.full(len(table.ids), "", object)
    if not len(names):
        return []
    ra, dec = sky_position(own.vectors)
    _, exposure = np.unique(
        np.stack([np.unique(table.obscode, return_inverse=True)[1], own.mjd]), axis=1, return_inverse=True
    )
    for rows in np.split(np.argsort(exposure, kind="stable"), np.cumsum(np.bincount(exposure))[:-1]):
        code = str(table.obscode[rows[0]])
        observer = observer_at(float(own.mjd[rows[0]]), OBSERVATORIES.get(code, OBSERVATORIES[GEOCENTRE]), table.scale)
        middle = own.vectors[rows].mean(axis=0)
        middle /= max(float(np.linalg.norm(middle)), 1e-9)
        radius = np.degrees(np.arccos(np.clip(own.vectors[rows] @ middle, -1, 1)).max()) + _MATCH_MOST / 3600
        known = catalogue.in_field(observer, code, middle, float(radius))
        uncertainty = np.minimum(known.uncertainty, _MATCH_MOST)
        places = (known.seen.ra, known.seen.dec, known.seen.angle, uncertainty)
        wide = near_radius(_MATCH_RADIUS, known.seen.distance, _MATCH_MOST)
        for one in match_ephemerides((ra[rows], dec[rows], own.sigma[rows]), places, wide):
            names[rows[one.detection]] = known.names[one.known]
    return list(names)


def name_tracklets(tracklets: Sequence[Tracklet], names: Sequence[str]) -> list[str]:
    """Return the name shared by at least half of the detections of each tracklet; empty if there is none."""
    return [name_of_half(names[place] for place in one.members) for one in tracklets]


def members_of(
    table: DetectionTable,
    tracklets: Sequence[Tracklet],
    links: Sequence[Link] | None,
    names: Sequence[str] | None,
) -> pa.Table:
    """Return a row for each detection of a tracklet; tracklets are numbered from 1, by time.

    If links were searched for, their detections without a tracklet follow, and columns give the number of the link,
    also from 1, and its orbit; null for rows without a link. Names of known objects are those of the tracklets; empty
    if not known.
    """
    count = [len(one.members) for one in tracklets]
    places = [place for one in tracklets for place in one.members]
    motion = {
        "rate": [one.motion.rate for one in tracklets],
        "positionAngle": [one.motion.angle for one in tracklets],
        "rms": [one.motion.rms for one in tracklets],
        "chance": [one.chance for one in tracklets],
    }
    columns = {
        "trackletId": pa.array(np.repeat(np.arange(1, len(count) + 1), count), pa.int64()),
        "id": table.ids.take(pa.array(places, pa.int64())),
        **{name: pa.array(np.repeat(values, count), pa.float64()) for name, values in motion.items()},
    }
    if names is not None:
        columns["designation"] = pa.array(np.repeat(np.array(names, object), count), pa.string())
    if links is not None:
        alone = sorted({place for one in links for place in one.members} - set(places))
        more = pa.table({"id": table.ids.take(pa.array(alone, pa.int64()))})
        joined = pa.concat_tables([pa.table(columns), more], promote_options="default").combine_chunks()
        columns = dict(zip(joined.column_names, joined.columns, strict=True)) | _of_links([*places, *alone], links)
    fields = [
        pa.field(name, column.type, metadata={"unit": _UNITS[name]} if name in _UNITS else None)
        for name, column in columns.items()
    ]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _of_links(places: Sequence[int], links: Sequence[Link]) -> dict[str, pa.Array]:
    """Return the columns of links; null for rows without a link."""
    number = {place: n for n, one in enumerate(links) for place in one.members}
    of = [number.get(place) for place in places]
    columns = {"linkId": pa.array([n if n is None else n + 1 for n in of], pa.int64())}
    for name, field in {"linkRms": "rms", "a": "a", "e": "e", "i": "i"}.items():
        columns[name] = pa.array([n if n is None else getattr(links[n], field) for n in of], pa.float64())
    return columns


def write_members(path: Path, members: pa.Table) -> None:
    """Write a Parquet file, whole or not at all; errors are those of `flows.storage.atomic.write_file`."""
    content = io.BytesIO()
    pq.write_table(members, content)
    write_file(path, content.getvalue(), path.parent)
