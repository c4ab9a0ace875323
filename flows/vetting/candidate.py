"""Content of the page of a candidate: measurements, pictures, motion, neighbours and origin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from flows.pipeline.provenance import search_models
from flows.results.light_curve import light_curve as curve_of
from flows.results.page.cards import direction_words, has_angle, length_words, rate_words
from flows.results.page.curves import draw_light_curve
from flows.results.page.detection import PageDetection, detections
from flows.results.page.found import AT_REST, POINT
from flows.results.page.words import (
    NOTHING,
    count,
    expected,
    file_name,
    measured,
    number,
    place_error,
    probability,
    seen,
)
from flows.storage.association_store import object_of
from flows.storage.bucket_path import change_of
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.vetting.drawings import tracklet_chart
from flows.vetting.index import CandidateIndex
from flows.vetting.stamps import PlaceStamp, open_tiles, other_visits, place_stamps
from kernels.sky.patches import pixels_at
from kernels.sky.positions import separation
from schemas.class_table import CLASSES, SPECTRAL_CLASS, STAR_GALAXY, probability_column
from schemas.classes import SUPERCLASSES
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, NightstrideError
from schemas.exposure import ExposureKey
from schemas.known_object import SS_EPHEMERIS, SS_SOURCE
from schemas.ledger import ExposureRecord
from schemas.objects import DIA_LINK, OBJECT
from schemas.settings import AssociationSettings

_NEAREST = 3
_SHARES = (
    ("Trail", "pTrail"), ("Point", "pPoint"), ("Satellite", "pSatellite"), ("Artefact", "pArtefact"),
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """Value as text with its unit, and its meaning."""

    name: str
    value: str
    doc: str = ""


@dataclass(frozen=True)
class Near:
    """Neighbour of a candidate: its name, and facts about it."""

    name: str
    facts: tuple[Fact, ...]
    match: bool = False


@dataclass(frozen=True)
class CandidateContent:
    """Content of the page of a candidate.

    Attributes
    ----------
    detection
        Detection as on the night page.
    facts
        The most important values; ``columns``: all of them.
    stamps, visits
        Pictures from its exposure, and from others.
    tracklet, sky
        Motion in words, and its picture.
    curve
        Light curve of its object or tracklet; ``seen``: number of its detections, in words.
    shares
        Class and its probability, 0 to 1.
    known, static
        Known solar-system objects, nearest first; and the object of the science images that it is on, and its host.
    origin
        Models, files and digests.
    """

    key: ExposureKey
    detection: PageDetection
    title: str
    facts: tuple[Fact, ...]
    columns: tuple[Fact, ...]
    stamps: tuple[PlaceStamp, ...]
    visits: tuple[PlaceStamp, ...]
    tracklet: tuple[Fact, ...]
    tracklet_id: int | None
    sky: Markup
    curve: Markup
    seen: str
    shares: tuple[tuple[str, float], ...]
    known: tuple[Near, ...]
    static: tuple[Near, ...]
    origin: tuple[Fact, ...]
    notes: tuple[str, ...]


def read_candidate(out: Path, index: CandidateIndex, row: int, association: AssociationSettings) -> CandidateContent:
    """Collect everything known about a candidate.

    Parameters
    ----------
    out
        Output folder.
    index, row
        Index of candidates, and row of this one.
    association
        Where objects are stored.

    Raises
    ------
    BadInput
        Its catalogue cannot be read, or no longer has it (``no_candidate``).
    """
    key, source_id = index.key(row), int(index.columns["diaSourceId"][row])
    table = CatalogStore(out).read(DIA_SOURCE, key)
    table = table.filter(pc.equal(table["diaSourceId"], source_id))
    record = Ledger(out).get(key)
    if not len(table) or record is None:
        raise BadInput("no_candidate", str(source_id), "is not a published detection any more.", "load the list again.")
    values, detection, notes = table.to_pylist()[0], detections(table)[0], list[str]()
    place = None if values["ra"] is None else (values["ra"], values["dec"])
    stamps, visits = _pictures(out, index, key, detection, place, values["midpointMjdTai"], notes)
    known = _tolerant(notes, lambda: _known_objects(out, record, source_id, place))
    resting = index.columns["kind"][row] in (POINT, AT_REST)
    static = _tolerant(notes, lambda: _static_objects(out, key.night, source_id, place, hosts=resting))
    tracklet, tracklet_id, sky = _motion(index, row, source_id)
    history, of = _history(out, key.night, source_id, tracklet_id, association, notes)
    return CandidateContent(
        key=key,
        detection=detection,
        title=f"{values['band']} · {seen(values)} UTC · visit {key.visit}, detector {key.detector}",
        facts=_facts(values, detection, _known_as(index, row, record), file_name(record.source_uri)),
        columns=tuple(_columns(values)),
        stamps=stamps,
        visits=visits,
        tracklet=tracklet,
        tracklet_id=tracklet_id,
        sky=Markup(sky),
        curve=Markup(draw_light_curve(history, source_id) if len(history) > 1 else ""),
        seen=f"{count(len(history), 'detection')} of its {of}",
        shares=tuple((name, float(values[column])) for name, column in _SHARES if values[column] is not None),
        known=known,
        static=static,
        origin=tuple(_origin(out, record, values)),
        notes=tuple(notes),
    )


def _tolerant(notes: list[str], read: Any) -> tuple[Near, ...]:
    try:
        return tuple(read())
    except BadInput as error:
        notes.append(str(error))
        return ()


def _pictures(
    out: Path,
    index: CandidateIndex,
    key: ExposureKey,
    detection: PageDetection,
    place: tuple[float, float] | None,
    mjd: float,
    notes: list[str],
) -> tuple[tuple[PlaceStamp, ...], tuple[PlaceStamp, ...]]:
    store = open_tiles(out, key)
    if store is None:
        notes.append("The tiles of this exposure are not there any more: no pictures.")
        return (), ()
    try:
        stamps = place_stamps(store, detection)
    except BadInput as error:
        notes.append(str(error))
        stamps = []
    if place is None:
        return tuple(stamps), ()
    return tuple(stamps), tuple(other_visits(out, chain(*index.exposures.values()), key, detection, place, mjd))


def _known_as(index: CandidateIndex, row: int, record: ExposureRecord) -> str:
    name = index.designations[index.columns["known"][row]]
    return name or ("nothing known" if SS_SOURCE.name in record.datasets else "not compared with known objects")


def _facts(values: Mapping[str, Any], detection: PageDetection, known: str, file: str) -> tuple[Fact, ...]:
    magnitude = measured(values["magAB"], values["magABErr"], 2)
    at = [measured(values[axis], values[f"{axis}Err"], 2) for axis in "xy"]
    place = f"{number(values['ra'], 6)}, {number(values['dec'], 6)} deg"
    return (
        Fact("Reliability", probability(values["reliability"], 3), "Calibrated probability of being real."),
        Fact("S/N", number(values["snr"])),
        Fact(f"Magnitude, {values['band']}", magnitude + ("" if magnitude == NOTHING else " AB")),
        Fact("Known as", known),
        Fact("Length", length_words(values)),
        Fact("Angle", _angle(values)),
        Fact("RA, Dec", ", ".join(filter(None, (place, place_error(values)))), "ICRS."),
        Fact("x, y", f"{at[0]}, {at[1]} px", "0-based."),
        Fact("Flags", ", ".join(detection.flags) or "none"),
        Fact("File", file),
    )


def _angle(values: Mapping[str, Any]) -> str:
    if not has_angle(values):
        return NOTHING
    if values["trailAngle"] is not None:
        return f"PA {measured(values['trailAngle'], values['trailAngleErr'], 0)} deg"
    return f"{measured(values['trailAnglePx'], values['trailAnglePxErr'], 0)} deg from +x"


def _columns(values: Mapping[str, Any]) -> list[Fact]:
    names, found = DIA_SOURCE.schema.names, []
    for field in DIA_SOURCE.schema:
        error = f"{field.name}Err"
        if field.name.endswith("Err") or "Cov" in field.name:
            continue
        value, unit = values[field.name], field.metadata[b"unit"].decode()
        if isinstance(value, float):
            sky = field.name in ("ra", "dec", "trailRa", "trailDec", "midpointMjdTai") and error not in names
            text = f"{value:.7f}" if sky else measured(value, values.get(error), None)
        else:
            text = NOTHING if value is None else str(value)
        found.append(
            Fact(field.name, f"{text} {unit}".strip() if text != NOTHING else text, field.metadata[b"doc"].decode())
        )
    return found


def _motion(index: CandidateIndex, row: int, source_id: int) -> tuple[tuple[Fact, ...], int | None, str]:
    tracklet = int(index.columns["tracklet"][row])
    if tracklet < 0:
        rest = bool(index.columns["stationary"][row])
        return ((Fact("Seen", "again at its place: at rest"),) if rest else ()), None, ""
    members = index.members(tracklet)
    ids, ra, dec, mjd = (index.columns[name][members] for name in ("diaSourceId", "ra", "dec", "midpointMjdTai"))
    drawn = tracklet_chart(ids.tolist(), ra, dec, mjd, source_id)
    of = index.tracklets.filter(pc.equal(index.tracklets["trackletId"], tracklet)).to_pylist()
    if not of:
        return (), tracklet, drawn
    one = of[0]
    return (
        (
            Fact("Detections", f"{one['nSources']} on {one['nVisits']} visits"),
            Fact("Rate", rate_words(one)),
            Fact("Towards", direction_words(one)),
            Fact("Arc", f"{number(one['arc'])}″ in {number(1440 * (one['lastMjdTai'] - one['firstMjdTai']))} min"),
            Fact("RMS about it", number(one["rms"], 2, "″")),
            Fact("By chance", f"{expected(one['chance'])} expected"),
        ),
        tracklet,
        drawn,
    )


def _history(
    out: Path,
    night: str,
    source_id: int,
    tracklet_id: int | None,
    association: AssociationSettings,
    notes: list[str],
) -> tuple[list[Mapping[str, Any]], str]:
    """Return the detections of the object or tracklet of a detection, and the words for it in a caption.

    A slow mover is a separate object on each visit: if the object has only one detection, the tracklet says more.
    """
    followed = object_of(out, source_id, association)
    rows = [] if followed is None else followed[1].to_pylist()
    if tracklet_id is not None and len(rows) < 2:
        try:
            moving = curve_of(out, [night], tracklet_id, "tracklet").rows.to_pylist()
        except NightstrideError as error:
            notes.append(str(error))
        else:
            rows = [{**row, "psfFlux": row["flux"], "psfFluxErr": row["fluxErr"]} for row in moving]
            return rows, "tracklet, flux of its trail"
    return rows, "object, flux of a point source on the difference images"


def _known_objects(out: Path, record: ExposureRecord, source_id: int, place: tuple[float, float] | None) -> list[Near]:
    if place is None or SS_EPHEMERIS.name not in record.datasets:
        return []
    store = CatalogStore(out)
    predicted = store.read(SS_EPHEMERIS, record.key)
    mine = ""
    if SS_SOURCE.name in record.datasets:
        rows = store.read(SS_SOURCE, record.key)
        matched = rows.filter(pc.equal(rows["diaSourceId"], source_id))["designation"].to_pylist()
        mine = matched[0] if matched else ""
    apart = 3600 * separation(predicted["ephRa"].to_numpy(), predicted["ephDec"].to_numpy(), *place)
    found = []
    for n in np.argsort(apart, kind="stable")[:_NEAREST].tolist():
        one = predicted.slice(n, 1).to_pylist()[0]
        facts = (
            Fact("Separation", f"{apart[n]:.1f}″"),
            Fact("Uncertainty", number(one["ephUncertainty"], 1, "″")),
            Fact("Magnitude", f"V {number(one['ephVmag'])}"),
            Fact("Rate", f"{number(one['ephRate'], 4)} deg/day towards {number(one['ephRateAngle'])} deg"),
        )
        found.append(Near(one["designation"], facts, bool(mine) and one["designation"] == mine))
    return found


_OBJECT_COLUMNS = ("objectId", "ra", "dec", "nSources", "refBand", "snr", "halfLightRadius")


def _static_objects(
    out: Path, night: str, source_id: int, place: tuple[float, float] | None, *, hosts: bool
) -> list[Near]:
    """Return the object that a detection is on and, if ``hosts``, its host candidate, from `dia_link`."""
    if place is None:
        return []
    links = _rows_about(out, DIA_LINK, night, place, tuple(DIA_LINK.schema.names))
    link = next(iter(links.filter(pc.equal(links["diaSourceId"], source_id)).to_pylist()), None)
    if link is None:
        return []
    found = []
    for role, name, apart in (
        ("sits on", "objectId", "separation"), ("host candidate", "hostObjectId", "hostSeparation"),
    ):  # fmt: skip
        host = name == "hostObjectId"
        if link[name] is None or (host and (not hosts or link[name] == link["objectId"])):
            continue
        facts = [Fact("Separation", number(link[apart], 2, "″"))]
        if host:
            facts.append(Fact("Directional distance", f"{number(link['hostDlr'], 2)} light radii"))
        facts += _object_facts(out, night, place, link[name])
        found.append(Near(f"{role}: object {link[name]}", tuple(facts), name == "objectId"))
    return found


def _object_facts(out: Path, night: str, place: tuple[float, float], object_id: int) -> list[Fact]:
    def row(dataset: TableOf, names: Sequence[str]) -> dict[str, Any] | None:
        rows = _rows_about(out, dataset, night, place, tuple(names))
        return next(iter(rows.filter(pc.equal(rows["objectId"], object_id)).to_pylist()), None)

    facts = []
    if (one := row(OBJECT, _OBJECT_COLUMNS)) is not None:
        if one["nSources"] == 1:
            facts.append(Fact("Seen", "on one exposure only: it may be the detection itself"))
        facts.append(Fact("S/N", f"{number(one['snr'])} in {one['refBand']}"))
        facts.append(Fact("Half-light radius", number(one["halfLightRadius"], 2, "″")))
    verdicts = (
        (STAR_GALAXY, "Image", CLASSES, "Verdict on the cutout alone."),
        (SPECTRAL_CLASS, "Superclass", SUPERCLASSES, "By image, colours where there are two bands, and sky counts."),
    )
    for dataset, words, classes, doc in verdicts:
        names = [probability_column(label) for label in classes]
        if (one := row(dataset, ("objectId", "classLabel", *names))) is not None:
            shares = ", ".join(f"{label} {probability(one[name])}" for label, name in zip(classes, names, strict=True))
            facts.append(Fact(words, f"{one['classLabel']} ({shares})", doc))
    return facts


def _rows_about(
    out: Path, dataset: TableOf, night: str, place: tuple[float, float], names: tuple[str, ...]
) -> pa.Table:
    """Return the rows of a dataset in the night, or in those of its patches that contain a position."""
    found = [dataset.schema.empty_table().select(names)]
    for path in CatalogStore(out).list(dataset, night):
        if path.parent.name.startswith("Dir="):
            order, pixel = (int(part.removesuffix(".parquet").partition("=")[2]) for part in path.parts[-3::2])
            if int(pixels_at(np.array([place[0]]), np.array([place[1]]), order)[0]) != pixel:
                continue
        found.append(_kept(path, change_of(path), dataset.name, names))
    return pa.concat_tables(found)


_DATASETS = {one.name: one for one in (DIA_LINK, OBJECT, STAR_GALAXY, SPECTRAL_CLASS)}


@lru_cache(maxsize=16)
def _kept(path: Path, _: object, name: str, names: tuple[str, ...]) -> pa.Table:
    return CatalogStore(path).read_path(path, _DATASETS[name]).select(names)


def _file_facts(record: ExposureRecord) -> list[Fact]:
    if not record.source_files:
        return [Fact("File", record.source_uri), Fact("SHA-256 of it", record.source_sha256)]
    found = []
    for plane, file in record.source_files.items():
        found += [Fact(f"File, {plane}", file.uri), Fact("SHA-256 of it", file.sha256 or NOTHING)]
    return found


def _origin(out: Path, record: ExposureRecord, values: Mapping[str, Any]) -> list[Fact]:
    made = Ledger(out).provenance(record.provenance)
    entry = record.datasets.get(DIA_SOURCE.name)
    found = [
        Fact("Reliability by", str(values["reliabilityVersion"])),
        *_file_facts(record),
        Fact("Digest of the result", record.digest),
    ]
    if entry is not None:
        found += [Fact("Catalogue", entry.path), Fact("SHA-256 of it", entry.sha256)]
    for name, card in (search_models(made) if made else {}).items():
        found.append(Fact(f"Model {name}", f"{card.name} {card.version}, SHA-256 {card.sha256[:16]}…"))
    found.append(Fact("Made", f"{record.finished_at} by nightstride {record.software}"))
    return found
