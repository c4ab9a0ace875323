"""Small files that claim or unpack to gigabytes: refused by their sizes, before memory is used."""

import gzip
import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from flows.inputs.fits_io import FitsContent
from flows.inputs.fits_tiles import require_tiles
from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from schemas.errors import BadInput
from schemas.settings import Settings

SETTINGS = Settings(fits={"checksum": "ignore"})
GIB, MIB = 2**30, 2**20
ZEROS = gzip.compress(bytes(16 * MIB))
"""A member of 16 kB: a gzip file may have any number of them."""


def gzipped_zeros_behind(good: bytes, path: Path) -> None:
    path.write_bytes(gzip.compress(good) + 256 * ZEROS)
    assert path.stat().st_size < 5 * MIB


def sparse_zeros_behind(good: bytes, path: Path) -> None:
    path.write_bytes(good)
    os.truncate(path, 4 * GIB)


def sparse_behind_gzip(good: bytes, path: Path) -> None:
    path.write_bytes(gzip.compress(good))
    os.truncate(path, 4 * GIB)


def claimed_sides(good: bytes, path: Path) -> None:
    """An image of 3.8 GB of zeros behind gzip; not with the sides of its exposure."""
    header = fits.Header.fromstring(good[: good.index(b"END" + b" " * 77) + 80])
    header["NAXIS1"] = header["NAXIS2"] = 31_000
    path.write_bytes(gzip.compress(header.tostring().encode()) + 230 * ZEROS)


def gzipped_tile(good: bytes, path: Path, column: str = "COMPRESSED_DATA", kind: str = "GZIP_1") -> None:
    """The good image with rows as tiles, one of which unpacks to 4 GiB."""
    ny, nx = 200, 220
    cells = [np.frombuffer(gzip.compress(bytes(4 * nx)), np.uint8)] * (ny - 1)
    bomb = np.frombuffer(256 * ZEROS, np.uint8)
    none = [np.zeros(0, np.uint8)] * ny
    columns = [fits.Column("COMPRESSED_DATA", "QB()", array=np.array([*cells, bomb], object))]
    if column != "COMPRESSED_DATA":
        columns = [
            fits.Column("COMPRESSED_DATA", "QB()", array=np.array(none, object)),
            fits.Column(column, "QB()", array=np.array([*cells, bomb], object)),
        ]
    table = fits.BinTableHDU.from_columns(columns)
    sides = {"ZNAXIS": 2, "ZNAXIS1": nx, "ZNAXIS2": ny, "ZTILE1": nx, "ZTILE2": 1}
    table.header.update({"ZIMAGE": True, "ZCMPTYPE": kind, "ZBITPIX": -32} | sides)
    primary = fits.PrimaryHDU(header=fits.Header.fromstring(good[: good.index(b"END" + b" " * 77) + 80]))
    table.header.extend(primary.header, strip=True, update=True)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


def gzipped_tile_of_rice(good: bytes, path: Path) -> None:
    gzipped_tile(good, path, "GZIP_COMPRESSED_DATA", "RICE_1")


MOST = 5 * 4 * MIB
"""Peak of what reads a bomb: the largest file is 4 MiB."""

BOMBS = [
    gzipped_zeros_behind,
    sparse_zeros_behind,
    sparse_behind_gzip,
    claimed_sides,
    gzipped_tile,
    gzipped_tile_of_rice,
]


def read(source: Source) -> BadInput | None:
    try:
        prepare(source, SETTINGS)
    except BadInput as error:
        return error
    return None


def measured(source: Source) -> tuple[BadInput | None, int]:
    tracemalloc.start()
    try:
        return read(source), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_ordinary_image_takes_more_than_a_bomb_may(write_ztf):
    noise = np.random.default_rng(1).normal(0, 7, (1024, 1024)).astype(np.float32)
    error, used = measured(Source(write_ztf(noise, compressed=False)))
    assert error is None
    assert used > MOST


@pytest.mark.parametrize("plane", ["difference", "science", "psf"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_its_memory_is_used(write_ztf, tmp_path, bomb, plane):
    good = write_ztf(compressed=False)
    path = tmp_path / f"bomb.fits{'.gz' if 'gzip' in bomb.__name__ else ''}"
    bomb(Path(good).read_bytes(), path)
    if plane == "difference":
        if bomb is claimed_sides:
            return  # an image: whether it fits a worker is asked before it is read (test_memory.py)
        source = Source(str(path))
    else:
        source = Source(good, siblings=((plane, str(path)),))
    assert read(Source(good)) is None  # imports are done
    error, used = measured(source)
    assert error is not None
    assert error.code in {"too_large", "wrong_dimensions"}
    assert error.where == str(path)
    assert used < MOST, str(error)


def test_a_cube_is_refused_before_it_is_decoded(write_ztf, tmp_path):
    """Its first two sides are small, all three make 4 GB."""
    header = fits.getheader(write_ztf(), 1)
    path = tmp_path / "cube.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((3, 90, 85), np.float32), header)]).writeto(path)
    depth = [f"{'ZNAXIS3':<8}= {sides:>20}".encode() for sides in (3, 120_000)]
    assert path.read_bytes().count(depth[0]) == 1
    path.write_bytes(path.read_bytes().replace(*depth))
    error, used = measured(Source(str(path)))
    assert error is not None
    assert error.code == "wrong_dimensions"
    assert used < MOST


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_tiles_as_they_should_be_pass(kind, dtype, tmp_path):
    pixels = np.random.default_rng(2).normal(100, 7, (90, 85)).astype(dtype)
    file = io.BytesIO()
    image = fits.CompImageHDU(pixels, compression_type=kind, tile_shape=(40, 30))
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(file)
    require_tiles(file.getvalue(), 1, "x")
    (tmp_path / "x.fits").write_bytes(file.getvalue())
    require_tiles(tmp_path / "x.fits", 1, "x")
    assert FitsContent(file.getvalue(), "x").image(1).shape == pixels.shape


def test_hcompress_that_claims_larger_sides_than_its_tile_has(tmp_path):
    """The decoder would write beyond its buffer."""
    file = io.BytesIO()
    image = fits.CompImageHDU(np.arange(900, dtype=np.int16).reshape(30, 30), compression_type="HCOMPRESS_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(file)
    sides = (30).to_bytes(4, "big") * 2
    assert file.getvalue().count(b"\xdd\x99" + sides) >= 1
    data = file.getvalue().replace(b"\xdd\x99" + sides, b"\xdd\x99" + (30_000).to_bytes(4, "big") * 2)
    with pytest.raises(BadInput, match="tile 0 of HDU 1"):
        FitsContent(data, "x", verify=False).image(1)
    (tmp_path / "x.fits").write_bytes(data)
    with pytest.raises(BadInput, match="tile 0 of HDU 1"):
        require_tiles(tmp_path / "x.fits", 1, "x")
