"""Tracklets of a night that can be reported to the Minor Planet Center, and reasons why others cannot."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.publish.ades_record import AdesObservation, Reduction, ades_observation, refuse_unreportable, trail_of
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import require_output, tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from kernels.orbits.designations import Designation, read_designation
from kernels.sky.observatories import GEOCENTRE, observatory_of
from kernels.sky.projection import celestial_wcs, pixel_scale
from schemas.ades import BANDS, UNKNOWN_CATALOGUE, AdesSettings, AdesTelescope
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.errors import BadInput, Misconfigured, choice
from schemas.exposure import SIMULATED, ExposureInfo, ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.tracklets import TRACKLET, TRACKLET_SOURCE

LEAST = 3
"""Minimum number of detections for a report; two are enough for trails that agree, or for a known object."""

REASONS = {
    "by_chance": "there are as good ones by chance (ades.max_chance)",
    "doubtful_time": "keywords of the time contradict each other: name the right one (fits.time), and run again",
    "no_designation": "its designation is not one of ADES",
    "no_position": "a detection has no place on the sky",
    "no_time": "nothing told when a detection was seen",
    "other_station": "it is of another observatory (ades.mpc_code)",
    "satellite": "a detection is, or lies across, a satellite or aeroplane",
    "synthetic": "a detection is none on an image as it was taken",
    "too_few": "fewer than three detections, and not two trails that agree",
    "two_objects": "its detections are of several known objects",
    "two_stations": "its detections are of several observatories",
    "unreadable_catalogue": "a catalogue of its detections cannot be read",
}
"""Reason why a tracklet is not reported -> its wording."""

_ANGLE, _LENGTH = 15.0, 0.35  # deg, fraction: maximum differences between trails of one object

TELESCOPES = {
    "I41": AdesTelescope(design="Schmidt", aperture=1.22, detector="CCD", f_ratio=2.44, pixel_scale=1.01),
    "X05": AdesTelescope(design="Reflector", aperture=8.4, detector="CCD", f_ratio=1.23, pixel_scale=0.2),
    "W84": AdesTelescope(design="Reflector", aperture=4.0, detector="CCD", f_ratio=2.7, pixel_scale=0.263),
}
"""Observatory -> telescope of its survey: ZTF's, Rubin's and DECam's."""

_BANDS = {
    "I41": {"g": "Pg", "r": "Pr", "i": "Pi"},  # calibrated with Pan-STARRS 1 (Masci et al. 2019, PASP 131, 018003)
    "X05": {band: f"L{band}" for band in "ugrizy"},
}
_LETTERS = {band: band for band in BANDS if len(band) == 1} | {"VR": "VR"}
_PHOT_CATS = {"I41": "PS1_DR1"}


@dataclass(frozen=True)
class ReportableTracklet:
    """Tracklet, or a known object's single detection (without an id), that can be reported.

    Attributes
    ----------
    id
        trackletId; None for a single detection.
    named
        Designation; empty if not known.
    rows, observations
        Detections by time: rows of `dia_source`, and observations to report, without the tracklet's name.
    """

    id: int | None
    named: Designation
    rows: tuple[Mapping[str, Any], ...]
    observations: tuple[AdesObservation, ...]


@dataclass
class ReportableNight:
    """Tracklets of a night that can be reported, their observatory, and reason -> number that cannot."""

    station: str
    tracklets: list[ReportableTracklet] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


def reportable_night(out: Path, night: str, settings: AdesSettings) -> ReportableNight:
    """Return the published tracklets of a night that can be reported.

    Raises
    ------
    Misconfigured
        The folder is not an output folder or has no such night; the night was not linked (``not_linked``); or its
        exposures are from several observatories and the settings name none.
    BadInput
        A catalogue cannot be read.
    """
    require_night(out, night)
    store = CatalogStore(out)
    tracklets, links = store.read_night(TRACKLET, night), store.read_night(TRACKLET_SOURCE, night)
    if tracklets is None or links is None:
        problem = f"night {night} was not linked: it has no catalogue `tracklet`."
        raise Misconfigured("not_linked", str(out), problem, "run it again with `nightstride run`, to its end.")
    links = links.filter(pc.is_valid(links["trackletId"]))
    wanted = set(links["diaSourceId"].to_pylist())
    known = _known(store, night)
    singles = sorted(known.keys() - wanted) if settings.known_singles else []
    rows = _rows(store, night, wanted | set(singles))
    exposures = _exposures(out, night, rows.values())
    found = ReportableNight(_station(settings, exposures))
    simulated = {(one.visit, one.detector) for one in Ledger(out).records(night) if SIMULATED in one.flags}
    found.notes["detections on simulated images, not for the Minor Planet Center"] = sum(
        _key(row) in simulated for row in rows.values()
    )
    keys = {_key(row) for row in rows.values()}
    reductions = {key: _reduction(settings, found.station, exposures.get(key)) for key in sorted(keys)}
    members: dict[int, list[int]] = {}
    for one, tracklet in zip(links["diaSourceId"].to_pylist(), links["trackletId"].to_pylist(), strict=True):
        members.setdefault(tracklet, []).append(one)
    for motion in tracklets.to_pylist():
        ids = members.get(motion["trackletId"], [])
        if ids and all(one in rows for one in ids):
            _sort_out(found, motion, [rows[one] for one in ids], known, reductions, settings)
        else:
            found.left_out["unreadable_catalogue"] += 1
    for one in filter(rows.__contains__, singles):
        _single(found, rows[one], known[one], reductions)
    return found


def require_night(out: Path, night: str) -> None:
    """Raise `Misconfigured` unless the folder is an output folder with this night."""
    require_output(out)
    if night not in (nights := Ledger(out).nights()):
        raise Misconfigured("no_night", str(out), f"holds no night {night}.", choice(night, nights))


def _key(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["visit"], row["detector"]


def _known(store: CatalogStore, night: str) -> dict[int, str]:
    """Return diaSourceId -> designation of its known object."""
    names: dict[int, str] = {}
    for path in store.list(SS_SOURCE, night):
        table = store.read_path(path, SS_SOURCE)
        names |= dict(zip(table["diaSourceId"].to_pylist(), table["designation"].to_pylist(), strict=True))
    return names


def _rows(store: CatalogStore, night: str, wanted: set[int]) -> dict[int, dict[str, Any]]:
    """Return the rows of `dia_source` for detections, except those whose catalogue cannot be read."""
    found: dict[int, dict[str, Any]] = {}
    ids = pa.array(sorted(wanted), pa.int64())
    for visit, detector in sorted({exposure_of(one) for one in wanted}):
        try:
            table = store.read(DIA_SOURCE, ExposureKey(night=night, visit=visit, detector=detector))
        except BadInput:
            continue
        rows = table.filter(pc.is_in(table["diaSourceId"], value_set=ids)).drop_columns(["trailCov"])
        found |= {row["diaSourceId"]: row for row in rows.to_pylist()}
    return found


def _exposures(out: Path, night: str, rows: Iterable[Mapping[str, Any]]) -> dict[tuple[int, int], ExposureInfo]:
    """Return the metadata of exposures whose tiles still exist."""
    found = {}
    for visit, detector in sorted({_key(row) for row in rows}):
        with suppress(BadInput):
            key = ExposureKey(night=night, visit=visit, detector=detector)
            found[visit, detector] = TileStore.open(tile_path(out, key)).info
    return found


def _station(settings: AdesSettings, exposures: Mapping[Any, ExposureInfo]) -> str:
    """Return the code of the observatory from the settings, else from the instrument; empty if not known."""
    if settings.mpc_code is not None:
        return settings.mpc_code
    codes = sorted({observatory_of(one.instrument) for one in exposures.values()} - {GEOCENTRE})
    if len(codes) > 1:
        problem = f"is not set, and the exposures are of {' and '.join(codes)}: a report has one observatory."
        raise Misconfigured("two_stations", "ades.mpc_code", problem, "set it to the one to be reported.")
    return codes[0] if codes else ""


def _reduction(settings: AdesSettings, station: str, info: ExposureInfo | None) -> Reduction:
    """Return the reduction of an exposure, with its own observatory if the exposure gives another one."""
    own = GEOCENTRE if info is None else observatory_of(info.instrument)
    seeing = None
    if info is not None and info.wcs_header is not None and info.psf.source != "assumed":
        with suppress(ValueError):
            seeing = info.psf.fwhm_px * pixel_scale(celestial_wcs(info.wcs_header))
    return Reduction(
        stn=station if own == GEOCENTRE else own,
        mode="CMO" if "CMO" in (settings.telescope.detector or "").upper() else "CCD",
        ast_cat=settings.ast_cat or UNKNOWN_CATALOGUE,
        phot_cat=settings.phot_cat or _PHOT_CATS.get(station),
        bands=_BANDS.get(station, _LETTERS) | settings.bands,
        seeing=seeing,
        notes=settings.notes,
    )


def _sort_out(
    found: ReportableNight,
    motion: Mapping[str, Any],
    rows: list[dict[str, Any]],
    known: Mapping[int, str],
    reductions: Mapping[tuple[int, int], Reduction],
    settings: AdesSettings,
) -> None:
    """Add a tracklet to those that can be reported, or count the reason why it cannot be."""
    rows.sort(key=lambda row: (row["midpointMjdTai"], row["diaSourceId"]))
    try:
        for row in rows:
            refuse_unreportable(row)
        named = _named(motion, rows, known)
        _require_one_station(rows, reductions, found.station)
        if named is None:
            found.notes["of a known object whose designation is not one of ADES"] += bool(motion["designation"])
            named = Designation()
        if not any(named):
            require_good(motion, rows, settings.max_chance)
        observed = tuple(ades_observation(row, named, "", reductions[_key(row)]) for row in rows)
    except BadInput as error:
        found.left_out[error.code] += 1
        return
    found.notes["detections without a magnitude, as their band has no code"] += sum(
        row["magAB"] is not None and not one.mag for row, one in zip(rows, observed, strict=True)
    )
    found.notes["detections without an error of the position"] += sum(not one.rmsRA for one in observed)
    found.tracklets.append(ReportableTracklet(motion["trackletId"], named, tuple(rows), observed))


def _single(
    found: ReportableNight,
    row: Mapping[str, Any],
    name: str,
    reductions: Mapping[tuple[int, int], Reduction],
) -> None:
    """Add a detection of a known object without a tracklet, under its designation only."""
    try:
        refuse_unreportable(row)
        _require_one_station([row], reductions, found.station)
        if (named := read_designation(name)) is None:
            raise BadInput(
                "no_designation", f"detection {row['diaSourceId']}", f"is of {name!r}.", "name it otherwise."
            )
        observed = ades_observation(row, named, "", reductions[_key(row)])
    except BadInput as error:
        found.left_out[error.code] += 1
        return
    found.tracklets.append(ReportableTracklet(None, named, (row,), (observed,)))


def _named(
    motion: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], known: Mapping[int, str]
) -> Designation | None:
    """Return the designation of a tracklet; empty without one, None if ADES does not allow it."""
    others = {known[row["diaSourceId"]] for row in rows if row["diaSourceId"] in known}
    name = motion["designation"]
    if others - {name}:
        problem = f"is of {name or 'no known object'}, and has detections of {', '.join(sorted(others - {name}))}."
        raise BadInput("two_objects", f"tracklet {motion['trackletId']}", problem, "link the night again.")
    if not name:
        return Designation()
    return read_designation(name)


def _require_one_station(
    rows: Sequence[Mapping[str, Any]], reductions: Mapping[tuple[int, int], Reduction], station: str
) -> None:
    codes = {reductions[_key(row)].stn for row in rows}
    where = f"detection {rows[0]['diaSourceId']} and others" if rows else "tracklet"
    if len(codes) > 1:
        problem = f"are of several observatories: {', '.join(sorted(codes))}."
        raise BadInput("two_stations", where, problem, "link the exposures of each observatory by themselves.")
    if codes - {station}:
        raise BadInput("other_station", where, f"are of {codes.pop()}, not of {station}.", "set ades.mpc_code to it.")


def require_good(motion: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], max_chance: float) -> None:
    """Raise unless a tracklet of an unknown object can be reported.

    Parameters
    ----------
    motion, rows
        Row of `tracklet`, and rows of `dia_source` for its detections.
    max_chance
        Largest allowed number of such tracklets by chance.

    Raises
    ------
    BadInput
        ``by_chance``; or ``too_few``: fewer than three detections on different exposures, and not two trails that agree
        with each other and with the motion.
    """
    where = f"tracklet {motion['trackletId']}"
    if motion["chance"] > max_chance:
        problem = f"as good as {motion['chance']:.2g} that there are by chance."
        raise BadInput("by_chance", where, problem, "raise ades.max_chance.")
    times = {row["midpointMjdTai"] for row in rows}
    if len(times) < LEAST and not (len(times) == len(rows) == 2 and trails_agree(motion, rows)):
        problem = f"has {len(times)} detections, and they are not two trails that agree."
        raise BadInput("too_few", where, problem, "observe it again; what is known of it stays in `tracklet`.")


def trails_agree(motion: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all detections are trails along a motion, with the length of the motion during the exposure.

    Tolerances are 15 deg and 35 %, or three standard errors. The rate is in deg / day, the position angle in deg.
    """
    for row in rows:
        trail, seconds = trail_of(row), row.get("exposureTime")
        if trail is None or not seconds:
            return False
        length, angle = trail
        expected = motion["rate"] / 24 * seconds  # 1 deg / day is 1/24 arcsec / s
        turned = abs((angle - motion["positionAngle"] + 90) % 180 - 90)
        if turned > max(_ANGLE, 3 * (row.get("trailAngleErr") or 0.0)):
            return False
        if abs(length - expected) > max(_LENGTH * max(length, expected), 3 * (row.get("trailLengthErr") or 0.0)):
            return False
    return True
