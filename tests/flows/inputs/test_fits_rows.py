import gc
import gzip
from hashlib import sha256
from pathlib import Path

import fsspec
import numpy as np
import pytest
from astropy.io import fits

from flows.inputs.fits_io import FitsContent, read_extent
from flows.inputs.fits_rows import FitsRows
from schemas.errors import BadInput


def opened(uri, scratch, *, verify=True, size=10**9):
    with fsspec.open(uri) as file:
        headers = read_extent(file, uri).headers
    digest = sha256()
    return FitsRows(uri, headers, size, digest, scratch, verify=verify), digest.hexdigest()


def whole_numbers(path, dtype, blank=None):
    pixels = np.random.default_rng(1).integers(0, 200, (70, 60)).astype(dtype)
    hdu = fits.PrimaryHDU(pixels)
    if blank is not None:
        hdu.header["BLANK"] = blank
    hdu.writeto(path, checksum=True)
    return str(path)


@pytest.mark.parametrize("kind", ["plain", "rice", "counts", "blank", "unsigned"])
@pytest.mark.parametrize("where", ["here", "gzip", "elsewhere"])
def test_rows_are_those_of_the_file_in_memory(write_ztf, tmp_path, kind, where):
    if kind in ("plain", "rice"):
        path = write_ztf(compressed=kind == "rice")
    else:
        dtype = {"counts": np.int16, "blank": np.int16, "unsigned": np.uint16}[kind]
        path = whole_numbers(tmp_path / "counts.fits", dtype, 17 if kind == "blank" else None)
    data, uri, index = Path(path).read_bytes(), path, int(kind == "rice")
    if where == "gzip":
        uri = path + ".gz"
        Path(uri).write_bytes(gzip.compress(data, 1))
    if where == "elsewhere":
        uri = f"memory://{kind}.fits"
        fsspec.filesystem("memory").pipe_file(f"/{kind}.fits", data)
    scratch = tmp_path / "of the night" / "scratch"
    content, digest = opened(uri, scratch)
    assert digest == sha256(Path(uri).read_bytes() if where == "gzip" else data).hexdigest()
    expected, image = FitsContent(data, path).image(index), content.image(index)
    assert (image.shape, image.dtype.kind) == (expected.shape, expected.dtype.kind)
    ny = expected.shape[0]
    for y0, y1 in ((0, ny), (0, 1), (13, 41), (ny - 1, ny)):
        np.testing.assert_array_equal(image[y0:y1], expected[y0:y1])
    assert len(list(scratch.glob("*"))) == (where != "here")
    del content, image
    gc.collect()
    assert not list(scratch.glob("*"))


@pytest.mark.parametrize("compressed", [False, True])
def test_an_axis_of_length_1_is_taken_off(tmp_path, compressed):
    pixels = np.arange(6000, dtype=np.int16).reshape(1, 60, 100)
    image = fits.CompImageHDU(pixels) if compressed else fits.ImageHDU(pixels)
    path = tmp_path / "cube.fits"
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    whole, rows = FitsContent(path.read_bytes(), "x").image(1), opened(str(path), tmp_path)[0].image(1)
    assert whole.shape == rows.shape == (60, 100)
    np.testing.assert_array_equal(whole, pixels[0])
    np.testing.assert_array_equal(rows[13:41], pixels[0, 13:41])


@pytest.mark.parametrize("key", ["DATASUM", "CHECKSUM"])
def test_a_blank_sum_is_one_not_known(tmp_path, key):
    """FITS 4.0, 4.4.2.7."""
    path = tmp_path / "x.fits"
    fits.PrimaryHDU(np.ones((9, 9), np.int16), fits.Header({key: "UNKNOWN!"})).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"UNKNOWN!", b"        "))
    assert FitsContent(path.read_bytes(), "x").image(0).sum() == 81
    assert opened(str(path), tmp_path / "scratch")[0].image(0)[0:9].sum() == 81


@pytest.mark.parametrize("key", ["DATASUM", "CHECKSUM"])
@pytest.mark.parametrize("compressed", [False, True])
def test_checksums_are_compared_without_reading_the_file_at_once(write_ztf, tmp_path, key, compressed):
    path, index = write_ztf(compressed=compressed), int(compressed)
    assert opened(path, tmp_path)[0].image(index)[:].size
    with fits.open(path, disable_image_compression=True) as file:
        place = file[index].fileinfo()
    data = bytearray(Path(path).read_bytes())
    if key == "DATASUM":
        data[place["datLoc"] + 5000] ^= 1
    else:
        card = data.index(b"EXPTIME", place["hdrLoc"])
        data[card + 26 : card + 30] = b"31.0"
    Path(path).write_bytes(data)
    with pytest.raises(BadInput, match=f"{key}.* of HDU {index}") as caught:
        opened(path, tmp_path)[0].image(index)
    assert caught.value.code == "bad_checksum"
    with pytest.raises(BadInput, match=key):
        FitsContent(bytes(data), path).image(index)
    assert opened(path, tmp_path, verify=False)[0].image(index).shape == (200, 220)


def test_a_sum_of_just_the_range_of_its_words_is_folded(tmp_path):
    """-1 and 1 make 2^32, of which ones' complement leaves 1."""
    path = tmp_path / "sum.fits"
    fits.PrimaryHDU(np.array([[-1, 1]], np.int32)).writeto(path, checksum=True)
    assert fits.getval(path, "DATASUM") == "1"
    np.testing.assert_array_equal(opened(str(path), tmp_path)[0].image(0)[:], [[-1, 1]])


def test_a_gzip_file_is_read_to_its_own_sum(tmp_path):
    data = Path(whole_numbers(tmp_path / "counts.fits", np.int16)).read_bytes()
    packed = bytearray(gzip.compress(data, 1))
    packed[-8] ^= 1  # RFC 1952: the sum stands before the length
    path, headers = tmp_path / "counts.fits.gz", FitsContent(data, "x").headers
    path.write_bytes(packed)
    with pytest.raises(BadInput) as caught:
        FitsRows(str(path), headers, len(data), sha256(), tmp_path / "scratch", verify=True)
    assert caught.value.where == str(path)
    assert not list((tmp_path / "scratch").iterdir())


def test_what_is_no_image_is_refused(write_ztf, tmp_path):
    with pytest.raises(BadInput) as caught:
        opened(write_ztf(), tmp_path)[0].image(0)
    assert caught.value.code == "no_image"


def test_no_more_is_unpacked_than_may_be(write_ztf, tmp_path):
    path = write_ztf(compressed=False)
    Path(path + ".gz").write_bytes(gzip.compress(Path(path).read_bytes() + b"\0" * 20 * 2**20, 1))
    headers, scratch = FitsContent(Path(path).read_bytes(), path).headers, tmp_path / "scratch"
    scratch.mkdir()
    content = FitsRows(path + ".gz", headers, 2**20, sha256(), scratch, verify=True)
    (copy,) = scratch.iterdir()
    assert copy.stat().st_size < 6 * 2**20
    assert content.image(0).shape == (200, 220)
