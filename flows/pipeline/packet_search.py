"""Search of the difference stamp of an alert packet, treated as an exposure on a canvas of masked pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.inputs.probe import WIDEST_PX
from flows.inputs.ztf_packets import EXPOSURE_S, WIDENED_PX2, PacketIdentity, ZtfPacket
from flows.pipeline.graph import OF_EXPOSURE, resolve
from flows.pipeline.models import model_digests, model_name
from flows.pipeline.search_pixels import search_pixels
from flows.pipeline.weights import read_card
from flows.runtime.traces import Timer
from flows.storage.digest import digest
from kernels.image.noise import background_and_noise, noise_correlation
from kernels.psf.seeing import fit_stars
from schemas.dia_source import DIA_SOURCE, HIT, SearchCounts
from schemas.exposure import ExposureInfo, PsfModel
from schemas.packet_source import FOUND, PacketFlag
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import Settings
from schemas.stage import Result
from stages import PIPELINE

VERSION = "2"
"""Changes whenever the same packet would give another row."""

CANVAS = 111
CENTRE = 55
"""Row and column of the alert's pixel on the canvas: within half a pixel of the centre of a search window."""

WITHIN_PX = 5.0
"""Distance within which a detection is that of the alert."""

GAIN = 6.2
"""Electrons per DN of ZTF (Dekany et al. 2020, PASP 132, 038001)."""

SCALE_ARCSEC = 1.0127
"""Pixel scale of ZTF, arcsec: from the positions of 436 pairs of alerts on the same images, 1.0123 to 1.0133."""

MOST_DEC = 75.0
"""Maximum declination, deg, for which a nominal direction of north is used: see `nominal_turn`."""

ASSUMED_PSF = PsfModel(fwhm_px=2.0, beta=3.0, source="assumed")
"""PSF with ZTF's median seeing, 2 arcsec."""

_NARROWEST = 0.5  # px
_HALF_FIELD = 3.7
_PATCH = 64


class PacketResult(NamedTuple):
    """Row of a packet, with counts and times of its search.

    Attributes
    ----------
    row
        Column of `ztf_packet_source` -> value.
    windows, unscored
        Numbers of places searched, and of those without a score.
    seconds
        Stage -> time, s.
    """

    row: Mapping[str, Any]
    windows: int
    unscored: int
    seconds: Mapping[str, float]


def least_reliability(settings: Settings) -> float:
    """Return the least reliability of a published detection, from the settings or the model's card."""
    own = settings.measure.min_reliability
    return own if own is not None else read_card("reliability", model_name("reliability", settings)).threshold


def search_digest(settings: Settings) -> str:
    """Return the digest of the search of packets: models, settings and versions of the stages up to `dia_source`.

    Raises
    ------
    Misconfigured
        A model is missing.
    """
    graph = resolve(PIPELINE, ("difference", "mask", "science"), OF_EXPOSURE)
    stages = graph.towards({DIA_SOURCE.name})
    versions = {stage.name: stage.version for stage in stages}
    sections = {stage.name: stage.section(settings) for stage in stages}
    return digest("ztf_packet_source", VERSION, versions, sections, model_digests(stages, settings))


def row_digest(identity: PacketIdentity, searched_with: str) -> str:
    """Return the digest of the row of a packet; ``searched_with`` is `search_digest`."""
    return digest(identity.digest, searched_with)


def search_packet(packet: ZtfPacket, identity: PacketIdentity, settings: Settings) -> PacketResult:
    """Search the difference stamp of a packet; return the detection at its alert.

    The result depends only on the packet and the settings: noise, its correlation and the PSF are measured on the
    packet's own stamps.

    Parameters
    ----------
    packet, identity
        Packet and its identity.
    settings
        Settings of a run.

    Returns
    -------
    PacketResult
        Columns of the detection are null if none lies within 5 px of the alert.

    Raises
    ------
    BadInput
        There are too many candidates on the stamp.
    Misconfigured
        A model is missing.
    """
    exposure = packet_exposure(packet)
    timer, found = Timer(spans=False), DIA_SOURCE.empty()
    counts = SearchCounts(0, 0, SearchGrid())
    empty = not _level(packet)[1] > 0
    if not empty:
        results = search_stamp(packet_planes(packet, exposure), exposure, settings, timer)
        found, counts = results[DIA_SOURCE.name].rows, results[HIT.name].numbers
    row = {
        **_described(packet, exposure, empty=empty),
        **_at_alert(packet, found, least_reliability(settings)),
        "digest": row_digest(identity, search_digest(settings)),
    }
    return PacketResult(row, counts.windows, counts.unscored, timer.seconds())


def search_stamp(
    planes: Mapping[str, Any], exposure: ExposureInfo, settings: Settings, timer: Timer | None = None
) -> Mapping[str, Result]:
    """Search a stamp on its canvas; return the measured candidates, whatever their reliability.

    Parameters
    ----------
    planes, exposure
        Results of `packet_planes` and `packet_exposure`.
    settings
        Settings of a run.
    timer
        Receives the times of the stages.

    Returns
    -------
    dict
        Dataset -> result.

    Raises
    ------
    BadInput, Misconfigured
        As in `search_packet`.
    """
    measured = settings.measure.model_copy(update={"min_reliability": 0.0})
    settings = settings.model_copy(update={"measure": measured})
    return search_pixels(planes, exposure, settings, whole=True, timer=timer)


def packet_exposure(packet: ZtfPacket) -> ExposureInfo:
    """Return the metadata of a packet's stamp as an exposure on a canvas, with the alert's pixel at `CENTRE`.

    Noise, its correlation and the PSF are measured on the packet's own stamps (`own_psf`).
    """
    background, noise = _level(packet)
    wcs = nominal_wcs(packet)
    zero_point = packet.zero_point if math.isfinite(packet.zero_point) else None
    return ExposureInfo(
        **packet.key.model_dump(),
        instrument="ZTF",
        band=packet.band,
        midpoint_mjd_tai=packet.when.midpoint_mjd_tai,
        exposure_time_s=EXPOSURE_S if math.isnan(packet.exposure_s) else packet.exposure_s,
        shape=(CANVAS, CANVAS),
        is_part=True,
        zero_point=zero_point,
        gain=GAIN,
        wcs_header=wcs,
        psf=own_psf(packet),
        background=background,
        noise=noise if noise > 0 else 1.0,
        noise_correlation=tuple(map(tuple, noise_correlation_of((packet,)).tolist())),
        masked_fraction=1 - packet.pixels.size / CANVAS**2,
        source_uri=f"candid {packet.candid}",
        source_sha256="0" * 64,
        flags=tuple(name for name, value in (("no_wcs", wcs), ("no_zero_point", zero_point)) if value is None),
    )


def packet_planes(packet: ZtfPacket, exposure: ExposureInfo) -> dict[str, NDArray[Any]]:
    """Return the planes of a packet's stamp on the canvas, in the form needed by `search_pixels`."""
    pixels, mask = on_canvas(packet, packet.pixels)
    planes: dict[str, NDArray[Any]] = {
        "difference": np.where(np.isfinite(pixels), pixels, np.float32(exposure.background)),
        "mask": mask,
    }
    if packet.science is not None:
        planes["science"] = on_canvas(packet, packet.science)[0]
    return planes


def on_canvas(packet: ZtfPacket, cut: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Return the stamp on a square of masked pixels, with the alert's pixel at `CENTRE`, and the mask."""
    pixels = np.full((CANVAS, CANVAS), np.nan, np.float32)
    y0, x0 = CENTRE - packet.row, CENTRE - packet.column
    pixels[y0 : y0 + cut.shape[0], x0 : x0 + cut.shape[1]] = cut
    return pixels, np.where(np.isfinite(pixels), 0, MaskPlane.NO_DATA).astype(np.uint16)


def place_on_canvas(packet: ZtfPacket) -> tuple[float, float]:
    """Return the position of the alert on the canvas, px, 0-based."""
    dx, dy = packet.offset
    return CENTRE + dx, CENTRE + dy


def noise_correlation_of(packets: Sequence[ZtfPacket]) -> NDArray[np.float64]:
    """Return the joint autocorrelation of the noise of all stamps, each in units of its own noise."""
    row = np.full((_PATCH, _PATCH * len(packets)), np.nan, np.float32)
    for i, packet in enumerate(packets):
        background, noise = _level(packet)
        ny, nx = packet.pixels.shape
        row[:ny, i * _PATCH : i * _PATCH + nx] = (packet.pixels - background) / (noise or 1.0)
    usable = np.isfinite(row)
    return noise_correlation(np.where(usable, row, np.float32(0)), usable, 0.0, 1.0)


def _level(packet: ZtfPacket) -> tuple[float, float]:
    """Return background and noise; the noise is 0 if no usable pixels differ."""
    usable = np.isfinite(packet.pixels)
    if not usable.any() or np.ptp(packet.pixels[usable]) == 0:
        return 0.0, 0.0
    return background_and_noise(packet.pixels, usable)


def own_psf(packet: ZtfPacket) -> PsfModel:
    """Return the PSF of a packet: from the median star on its science stamp, else from the packet, else assumed."""
    stars = stars_of(packet)
    if len(stars):
        fwhm, beta = np.median(stars, axis=0)[2:].tolist()
        return PsfModel(fwhm_px=fwhm, beta=beta, source="image")
    if packet.image_fwhm**2 > WIDENED_PX2 + _NARROWEST**2 and packet.image_fwhm <= WIDEST_PX:
        return PsfModel(fwhm_px=math.sqrt(packet.image_fwhm**2 - WIDENED_PX2), source="header")
    return ASSUMED_PSF


def stars_of(packet: ZtfPacket) -> NDArray[np.float64]:
    """Return the stars on the science stamp, as `fit_stars` does."""
    if packet.science is None:
        return np.empty((0, 4))
    usable = np.isfinite(packet.science)
    background, noise = background_and_noise(packet.science, usable) if usable.any() else (0.0, 0.0)
    if not noise > 0:
        return np.empty((0, 4))
    return fit_stars(packet.science, usable, background, noise)


def nominal_wcs(packet: ZtfPacket) -> str | None:
    """Return a nominal WCS of the canvas, tangent at the packet's position of the alert; None if it cannot be used.

    Stamps have no WCS. ZTF images have south up and west right, because the telescope has an equatorial mount and the
    camera is fixed on it. The direction of north changes across a field by less than `nominal_turn`.
    """
    if not (math.isfinite(packet.ra) and math.isfinite(packet.dec)) or abs(packet.dec) > MOST_DEC:
        return None
    x, y = place_on_canvas(packet)
    scale = SCALE_ARCSEC / 3600
    cards: dict[str, str | float] = {
        "CTYPE1": "'RA---TAN'", "CTYPE2": "'DEC--TAN'", "CUNIT1": "'deg     '", "CUNIT2": "'deg     '",
        "CRVAL1": packet.ra, "CRVAL2": packet.dec, "CRPIX1": x + 1, "CRPIX2": y + 1,
        "CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": -scale,
    }  # fmt: skip
    return "\n".join(
        f"{name:8}= {value if isinstance(value, str) else repr(float(value)):>20}" for name, value in cards.items()
    )


def nominal_turn(dec: float) -> float:
    """Return the largest angle between north and that of `nominal_wcs`, deg.

    At the edge of a field, 3.7 deg from its centre in right ascension at the equator, meridians are tilted by their
    convergence, 3.7 tan(dec). Pairs of alerts give at most 1.7 deg at a declination of 28 deg, and 4.1 deg at 61 deg.
    """
    return _HALF_FIELD * math.tan(math.radians(abs(dec)))


def _described(packet: ZtfPacket, exposure: ExposureInfo, *, empty: bool) -> dict[str, Any]:
    """Return the columns that come from the packet itself."""
    flags = {
        PacketFlag.TRUNCATED: packet.truncated,
        PacketFlag.FAINTER: not packet.positive,
        PacketFlag.NOMINAL_WCS: exposure.wcs_header is not None,
        PacketFlag.ASSUMED_EXPOSURE_TIME: math.isnan(packet.exposure_s),
        PacketFlag.NO_SCIENCE: packet.science is None,
        PacketFlag.EMPTY: empty,
    }
    told = {
        "packetRa": packet.ra,
        "packetDec": packet.dec,
        "packetMag": packet.magnitude,
        "packetMagErr": packet.magnitude_err,
        "zeroPoint": packet.zero_point,
        "rb": packet.rb,
        "drb": packet.drb,
        "ssDistance": packet.known_distance,
    }
    return {
        "candid": packet.candid,
        "objectId": packet.object_id,
        "visit": exposure.visit,
        "detector": exposure.detector,
        "band": packet.band,
        "jd": packet.jd,
        "midpointMjdTai": exposure.midpoint_mjd_tai,
        "exposureTime": exposure.exposure_time_s,
        "packetX": packet.x,
        "packetY": packet.y,
        "brighter": packet.positive,
        **{name: value if math.isfinite(value) else None for name, value in told.items()},
        "ssName": packet.known_name,
        "psfFwhm": exposure.psf.fwhm_px,
        "packetFlags": sum(flag for flag, is_so in flags.items() if is_so),
    }


def _at_alert(packet: ZtfPacket, found: pa.Table, least: float) -> dict[str, Any]:
    """Return the columns of the most reliable detection within 5 px of the alert; null if there is none."""
    x, y = place_on_canvas(packet)
    distance = np.hypot(found["x"].to_numpy() - x, found["y"].to_numpy() - y)
    reliability = np.where(distance <= WITHIN_PX, found["reliability"].to_numpy(), -np.inf)
    none = dict.fromkeys(("alertDistance", "x", "y", *FOUND)) | {"nCandidates": len(found), "detected": False}
    if not np.isfinite(reliability).any():
        return none
    best = int(np.lexsort((distance, -reliability))[0])
    chosen = found.slice(best, 1).to_pylist()[0]
    away = float(distance[best])
    return {
        **none,
        **{name: chosen[name] for name in FOUND},
        **_widened(packet, chosen, away),
        "alertDistance": away,
        "x": chosen["x"] - x + packet.x,
        "y": chosen["y"] - y + packet.y,
        "detected": bool(chosen["reliability"] >= np.float32(least)),
    }


def _widened(packet: ZtfPacket, chosen: Mapping[str, Any], away: float) -> dict[str, Any]:
    """Return the errors on the sky, including that of the nominal direction of north."""
    if chosen["ra"] is None:
        return {}
    turn = nominal_turn(packet.dec)
    added = away * SCALE_ARCSEC / 3600 * math.radians(turn)
    grown = {"raErr": added, "decErr": added, "trailAngleErr": turn}
    return {name: math.hypot(chosen[name], more) for name, more in grown.items() if chosen[name] is not None}
