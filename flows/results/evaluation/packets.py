"""Difference stamps from ZTF alert packets."""

import gzip
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flows.runtime.settings import require_there
from schemas.errors import BadInput, Misconfigured

SIDE = 63
KNOWN_WITHIN_ARCSEC = 2.0
"""A predicted asteroid so near is taken for the source; without one packets hold -999 or the search radius, 60."""


@dataclass(frozen=True)
class PacketStamp:
    """Difference stamp of one alert.

    Attributes
    ----------
    candid
        Identity of the alert.
    image
        Identity of the exposure and readout channel it was cut from.
    pixels : (ny, nx) float32
        Science less reference, DN; 63 x 63, or less where the edge of the image cuts it. NaN where there is no value.
    science : (ny, nx) float32
        The science image there.
    x, y
        Place of the alert on it, 0-based px.
    positive
        Brighter than the reference.
    known_asteroid
        A predicted asteroid lies within 2 arcsec.
    rb
        Real-bogus score of the packet: a machine's opinion, not truth. NaN where it has none.
    jd, band
        Start of the exposure; ZTF's number of the filter.
    """

    candid: int
    image: int
    pixels: NDArray[np.float32]
    science: NDArray[np.float32]
    x: float
    y: float
    positive: bool
    known_asteroid: bool
    rb: float
    jd: float
    band: str

    @property
    def truncated(self) -> bool:
        """Return whether the edge of the image cuts it."""
        return self.pixels.shape != (SIDE, SIDE)


def read_stamps(path: Path) -> Iterator[PacketStamp]:
    """Read alert packets: one Avro file, a folder of them (also below it), or a tarball.

    Raises
    ------
    Misconfigured
        There is nothing to read, or ``fastavro`` is not installed.
    BadInput
        A file is not an alert packet of ZTF.
    """
    found = False
    for name, stream in _streams(path):
        for packet in _packets(name, stream):
            found = True
            yield _stamp(name, packet)
    if not found:
        raise Misconfigured("no_packets", str(path), "holds no alert packets.", "name a folder or tarball of *.avro.")


def _streams(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    require_there(path, "a folder or tarball of *.avro with --stamps.")
    try:
        if path.is_file() and tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name.endswith(".avro") and (stream := archive.extractfile(member)) is not None:
                        yield member.name, BytesIO(stream.read())
            return
        for file in sorted(path.rglob("*.avro")) if path.is_dir() else [path]:
            yield str(file), BytesIO(file.read_bytes())
    except (OSError, tarfile.TarError) as error:
        raise Misconfigured(
            "unreadable_packets", str(path), f"cannot be read: {error}.", "name a folder or tarball of *.avro."
        ) from error


def _packets(name: str, stream: BinaryIO) -> Iterator[Mapping[str, Any]]:
    try:
        import fastavro
    except ModuleNotFoundError as error:
        raise Misconfigured(
            "no_fastavro", "fastavro", "is not installed, and alert packets are Avro.", "pip install 'fastavro>=1.12'."
        ) from error
    try:
        yield from fastavro.reader(stream)
    except (ValueError, EOFError, KeyError, IndexError) as error:
        raise BadInput("bad_packet", name, f"is not a readable Avro file: {error}.", "leave the file out.") from error


def _stamp(name: str, packet: Mapping[str, Any]) -> PacketStamp:
    try:
        candidate = packet["candidate"]
        positive = candidate["isdiffpos"] in ("t", "1")
        pixels = _pixels(packet["cutoutDifference"]["stampData"])
        return PacketStamp(
            candid=int(packet["candid"]),
            image=int(candidate["pid"]),
            # Of what is fainter than the reference, packets hold reference less science.
            pixels=pixels if positive else -pixels,
            science=_pixels(packet["cutoutScience"]["stampData"]),
            x=_place(candidate["xpos"], pixels.shape[1]),
            y=_place(candidate["ypos"], pixels.shape[0]),
            positive=positive,
            known_asteroid=0 <= _number(candidate["ssdistnr"]) <= KNOWN_WITHIN_ARCSEC,
            rb=_number(candidate["rb"]),
            jd=float(candidate["jd"]),
            band=str(candidate["fid"]),
        )
    except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise BadInput(
            "bad_packet", name, f"is not an alert packet of ZTF: {type(error).__name__}: {error}.", "leave it out."
        ) from error


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _place(position: float, size: int) -> float:
    """Return the place of the alert along an axis: the middle, unless the low edge of the image cuts the stamp.

    ``position`` is that on the image, whose first pixel has coordinate 1.
    """
    middle = SIDE // 2
    return position - 1.0 if size < SIDE and position - 1.0 < middle else float(middle)


def _pixels(data: bytes) -> NDArray[np.float32]:
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyWarning

    with warnings.catch_warnings():
        # Some stamps write SIMPLE one column off.
        warnings.simplefilter("ignore", VerifyWarning)
        content = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        with fits.open(BytesIO(content), memmap=False) as units:
            return np.asarray(units[0].data, np.float32)
