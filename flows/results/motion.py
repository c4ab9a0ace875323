"""Published motion of the detections of a night: stationary detections and tracklets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from flows.storage.catalog_store import CatalogStore, read_described
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.exposure import ExposureKey
from schemas.night_range import nights_followed
from schemas.settings import MOST_NIGHTS
from schemas.tracklets import LINK_SOURCE, TRACKLET, TRACKLET_SOURCE


class NightMotion(NamedTuple):
    """Rows of `tracklet_source` and of `tracklet` of a night."""

    sources: pa.Table
    tracklets: pa.Table


def read_motion(out: Path, night: str) -> NightMotion | None:
    """Return the published motion of a night; None if it was not linked. Raise as `CatalogStore.read` does."""
    store = CatalogStore(out)
    sources, tracklets = (store.read_night(dataset, night) for dataset in (TRACKLET_SOURCE, TRACKLET))
    return None if sources is None or tracklets is None else NightMotion(sources, tracklets)


@dataclass(frozen=True)
class DetectionMotion:
    """Motion of a detection.

    Attributes
    ----------
    stationary
        Whether the detection was seen again at its position.
    tracklet
        Row of `tracklet`; None without a tracklet.
    members
        Rows of `tracklet_source` for the detections of the tracklet, with ``midpointMjdTai``, by time.
    link
        Rows of `link_source` for the link over nights of the detection, from the latest night with one, by time.
    """

    stationary: bool
    tracklet: dict[str, Any] | None
    members: tuple[dict[str, Any], ...]
    link: tuple[dict[str, Any], ...] = ()


def detection_motion(out: Path, night: str, source_id: int) -> DetectionMotion | None:
    """Return the motion of a published detection; None if it was not linked. Raise as `CatalogStore.read` does."""
    motion = read_motion(out, night)
    if motion is None:
        return None
    rows = motion.sources.filter(pc.equal(motion.sources["diaSourceId"], source_id)).to_pylist()
    if not rows:
        return None
    (row,) = rows
    known = motion.tracklets.filter(pc.equal(motion.tracklets["trackletId"], row["trackletId"])).to_pylist()
    members = motion.sources.filter(pc.equal(motion.sources["trackletId"], row["trackletId"])).to_pylist()
    timed = [one | {"midpointMjdTai": _mjd(out, night, one["diaSourceId"])} for one in members]
    timed.sort(key=lambda one: one["midpointMjdTai"])
    return DetectionMotion(row["stationary"], known[0] if known else None, tuple(timed), _link(out, night, source_id))


def _link(out: Path, night: str, source_id: int) -> tuple[dict[str, Any], ...]:
    store, ledger = CatalogStore(out), Ledger(out)
    for later in reversed(nights_followed(ledger.nights(), [night], MOST_NIGHTS - 1)):
        record = ledger.night(later)
        if record is None or LINK_SOURCE.name not in record.datasets:
            continue
        table = store.read_night(LINK_SOURCE, later)
        if table is not None and len(own := table.filter(pc.equal(table["diaSourceId"], source_id))):
            return tuple(table.filter(pc.equal(table["linkId"], own["linkId"][0])).to_pylist())
    return ()


def _mjd(out: Path, night: str, source_id: int) -> float:
    visit, detector = exposure_of(source_id)
    key = ExposureKey(night=night, visit=visit, detector=detector)
    _, table = read_described(CatalogStore(out).path(DIA_SOURCE, key))  # of whatever version
    return float(table.filter(pc.equal(table["diaSourceId"], source_id))["midpointMjdTai"][0].as_py())
