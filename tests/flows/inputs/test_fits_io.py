import gzip
import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from flows.inputs import fits_io
from flows.inputs import source as content_limit
from flows.inputs.files import content_kind
from flows.inputs.fits_header import is_image
from flows.inputs.fits_io import MOST_HEADER_BYTES, FitsContent, read_extent, read_headers, unzipped
from schemas.errors import BadInput


def refused(code, call):
    with pytest.raises(BadInput) as caught:
        call()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("start", "kind"), [(b"SIMPLE  =   ", "fits"), (b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04\x14", "zip")]
)
def test_content_is_known_by_its_first_bytes(start, kind):
    assert content_kind(start, "x") == kind


@pytest.mark.parametrize(("start", "code"), [(b"", "empty_file"), (b"\x89PNG\r\n", "not_fits")])
def test_other_content_is_refused(start, code):
    refused(code, lambda: content_kind(start, "x"))


def test_a_type_of_pixels_that_there_is_not_is_named():
    sink = io.BytesIO()
    fits.PrimaryHDU(np.zeros((4, 4), np.float32)).writeto(sink)
    data = sink.getvalue().replace(b"BITPIX  =                  -32", b"BITPIX  =                  -33")
    with pytest.raises(BadInput, match="BITPIX is -33, must be one of 8, 16, 32, 64, -32, -64") as caught:
        read_headers(io.BytesIO(data), "x.fits")
    assert caught.value.code == "damaged"


def test_headers_are_those_of_the_file(write_ztf):
    path = Path(write_ztf())
    with path.open("rb") as file:
        primary, image = read_headers(file, str(path))
    assert is_image(image)
    assert not is_image(primary)
    assert image["ZCMPTYPE"] == "RICE_1"
    assert image["MAGZP"] == 25.352175


class Watched(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


def test_headers_are_read_without_the_pixels(write_ztf):
    pixels = np.random.default_rng(1).normal(0, 5, (800, 800)).astype(np.float32)
    data = Path(write_ztf(pixels, compressed=False)).read_bytes()
    file = Watched(data)
    read_headers(file, "x.fits")
    assert file.count < 30_000
    assert len(data) > 2_500_000


def test_headers_inside_gzip(write_ztf):
    data = Path(write_ztf(compressed=False)).read_bytes()
    (header,) = read_headers(io.BytesIO(gzip.compress(data)), "x.fits.gz")
    assert header["EXPID"] == 99429086


def test_pixels_are_those_of_astropy(write_ztf):
    for compressed in (True, False):
        path = write_ztf(compressed=compressed)
        content = FitsContent(Path(path).read_bytes(), path)
        with fits.open(path) as file:
            np.testing.assert_array_equal(content.image(int(compressed)), file[int(compressed)].data)


def test_blank_becomes_nan():
    file = io.BytesIO()
    hdu = fits.PrimaryHDU(np.array([[1, -99], [3, 4]], np.int16))
    hdu.header["BLANK"] = -99
    hdu.writeto(file)
    np.testing.assert_array_equal(FitsContent(file.getvalue(), "x").image(0), [[1, np.nan], [3, 4]])


def test_unsigned_pixels_are_scaled():
    file = io.BytesIO()
    fits.PrimaryHDU(np.array([[1, 65535], [3, 4]], np.uint16)).writeto(file)
    np.testing.assert_array_equal(FitsContent(file.getvalue(), "x").image(0), [[1, 65535], [3, 4]])


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_that_ends_early(write_ztf, compressed, share):
    data = Path(write_ztf(compressed=compressed)).read_bytes()
    cut = data[: 12000 + int(share * (len(data) - 20000))]
    refused("truncated", lambda: FitsContent(cut, "x"))


def test_missing_padding_is_no_harm():
    file = io.BytesIO()
    fits.PrimaryHDU(np.ones((30, 30), np.float32)).writeto(file)
    assert FitsContent(file.getvalue()[: 2880 + 3600], "x").image(0).sum() == 900


@pytest.mark.parametrize("key", ["DATASUM", "CHECKSUM"])
def test_checksums_are_compared(write_ztf, key):
    path = write_ztf(compressed=False)
    card = fits.getheader(path).cards[key].image.encode()
    wrong = card.replace(fits.getheader(path)[key].encode(), b"1" * len(fits.getheader(path)[key]))
    data = Path(path).read_bytes().replace(card, wrong)
    refused("bad_checksum", lambda: FitsContent(data, path).image(0))
    assert FitsContent(data, path, verify=False).image(0).shape == (200, 220)


def test_gzip_is_undone_and_checked():
    packed = bytearray(gzip.compress(b"pixels" * 1000))
    assert unzipped(bytes(packed), "x", 6000) == b"pixels" * 1000
    refused("truncated", lambda: unzipped(bytes(packed[:-9]), "x", 6000))
    packed[-6] ^= 255
    refused("bad_checksum", lambda: unzipped(bytes(packed), "x", 6000))
    assert unzipped(b"SIMPLE  =", "x", 0) == b"SIMPLE  ="


def test_a_small_file_that_unpacks_to_a_large_one():
    refused("too_large", lambda: unzipped(gzip.compress(b"pixels" * 1000), "x", 5999))
    assert len(unzipped(gzip.compress(b"pixels" * 1000), "x", 6000)) == 6000


def test_more_may_not_be_unpacked_than_the_limit(monkeypatch, write_ztf):
    packed = gzip.compress(Path(write_ztf()).read_bytes())
    monkeypatch.setattr(content_limit, "LARGEST", 10_000)
    refused("too_large", lambda: read_headers(io.BytesIO(packed), "x"))


def test_an_extent_ends_where_astropy_has_the_end_of_the_file(write_ztf):
    for compressed in (True, False):
        data = Path(write_ztf(compressed=compressed)).read_bytes()
        for file in (data, gzip.compress(data)):
            extent = read_extent(io.BytesIO(file + bytes(2880)), "x")
            assert extent.end == len(data)
            with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
                assert [str(header) for header in extent.headers] == [str(hdu.header) for hdu in hdus]


def test_an_extent_has_tables_with_their_heaps():
    file = io.BytesIO()
    table = fits.BinTableHDU.from_columns([fits.Column("a", "PJ()", array=np.array([[1, 2], [3]], object))])
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(np.zeros((2, 3), np.int64))]).writeto(file)
    assert read_extent(io.BytesIO(file.getvalue()), "x").end == len(file.getvalue())


def test_an_extent_has_random_groups(tmp_path):
    groups = fits.GroupData(np.zeros((4, 40, 30), np.float32), parnames=["U", "V"], pardata=[np.zeros(4), np.ones(4)])
    fits.HDUList([fits.GroupsHDU(groups), fits.ImageHDU(np.zeros((2, 3)))]).writeto(tmp_path / "groups.fits")
    data = (tmp_path / "groups.fits").read_bytes()
    extent = read_extent(io.BytesIO(data), "x")
    assert (extent.end, len(extent.headers)) == (len(data), 2)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_image_that_no_memory_holds_is_not_unpacked(compressed):
    """Neither header nor tile table of 100,000 x 100,000 px takes more than a few kB."""
    hdu = (fits.CompImageHDU if compressed else fits.ImageHDU)(np.zeros((100, 100), np.float32))
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
    data = file.getvalue()
    for axis in (1, 2):
        name = f"{'Z' if compressed else ''}NAXIS{axis}"
        old = f"{name:<8}= {100:>20}".encode()
        assert data.count(old) == 1
        data = data.replace(old, f"{name:<8}= {100_000:>20}".encode())
    if not compressed:
        refused("truncated", lambda: FitsContent(data, "x"))
        return
    content = FitsContent(data, "x", verify=False)
    refused("too_large", lambda: content.image(1))


@pytest.mark.parametrize(("key", "value"), [("ZNAXIS", "2000000000"), ("ZNAXIS1", "-100"), ("ZNAXIS1", "'abc'")])
def test_sides_that_make_no_sense(key, value):
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((100, 100), np.float32))]).writeto(file)
    card = next(
        file.getvalue()[n : n + 80] for n in range(0, 28800, 80) if file.getvalue()[n : n + 9] == f"{key:<8}=".encode()
    )
    data = file.getvalue().replace(card, f"{key:<8}= {value:>20}".ljust(80).encode())
    content = FitsContent(data, "x", verify=False)
    refused("damaged", lambda: content.image(1))


class Broken(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 0:
            raise ConnectionResetError("reset by peer")
        return super().read(size)


def test_a_broken_connection_is_not_taken_for_broken_bytes(write_ztf):
    data = Path(write_ztf()).read_bytes()
    with pytest.raises(ConnectionResetError):
        read_headers(Broken(data), "s3://bucket/x.fits")


@pytest.mark.parametrize("compressed", [True, False])
def test_check_finds_a_changed_byte_anywhere_without_decoding(write_ztf, compressed):
    data = Path(write_ztf(compressed=compressed)).read_bytes()
    FitsContent(data, "x.fits").check()
    damaged = bytearray(data)
    damaged[-2880 * 2 - 7] ^= 4
    with pytest.raises(BadInput) as caught:
        FitsContent(bytes(damaged), "x.fits").check()
    assert caught.value.code == "bad_checksum"


@pytest.mark.parametrize("zipped", [False, True])
def test_what_follows_the_last_image_without_end_is_not_kept_in_memory(tmp_path, write_ztf, zipped):
    """Zeros behind a valid image look like a header that does not end; gzipped they take next to no disk."""
    image, length = Path(write_ztf()).read_bytes(), 200 * 2**20
    path = tmp_path / "bomb.fits"
    if zipped:
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(image)
            for _ in range(length // 2**20):
                file.write(bytes(2**20))
    else:
        path.write_bytes(image)
        os.truncate(path, len(image) + length)  # sparse
    tracemalloc.start()
    with path.open("rb") as file:
        refused("too_large", lambda: read_headers(file, "x.fits"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * MOST_HEADER_BYTES


def test_a_few_zeros_behind_the_last_image_do_no_harm(write_ztf):
    data = Path(write_ztf()).read_bytes()
    headers = read_headers(io.BytesIO(data), "x.fits")
    assert len(read_headers(io.BytesIO(data + bytes(10 * 2880)), "x.fits")) == len(headers)


def group(**cards):
    """A primary header, as bytes."""
    made = fits.Header([("SIMPLE", True), ("BITPIX", -32), *cards.items()])
    return made.tostring(padding=True).encode()


@pytest.mark.parametrize(
    ("cards", "good"),
    [
        ({"NAXIS": 2, "NAXIS1": 0, "NAXIS2": 3}, True),
        ({"NAXIS": 2, "NAXIS1": -1, "NAXIS2": 3}, False),
        ({"NAXIS": 2, "NAXIS1": 2, "NAXIS2": -1}, False),
        ({"NAXIS": 1, "NAXIS1": 1, "GCOUNT": 0, "PCOUNT": 0}, True),
        ({"NAXIS": 1, "NAXIS1": 1, "GCOUNT": -1}, False),
        ({"NAXIS": 1, "NAXIS1": 1, "PCOUNT": -1}, False),
        ({"NAXIS": 999, **{f"NAXIS{n + 1}": 1 for n in range(999)}}, True),
        ({"NAXIS": 1000, **{f"NAXIS{n + 1}": 1 for n in range(999)}}, False),
    ],
    ids=lambda one: "",
)
def test_sizes_that_no_file_can_have(cards, good):
    data = group(**cards) + bytes(2880)
    if good:
        assert read_headers(io.BytesIO(data), "x.fits")[0]["NAXIS"] == cards["NAXIS"]
    else:
        refused("damaged", lambda: read_headers(io.BytesIO(data), "x.fits"))


def test_headers_take_no_more_than_their_limit(monkeypatch, write_ztf):
    data = Path(write_ztf(compressed=False)).read_bytes()
    file = Watched(data)
    read_headers(file, "x.fits")
    count = file.count - 9  # the first bytes tell gzip from FITS
    monkeypatch.setattr(fits_io, "MOST_HEADER_BYTES", count)
    read_headers(io.BytesIO(data), "x.fits")
    monkeypatch.setattr(fits_io, "MOST_HEADER_BYTES", count - 1)
    refused("too_large", lambda: read_headers(io.BytesIO(data), "x.fits"))


def test_a_table_is_no_image():
    sink = io.BytesIO()
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.zeros(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(sink)
    for index in (0, 1):
        refused("no_image", lambda index=index: FitsContent(sink.getvalue(), "x.fits").image(index))
