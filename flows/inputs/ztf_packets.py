"""Alert packets of ZTF (Masci et al. 2019, PASP 131, 018003, section 6.5): contents and stamps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flows.inputs.fits_damage import damage
from flows.inputs.fits_header import When, middle
from flows.inputs.fits_io import unzipped
from flows.inputs.fits_ztf import BANDS, PALOMAR_LONGITUDE
from flows.storage.digest import digest
from schemas.errors import BadInput
from schemas.exposure import ExposureKey

SIDE = 63
"""Side of a stamp, px; smaller if cut by the edge of the image."""

EXPOSURE_S = 30.0
"""Exposure time of the public survey, assumed if a packet does not state it."""

KNOWN_WITHIN_ARCSEC = 2.0
"""Distance up to which a predicted asteroid is taken to be the source; packets without one hold -999 or 60."""

MOST_STAMP = 2**20
"""Maximum unpacked size of a stamp, bytes; it normally takes 23 kB."""

WIDENED_PX2 = 3.5
"""Excess of ZTF's image width over that of its PSF, in squares, px2: on the stamps of 54 known asteroids, in two sets,
stars are 1.01 and 0.97 times as wide as this predicts."""

STAMPS = ("cutoutDifference", "cutoutScience", "cutoutTemplate")

LONGEST_S = 86_400.0
"""Limit of plausible exposure times, s."""

POSITIVE = {"t": True, "1": True, "f": False, "0": False}
"""Value of ``isdiffpos`` -> whether the source is brighter than the reference."""

_UNKNOWN = -999.0  # in packets
_FAINTEST = 60.0  # mag: limit of plausible zero points
_MIDDLE = SIDE // 2
_REMEDY = "fetch the packet again, or leave it out."


class PacketIdentity(NamedTuple):
    """Identity of a packet, read without its stamps.

    Attributes
    ----------
    candid
        Identity of the alert.
    key
        Exposure and readout channel: visit is ZTF's ``expid``, detector its ``rcid``.
    digest
        Digest of everything that a search depends on: packets with the same digest are copies, whatever their files.
    """

    candid: int
    key: ExposureKey
    digest: str


@dataclass(frozen=True)
class ZtfPacket:
    """Alert packet. Numbers missing in it are NaN.

    Attributes
    ----------
    candid, object_id
        Identities of the alert and of the object.
    image, detector
        Identity of the image (``pid``) and its readout channel (``rcid``).
    pixels : (ny, nx) float32
        Science minus reference, DN; 63 x 63, or less if cut by the edge of the image. NaN where there is no value.
    science, template : (ny, nx) float32
        Science image and reference; None if the packet has none of this shape.
    x, y
        Position of the alert in the image, px, 0-based.
    column, row
        Pixel of the stamp that contains it, 0-based.
    positive
        Whether it is brighter than the reference.
    jd
        Start of the exposure, UTC.
    band
        g, r or i.
    exposure_s
        Exposure time, s; NaN if the packet does not tell.
    ra, dec
        Position, deg.
    magnitude, magnitude_err
        AB magnitude of a point source at its position, and its error.
    zero_point
        AB magnitude of 1 DN.
    known_distance, known_name
        Distance to the nearest known asteroid, arcsec (below 0: none), and its name.
    image_fwhm
        Width of the image's PSF as measured by ZTF, px: ``fwhm`` times ``seeratio``, which is the same for all alerts
        in an image. ``fwhm`` alone is that of the source.
    rb, drb
        Real-bogus scores in the packet: a machine's opinion, not truth.
    """

    candid: int
    image: int
    pixels: NDArray[np.float32]
    science: NDArray[np.float32] | None
    x: float
    y: float
    column: int
    row: int
    positive: bool
    jd: float
    band: str
    detector: int = 0
    template: NDArray[np.float32] | None = None
    object_id: str = ""
    exposure_s: float = math.nan
    ra: float = math.nan
    dec: float = math.nan
    magnitude: float = math.nan
    magnitude_err: float = math.nan
    zero_point: float = math.nan
    known_distance: float = math.nan
    known_name: str | None = None
    image_fwhm: float = math.nan
    rb: float = math.nan
    drb: float = math.nan

    @property
    def truncated(self) -> bool:
        """Return whether the edge of the image cuts the stamp."""
        return self.pixels.shape != (SIDE, SIDE)

    @property
    def known_asteroid(self) -> bool:
        """Return whether a predicted asteroid is within 2 arcsec."""
        return 0 <= self.known_distance <= KNOWN_WITHIN_ARCSEC

    @property
    def offset(self) -> tuple[float, float]:
        """Return the offset of the alert from the centre of its pixel along x and y, px."""
        return self.x - math.floor(self.x + 0.5), self.y - math.floor(self.y + 0.5)

    @property
    def when(self) -> When:
        """Return the middle of the exposure, MJD TAI, and its night.

        ``jd`` is its start; a missing exposure time is taken to be the 30 s of the public survey.
        """
        return _when(self.jd, EXPOSURE_S if math.isnan(self.exposure_s) else self.exposure_s, f"candid {self.candid}")

    @property
    def key(self) -> ExposureKey:
        """Return the exposure: visit is ZTF's ``expid``, the beginning of ``pid``, detector its ``rcid``."""
        return ExposureKey(night=self.when.night, visit=packet_visit(self.image, self.detector), detector=self.detector)


@lru_cache(1024)
def _when(jd: float, exposure_s: float, where: str) -> When:
    return middle(jd, name="jd", where=where, exposure_time_s=exposure_s, longitude_deg=PALOMAR_LONGITUDE, form="jd")


def require_ztf(schema: Mapping[str, Any], where: str) -> None:
    """Refuse a container whose schema is not that of ZTF's alerts.

    Raises
    ------
    BadInput
        ``other_packet``; the message identifies Rubin's alerts.
    """
    names = {field["name"] for field in schema.get("fields", ())}
    if {"candid", "candidate"} <= names:
        return
    kind = f"are {schema.get('name', 'records')!r}"
    if "diaSource" in names or str(schema.get("name", "")).startswith("lsst."):
        kind = "are alerts of the Rubin Observatory"
    raise BadInput(
        "other_packet", where, f"its records {kind}, not alerts of ZTF.", "name packets that have candid and candidate."
    )


def identify(record: Mapping[str, Any], where: str) -> PacketIdentity:
    """Return the identity of an alert and a digest of what its search depends on; no stamp is unpacked.

    Parameters
    ----------
    record
        Record as decoded from Avro.
    where
        Its name, for messages.

    Raises
    ------
    BadInput
        ``bad_packet``: a required field is missing or has no valid value.
    """
    fields = _Fields(record, where)
    image, detector, candid = fields.whole("pid"), _detector(fields), _candid(record, where)
    exposure_s = fields.within("exptime", LONGEST_S)
    when = _when(fields.needed("jd"), EXPOSURE_S if math.isnan(exposure_s) else exposure_s, where)
    try:
        key = ExposureKey(night=when.night, visit=packet_visit(image, detector), detector=detector)
    except ValidationError as error:
        raise _bad(where, f"its pid is {image} and its rcid {detector}") from error
    stamps = {name: _data(record, name) for name in STAMPS}
    content = {"candid": candid, "objectId": _text(record.get("objectId"))}
    return PacketIdentity(candid, key, digest(content, stamps, {name: fields.value(name) for name in _READ}))


_READ = (
    "pid", "rcid", "jd", "fid", "isdiffpos", "xpos", "ypos", "exptime", "ra", "dec", "magpsf", "sigmapsf", "magzpsci",
    "ssdistnr", "ssnamenr", "fwhm", "seeratio", "rb", "drb",
)  # fmt: skip


def read_packet(record: Mapping[str, Any], where: str) -> ZtfPacket:
    """Return a packet with its stamps.

    Parameters
    ----------
    record
        Record as decoded from Avro.
    where
        Its name, for messages.

    Raises
    ------
    BadInput
        ``bad_packet``: a required field is missing or has no valid value, or the alert is not on its stamp;
        ``no_stamp``: there is no difference stamp; for stamps: ``truncated``, ``bad_checksum``, ``damaged``,
        ``too_large``, ``wrong_dimensions``.
    """
    fields = _Fields(record, where)
    positive = _positive(fields.value("isdiffpos"), where)
    pixels = stamp_pixels(record, "cutoutDifference", where)
    if pixels is None:
        raise BadInput("no_stamp", where, "has no difference stamp.", _REMEDY)
    beside = {name: stamp_pixels(record, name, where) for name in STAMPS[1:]}
    same = {name: cut if cut is not None and cut.shape == pixels.shape else None for name, cut in beside.items()}
    x, y = fields.needed("xpos") - 1.0, fields.needed("ypos") - 1.0  # the first pixel is 1
    return ZtfPacket(
        candid=_candid(record, where),
        image=fields.whole("pid"),
        # For sources fainter than the reference, packets hold reference minus science.
        pixels=pixels if positive else -pixels,
        science=same["cutoutScience"],
        x=x,
        y=y,
        column=_pixel(x, pixels.shape[1], where),
        row=_pixel(y, pixels.shape[0], where),
        positive=positive,
        jd=fields.needed("jd"),
        band=_band(fields.whole("fid"), where),
        detector=_detector(fields),
        template=same["cutoutTemplate"],
        object_id=_text(record.get("objectId")),
        exposure_s=fields.within("exptime", LONGEST_S),
        ra=fields.angle("ra", 0, 360),
        dec=fields.angle("dec", -90, 90),
        magnitude=fields.number("magpsf"),
        magnitude_err=fields.number("sigmapsf"),
        zero_point=fields.within("magzpsci", _FAINTEST),
        known_distance=fields.number("ssdistnr"),
        known_name=_named(fields.value("ssnamenr")),
        image_fwhm=fields.number("fwhm") * fields.number("seeratio"),
        rb=fields.number("rb"),
        drb=fields.number("drb"),
    )


def stamp_pixels(record: Mapping[str, Any], name: str, where: str) -> NDArray[np.float32] | None:
    """Return the pixels of a stamp, FITS or gzipped FITS; None if the record has none.

    Parameters
    ----------
    record, name
        Record, and a name from `STAMPS`.
    where
        Name of the packet, for messages.

    Raises
    ------
    BadInput
        ``truncated``, ``bad_checksum``, ``damaged``, ``wrong_dimensions``; ``too_large``: it exceeds `MOST_STAMP`,
        beyond which nothing is unpacked.
    """
    from astropy.io import fits

    data, place = _data(record, name), f"{where}: {name}"
    if not data:
        return None
    content = unzipped(data, place, MOST_STAMP)
    if len(content) > MOST_STAMP:
        raise BadInput("too_large", place, f"has {len(content)} bytes, the limit is {MOST_STAMP}.", _REMEDY)
    with damage(place), fits.open(BytesIO(content), memmap=False) as units:
        # Checked before the pixels are read, as a header may say anything. Some write SIMPLE one column off.
        shape = tuple(int(units[0].header[f"NAXIS{axis}"]) for axis in range(int(units[0].header["NAXIS"]), 0, -1))
        if len(shape) != 2 or not 1 <= min(shape) <= max(shape) <= SIDE:
            raise BadInput("wrong_dimensions", place, f"has the shape {shape}, must be {SIDE} x {SIDE} px.", _REMEDY)
        return np.ascontiguousarray(units[0].data, np.float32)


class _Fields:
    """Fields of a record's ``candidate``."""

    def __init__(self, record: Mapping[str, Any], where: str) -> None:
        candidate = record.get("candidate")
        if not isinstance(candidate, Mapping):
            raise _bad(where, "it has no candidate")
        self._candidate, self._where = candidate, where

    def value(self, name: str) -> Any:
        return self._candidate.get(name)

    def number(self, name: str) -> float:
        """Return a number; NaN if there is none."""
        value = self.value(name)
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _bad(self._where, f"its {name} is {value!r}, must be a number")
        return float(value)

    def within(self, name: str, most: float) -> float:
        """Return a number; NaN if it is not from 0 to ``most``: `_UNKNOWN`, for one."""
        number = self.number(name)
        return number if 0 <= number <= most else math.nan

    def angle(self, name: str, least: float, most: float) -> float:
        """Return an angle, deg; NaN if there is none."""
        angle = self.number(name)
        if angle == _UNKNOWN:
            return math.nan
        if angle < least or angle > most:
            raise _bad(self._where, f"its {name} is {angle!r} deg, must be from {least} to {most}")
        return angle

    def needed(self, name: str) -> float:
        """Return a required number."""
        if not math.isfinite(number := self.number(name)):
            raise _bad(self._where, f"its {name} is {self.value(name)!r}, must be a number")
        return number

    def whole(self, name: str) -> int:
        """Return a required whole number."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise _bad(self._where, f"its {name} is {value!r}, must be a whole number from 0 on")
        return value


def _detector(fields: _Fields) -> int:
    """Return the readout channel: ``rcid``, or else the two digits of ``pid`` that repeat it."""
    return fields.whole("pid") // 100 % 100 if fields.value("rcid") is None else fields.whole("rcid")


def packet_visit(image: int, detector: int) -> int:
    """Return the exposure in ``pid``: all but the detector, which may have three digits in ours, and the version."""
    return (image - 100 * detector) // 10_000


def _bad(where: str, problem: str) -> BadInput:
    return BadInput("bad_packet", where, f"is not an alert packet of ZTF: {problem}.", _REMEDY)


def _candid(record: Mapping[str, Any], where: str) -> int:
    candid = record.get("candid")
    if isinstance(candid, bool) or not isinstance(candid, int) or candid < 0:
        raise _bad(where, f"its candid is {candid!r}, must be a whole number from 0 on")
    return candid


def _data(record: Mapping[str, Any], name: str) -> bytes:
    cutout = record.get(name)
    data = cutout.get("stampData") if isinstance(cutout, Mapping) else None
    return data if isinstance(data, bytes) else b""


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _named(value: Any) -> str | None:
    """Return the name of an asteroid; some packets have "null" if there is none."""
    return None if value in (None, "", "null") else str(value)


def _positive(value: Any, where: str) -> bool:
    if not isinstance(value, str) or value not in POSITIVE:
        raise _bad(where, f"its isdiffpos is {value!r}, must be t, 1, f or 0")
    return POSITIVE[value]


def _band(number: int, where: str) -> str:
    if number not in BANDS:
        raise _bad(where, f"its fid is {number}, must be one of {sorted(BANDS)}")
    return BANDS[number]


def _pixel(place: float, size: int, where: str) -> int:
    """Return the pixel of the stamp that contains a position in the image.

    It is the central one, as stamps are cut around the nearest pixel, unless the low edge of the image cuts the stamp.
    """
    on_image = math.floor(place + 0.5)
    pixel = on_image if size < SIDE and on_image < _MIDDLE else _MIDDLE
    if not 0 <= pixel < size:
        raise _bad(where, f"at {place:.1f} px of the image, it is not on its stamp of {size} px")
    return pixel
