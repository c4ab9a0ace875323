"""Explanation of a detection: its pixels, models, settings and code."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from textwrap import fill
from typing import Any

import pyarrow.compute as pc

from flows.inputs.source_state import State, file_states, source_state
from flows.pipeline.provenance import recorded_settings, search_models
from flows.results.motion import DetectionMotion, detection_motion
from flows.results.page.words import count, measured, sexagesimal
from flows.runtime.settings import settings_class
from flows.storage.association_store import ending_of, object_of
from flows.storage.catalog_parts import held
from flows.storage.catalog_store import CatalogStore, read_described
from flows.storage.layout import require_output, tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from schemas.dia_source import DIA_SOURCE, DetectionFlag, exposure_of
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.known_object import SS_SOURCE
from schemas.ledger import ExposureRecord, ProvenanceRecord
from schemas.settings import AssociationSettings, Settings


@dataclass(frozen=True)
class PixelCutout:
    """Pixel range of a detection, 0-based with the end excluded, in x and y; and the same as a FITS image section."""

    x: tuple[int, int]
    y: tuple[int, int]
    section: str


@dataclass(frozen=True)
class ExplainedFile:
    """One of several files of an exposure: SHA-256 of its searched bytes, None if not stored; and its state."""

    uri: str
    sha256: str | None
    state: State


@dataclass(frozen=True)
class DetectionHistory:
    """Stationary object, its detections by time (rows of `schemas.dia_object.ASSOCIATION`), and possible duplicates."""

    diaObjectId: int  # noqa: N815
    detections: list[dict[str, Any]]
    beside: list[int] = field(default_factory=list)

    @property
    def nights(self) -> list[str]:
        """Return the nights in which it was seen, sorted."""
        return sorted({one["night"] for one in self.detections})


@dataclass(frozen=True)
class Explanation:
    """Origin of a detection.

    Attributes
    ----------
    detection
        Row of `dia_source`.
    source_uri, source_sha256, source_state
        File of the exposure, SHA-256 of the searched bytes, and whether the file still has them; for an exposure of
        several files, of the bytes of all files in order.
    source_files
        Plane -> file, the SHA-256 of its own bytes and its state; empty for an exposure of one file.
    cutout
        Its pixels in that file.
    tiles, tiles_digest
        Tile store, relative to the output folder, and the digest in it; None if it was pruned.
    catalogues
        Dataset -> file, relative to the output folder, and digest.
    record
        Record of the exposure in the ledger.
    provenance
        Models used, with their cards, settings, versions of the stages and the code; None if not in the ledger.
    motion
        Whether the detection is stationary, and its tracklet; None if it has not been linked.
    known
        Row of `ss_source`; None if there is no known object, or known objects were not searched for.
    history
        Stationary object of the detection; None if there is none or it is not known.
    picture
        Function that draws its pixels as HTML for a notebook; None: no picture.
    """

    detection: dict[str, Any]
    source_uri: str
    source_sha256: str
    source_state: State
    cutout: PixelCutout
    tiles: str
    tiles_digest: str | None
    catalogues: dict[str, tuple[str, str]]
    record: ExposureRecord
    provenance: ProvenanceRecord | None
    motion: DetectionMotion | None = None
    known: dict[str, Any] | None = None
    history: DetectionHistory | None = None
    source_files: dict[str, ExplainedFile] = field(default_factory=dict)
    picture: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    @property
    def flags(self) -> list[str]:
        """Return the names of the detection's flags."""
        return [flag.name or "" for flag in DetectionFlag(self.detection.get("flags") or 0)]

    def values(self) -> dict[str, Any]:
        """Return all fields as JSON-serialisable values."""
        made = self.provenance.model_dump(mode="json") if self.provenance else None
        given = {**self.__dict__, "record": None, "provenance": None, "picture": None}
        record = self.record.model_dump(mode="json")
        told = asdict(Explanation(**given))
        del told["picture"]
        return {**told, "flags": self.flags, "record": record, "provenance": made}

    def __str__(self) -> str:
        words = explanation_words(self)
        wide = max(map(len, words)) + 2
        if "stages" in words:
            words["stages"] = fill(words["stages"], 120, subsequent_indent=wide * " ")
        return "\n".join(f"{name:<{wide}}{text}" for name, text in words.items())

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in explanation_words(self).items()
        )
        picture = "" if self.picture is None else self.picture()
        return f'<div>{picture}<table style="text-align: left">{"".join(rows)}</table></div>'


def explain_detection(out: Path, source_id: int, association: AssociationSettings) -> Explanation:
    """Return the pixels, models, settings and code behind a `diaSourceId`, and the object of the detection.

    Parameters
    ----------
    out
        Output folder.
    source_id
        Id of a published detection; or a `diaObjectId`, which stands for its first detection.
    association
        Settings of the store of objects.

    Raises
    ------
    Misconfigured
        It is not an output folder, there is no such detection, or the object has none any more (``object_ended``).
    BadInput
        A catalogue cannot be read.
    """
    require_output(out)
    ledger, possible = Ledger(out), 0 <= source_id < 2**63
    history = _history(out, source_id, association) if possible else None
    for wanted in (source_id, *(one["diaSourceId"] for one in (history.detections if history else ()))):
        visit, detector = exposure_of(wanted)
        for night in ledger.nights() if possible else ():
            if found := _in(out, ledger, night, visit, detector, wanted):
                return replace(found, history=history)
    if possible and (why := ending_of(out, source_id, association)) is not None:
        raise Misconfigured(
            "object_ended", str(out), f"has no object {source_id} any more: it {why}.",
            "give another id; it comes back with a detection at its place, and its forced photometry stays.",
        )  # fmt: skip
    raise Misconfigured(
        "no_detection",
        str(out),
        f"holds no detection {source_id}, nor an object of that id.",
        "give the diaSourceId of a published row; `nightstride status OUT` says what there is.",
    )


def _history(out: Path, identity: int, settings: AssociationSettings) -> DetectionHistory | None:
    found = object_of(out, identity, settings)
    return None if found is None else DetectionHistory(found.identity, found.detections.to_pylist(), found.beside)


def _in(out: Path, ledger: Ledger, night: str, visit: int, detector: int, source_id: int) -> Explanation | None:
    record = ledger.get(ExposureKey(night=night, visit=visit, detector=detector))
    if record is None or DIA_SOURCE.name not in record.datasets:
        return None
    _, table = read_described(CatalogStore(out).path(DIA_SOURCE, record.key))  # of whatever version
    rows = table.filter(pc.equal(table["diaSourceId"], source_id)).to_pylist()
    if not rows:
        return None
    tiles = tile_path(out, record.key)
    provenance = ledger.provenance(record.provenance)
    settings = recorded_settings(provenance) if provenance else settings_class()()
    files = _files(record, settings)
    return Explanation(
        detection=rows[0],
        source_uri=record.source_uri,
        source_sha256=record.source_sha256,
        source_state=_state_of(record, files, settings),
        source_files=files,
        cutout=cutout_of(rows[0]["x"], rows[0]["y"], rows[0]["bboxSize"]),
        tiles=tiles.relative_to(out).as_posix(),
        tiles_digest=_tiles_digest(tiles),
        catalogues={name: (_place(out, entry.path), entry.digest) for name, entry in record.datasets.items()},
        record=record,
        provenance=provenance and provenance.model_copy(update={"models": search_models(provenance)}),
        motion=detection_motion(out, night, source_id),
        known=_known(out, record, source_id),
    )


def _files(record: ExposureRecord, settings: Settings) -> dict[str, ExplainedFile]:
    if not record.source_files:
        return {}
    states = file_states(record.source_sha256, settings, record.source_files)
    return {plane: ExplainedFile(file.uri, file.sha256, states[plane]) for plane, file in record.source_files.items()}


def _state_of(record: ExposureRecord, files: Mapping[str, ExplainedFile], settings: Settings) -> State:
    """Return the state of all files of an exposure together."""
    if not files:
        return source_state(record.source_uri, record.source_sha256, settings)
    states = {file.state for file in files.values()}
    return next((state for state in ("unreachable", "changed") if state in states), "unchanged")


def _known(out: Path, record: ExposureRecord, source_id: int) -> dict[str, Any] | None:
    if SS_SOURCE.name not in record.datasets:
        return None
    found = CatalogStore(out).read(SS_SOURCE, record.key)
    return next(iter(found.filter(pc.equal(found["diaSourceId"], source_id)).to_pylist()), None)


def _place(out: Path, path: str) -> str:
    """Return the file that a catalogue lies in, its own or one of many exposures."""
    one = held(out / path)
    return path if one is None else one.part.relative_to(out).as_posix()


def cutout_of(x: float, y: float, size: int) -> PixelCutout:
    """Return a square of a given side around a position, 0-based px; at the edge it extends beyond the image.

    The FITS section counts from 1 and includes both ends.
    """
    x0, y0 = round(x - (size - 1) / 2), round(y - (size - 1) / 2)
    return PixelCutout((x0, x0 + size), (y0, y0 + size), f"[{x0 + 1}:{x0 + size},{y0 + 1}:{y0 + size}]")


def _tiles_digest(path: Path) -> str | None:
    try:
        return TileStore.open(path).digest
    except BadInput:
        return None


def settings_changes(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a record that differ from the defaults: name, with its section, to value.

    Parameters
    ----------
    recorded
        Section -> key -> value, as a `schemas.ledger.ProvenanceRecord` has them; a key that this version does not know
        counts as changed.
    """
    defaults = dict(_flat({name: field.default for name, field in settings_class().model_fields.items()}))
    return {name: value for name, value in _flat(recorded) if name not in defaults or defaults[name] != value}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        if isinstance(plain, Mapping) and plain:
            yield from _flat(plain, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain


def explanation_words(found: Explanation) -> dict[str, str]:
    """Return the facts on a detection, by name, in the order of display."""
    record, row = found.record, found.detection
    return {
        "detection": f"{row['diaSourceId']}, x {row['x']:.2f}, y {row['y']:.2f}, S/N {row['snr']:.1f}, "
        f"reliability {row['reliability']:.3f}",
        **_sky_words(row),
        "flags": ", ".join(found.flags) or "none",
        "exposure": f"night {record.night}, visit {record.visit}, detector {record.detector}",
        **_known_words(found),
        **_motion_words(found),
        **_file_words(found),
        "pixels": f"x {found.cutout.x[0]} to {found.cutout.x[1] - 1}, y {found.cutout.y[0]} to {found.cutout.y[1] - 1} "
        f"(0-based); FITS section {found.cutout.section}",
        "tiles": f"{found.tiles}, digest {found.tiles_digest or 'none: not there'}",
        **{f"catalogue {name}": f"{path}, digest {digest}" for name, (path, digest) in found.catalogues.items()},
        "made": f"{record.finished_at} by nightstride {record.software}",
        **_origin_words(found),
        **_history_words(found),
    }


def _file_words(found: Explanation) -> dict[str, str]:
    """Return the file of the exposure and its digest, or those of each of its planes."""
    if not found.source_files:
        return {"file": f"{found.source_uri} ({found.source_state})", "sha256": found.source_sha256}
    told = dict[str, str]()
    for plane, file in found.source_files.items():
        told[f"file {plane}"] = f"{file.uri} ({file.state})"
        told[f"sha256 {plane}"] = file.sha256 or "not kept by itself"
    return told | {"sha256 of all": found.source_sha256}


def _origin_words(found: Explanation) -> dict[str, str]:
    """Return models, stages, code, and the settings that differ from the defaults."""
    made = found.provenance
    if made is None:
        return {}
    models = {
        f"model {name}": f"{card.name} {card.version}, sha256 {card.sha256}" for name, card in made.models.items()
    }
    stages = ", ".join(f"{name} {version}" for name, version in made.stages.items())
    told = {f"setting {name}": json.dumps(value) for name, value in settings_changes(made.settings).items()}
    rest = f"all {'others ' if told else ''}are the defaults of this version; --json has them"
    return {**models, "stages": stages, "code": made.code, **told, "settings": rest}


def _history_words(found: Explanation) -> dict[str, str]:
    """Return the object at rest, and each of its detections."""
    history = found.history
    if history is None:
        return {}
    told = {
        "object": f"diaObjectId {history.diaObjectId}, {count(len(history.detections), 'detection')} in "
        f"{count(len(history.nights), 'night')}"
    }
    if history.beside:
        told["beside"] = f"{', '.join(map(str, history.beside))}: so near that both may be one object"
    for one in history.detections:
        flux = "no flux" if one["psfFlux"] is None else measured(one["psfFlux"], one["psfFluxErr"], 0, " nJy")
        told[f"seen {one['diaSourceId']}"] = (
            f"{one['night']}, MJD {one['midpointMjdTai']:.5f}, {one['band']}, {flux}, {one['separation']:.2f} arcsec"
        )
    return told


def _sky_words(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the position on the sky in degrees, and in the notations of catalogues and telescopes."""
    ra, dec = row.get("ra"), row.get("dec")
    if ra is None or dec is None:
        return {"sky": "not known: the image has no WCS"}
    hours, degrees = (text.replace(" ", ":") for text in sexagesimal(ra, dec))
    return {"sky": f"RA {ra:.6f}, Dec {dec:+.6f} deg (ICRS); {hours} {degrees}"}


def _known_words(found: Explanation) -> dict[str, str]:
    row = found.known
    if row is None:
        return {}
    off = f"{row['ephOffsetAlongTrack']:+.2f} arcsec along, {row['ephOffsetCrossTrack']:+.2f} across from its ephemeris"
    bright = "" if row["ephVmag"] is None else f", V {row['ephVmag']:.1f}"
    return {"known object": f"{row['designation']}{bright}, {row['ephRate']:.4f} deg/day, {off}"}


def _motion_words(found: Explanation) -> dict[str, str]:
    motion = found.motion
    if motion is None:
        return {"motion": "not linked"}
    if motion.tracklet is None:
        what = "at rest: seen again at its place" if motion.stationary else "neither at rest nor in a tracklet"
        return {"motion": what, **_link_words(motion)}
    row = motion.tracklet
    told = {
        "tracklet": f"{row['trackletId']}, {count(row['nSources'], 'detection')}, {row['rate']:.4f} deg/day at "
        f"position angle {row['positionAngle']:.1f} deg, rms {row['rms']:.2f} arcsec, {row['chance']:.1g} by chance"
    }
    for one in motion.members:
        off = f"{one['alongOffset']:+.2f} arcsec along, {one['acrossOffset']:+.2f} across"
        told[f"of it {one['diaSourceId']}"] = f"MJD {one['midpointMjdTai']:.5f} TAI, {off}"
    return told | _link_words(motion)


def _link_words(motion: DetectionMotion) -> dict[str, str]:
    """Return the link over nights, and each of its detections."""
    if not motion.link:
        return {}
    row = motion.link[0]
    name = f" of {row['designation']}" if row["designation"] else ""
    told = {
        "link": f"{row['linkId']}{name}, {count(row['nSources'], 'detection')} in {count(row['nNights'], 'night')}, "
        f"a {row['a']:.3f} au, e {row['e']:.3f}, i {row['i']:.2f} deg, rms {row['linkRms']:.2f} arcsec"
    }
    for one in motion.link:
        told[f"linked {one['diaSourceId']}"] = f"{one['sourceNight']}, MJD {one['midpointMjdTai']:.5f} TAI"
    return told
