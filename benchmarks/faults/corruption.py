"""Kinds of corrupt files."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from astropy.io import fits

CHECKSUMS = ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM")


def another_visit(original: Path, path: Path, number: int, **cards: object) -> None:
    """Write a copy of an exposure as another visit, with checksums; a card of None is left out."""
    with fits.open(original, disable_image_compression=True) as hdus:
        for hdu in hdus:
            if "EXPID" in hdu.header:
                hdu.header["EXPID"] += number
                for name, value in cards.items():
                    if value is None:
                        del hdu.header[name]
                    else:
                        hdu.header[name] = value
            for name in CHECKSUMS:
                hdu.header.remove(name, ignore_missing=True)
        hdus.writeto(path, checksum=True)


def truncated(content: bytes, rng: Random) -> bytes:
    """Cut somewhere in its second half."""
    return content[: rng.randrange(len(content) // 2, len(content) - 2880)]


def flipped(content: bytes, rng: Random) -> bytes:
    """Return the content with a bit of its pixels flipped."""
    changed = bytearray(content)
    changed[_pixel(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeroed(content: bytes, rng: Random) -> bytes:
    """Return the content with 2 KiB of its pixels lost, as by a bad sector."""
    place = _pixel(content, rng)
    return content[:place] + bytes(2048) + content[place + 2048 :]


def _pixel(content: bytes, rng: Random) -> int:
    """Return a random place in the middle half, which is pixels: headers are before, padding behind."""
    return rng.randrange(len(content) // 4, 3 * len(content) // 4)


def empty(content: bytes, rng: Random) -> bytes:
    """Return an empty file."""
    return b""


def answer(content: bytes, rng: Random) -> bytes:
    """Return a server's error page in place of the content."""
    return b"<html><body>503 Service Unavailable</body></html>"


OF_BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    "truncated": truncated, "bit_flipped": flipped, "sector_lost": zeroed, "empty": empty, "error_page": answer,
}  # fmt: skip
OF_CARDS: dict[str, dict[str, object]] = {"no_visit": {"EXPID": None}, "no_date": {"OBSMJD": "yesterday"}}
KINDS = (*OF_BYTES, *OF_CARDS, "all_nan")


def corrupt(kind: str, original: Path, folder: Path, number: int, rng: Random) -> Path:
    """Write a copy of an exposure as another visit that is corrupt in one of `KINDS`."""
    path = folder / f"{number:03}_{kind}.fits.fz"
    if kind == "all_nan":
        with fits.open(original) as hdus:
            header, pixels = hdus[1].header.copy(), np.full_like(hdus[1].data, np.nan)
        header["EXPID"] += number
        image = fits.CompImageHDU(pixels, header, compression_type="RICE_1", quantize_level=4)
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, checksum=True)
        return path
    another_visit(original, path, number, **OF_CARDS.get(kind, {}))
    if kind in OF_BYTES:
        path.write_bytes(OF_BYTES[kind](path.read_bytes(), rng))
    return path
