"""What no exposure can be made of: each refused by its own error, on the way that the night takes."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from flows.inputs.ingest import prepare
from flows.inputs.probe import probe
from flows.inputs.source import Source
from schemas.errors import BadInput
from schemas.settings import Settings
from tests.support.truth import refused

SETTINGS = Settings()


def changed(path, change):
    data = bytearray(Path(path).read_bytes())
    Path(path).write_bytes(bytes(change(data)))
    return path


def flipped(data, at, count=64):
    data[at : at + count] = bytes(255 - byte for byte in data[at : at + count])
    return data


def test_truncated_file(write_ztf):
    path = write_ztf()
    size = Path(path).stat().st_size
    changed(path, lambda data: data[: size // 2])
    refused(path, "truncated", "ends too early")
    with pytest.raises(BadInput, match="ends too early"):
        probe(Source(path), SETTINGS)


@pytest.mark.parametrize("kept", [1, 2879, 4000, 9000])
def test_truncated_in_a_header(write_ztf, kept):
    path = changed(write_ztf(), lambda data: data[:kept])
    with pytest.raises(BadInput) as caught:
        prepare(Source(path), SETTINGS)
    assert caught.value.code in {"truncated", "damaged", "not_fits", "no_image"}


@pytest.mark.parametrize(("content", "code"), [(b"", "empty_file"), (b"<html>404</html>", "not_fits")])
def test_not_fits(tmp_path, content, code):
    path = tmp_path / "image.fits"
    path.write_bytes(content)
    refused(path, code)


def test_missing_file(tmp_path):
    refused(tmp_path / "gone.fits", "unreadable_file", "No such file")


def test_dangling_link(tmp_path):
    (tmp_path / "link.fits").symlink_to(tmp_path / "nowhere.fits")
    refused(tmp_path / "link.fits", "unreadable_file")


def test_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "dir.fits").mkdir()
    refused(tmp_path / "dir.fits", "unreadable_file")


@pytest.mark.parametrize("key", ["EXPTIME", "EXPID"])
def test_missing_keyword_is_named(write_ztf, key):
    refused(write_ztf(**{key: None}), "missing_keyword", key)


def test_missing_time_names_both_keywords(write_ztf):
    refused(write_ztf(OBSMJD=None, OBSJD=None), "missing_keyword", "OBSMJD")


def test_missing_filter(write_ztf):
    refused(write_ztf(FILTER=None, FILTERID=None), "missing_keyword", "FILTER")


def test_missing_detector(write_ztf):
    refused(write_ztf(RCID=None, QID=None), "missing_keyword", "QID")


@pytest.mark.parametrize("value", [None, "unknown"])
def test_missing_zero_point(write_ztf, value):
    refused(write_ztf(MAGZP=value), "missing_zero_point", "MAGZP")


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ({"EXPTIME": -30.0}, "EXPTIME"),
        ({"EXPTIME": "long"}, "EXPTIME"),
        ({"EXPID": 2**42}, "EXPID"),
        ({"EXPID": -1}, "EXPID"),
        ({"EXPID": 1.5}, "EXPID"),
        ({"RCID": 64}, "RCID"),
        ({"RCID": None, "CCDID": 17}, "CCDID"),
        ({"RCID": None, "CCDID": 0}, "CCDID"),
        ({"OBSMJD": "yesterday"}, "OBSMJD"),
        ({"OBSMJD": 0.0}, "OBSMJD"),
        ({"OBSMJD": 1e300}, "OBSMJD"),
    ],
)
def test_nonsense_in_a_keyword(write_ztf, cards, word):
    path = write_ztf(**cards)
    refused(path, "invalid_keyword", word)
    with pytest.raises(BadInput, match=word):
        probe(Source(path), SETTINGS)


@pytest.mark.parametrize("missing", [("CTYPE1",), ("CRVAL2",), ("CD1_1", "CD1_2", "CD2_1", "CD2_2")])
def test_missing_wcs(write_ztf, missing):
    refused(write_ztf(**dict.fromkeys(missing)), "missing_wcs", missing[0])


def test_no_wcs_at_all(write_ztf):
    keys = ["CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2"]
    refused(write_ztf(**dict.fromkeys(keys)), "missing_wcs", "CTYPE1")


@pytest.mark.parametrize(
    "cards",
    [
        {"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0},
        {"CD1_1": 1e-4, "CD1_2": 2e-4, "CD2_1": 1e-4, "CD2_2": 2e-4},
        {"CTYPE1": "XPIXEL", "CTYPE2": "YPIXEL"},
    ],
)
def test_singular_wcs(write_ztf, cards):
    refused(write_ztf(**cards), "singular_wcs")


@pytest.mark.parametrize("shape", [(5000,), (3, 64, 64), (20, 300), (300, 20)])
def test_wrong_dimensions(write_ztf, shape):
    pixels = np.random.default_rng(1).normal(0, 5, shape).astype(np.float32)
    refused(write_ztf(pixels, compressed=False), "wrong_dimensions")


@pytest.mark.parametrize(
    ("value", "code"), [(np.nan, "all_nan"), (np.inf, "all_nan"), (0.0, "constant"), (7.5, "constant")]
)
@pytest.mark.parametrize("compressed", [True, False])
def test_image_without_signal(write_ztf, value, code, compressed):
    refused(write_ztf(np.full((100, 120), value, np.float32), compressed=compressed), code)


def test_nearly_all_nan(write_ztf, sky):
    sky[20:] = np.nan
    sky[:, 25:] = np.nan
    refused(write_ztf(sky, compressed=False), "all_masked", "500 pixels")


def test_all_masked_by_the_archive(write_ztf, sky):
    path = write_ztf()
    mask = write_ztf(np.full(sky.shape, 1 << 9, np.int16), compressed=False, product="mskimg")
    with pytest.raises(BadInput) as caught:
        prepare(Source(path, (("mask", mask),)), SETTINGS)
    assert caught.value.code == "all_masked"


def test_most_pixels_alike(write_ztf, sky):
    """More than half of the pixels one value, but nowhere a flat region."""
    sky[::4] = 3
    sky[1::4] = 3
    sky[2::4] = 3
    refused(write_ztf(sky, compressed=False), "no_noise")


def test_table_in_place_of_an_image(tmp_path, write_ztf):
    header = fits.getheader(write_ztf(compressed=False))
    table = fits.BinTableHDU.from_columns([fits.Column("name", "10A", array=np.array(["a", "b"]))])
    for key in ("ORIGIN", "OBSMJD", "EXPTIME", "EXPID", "RCID", "FILTERID"):
        table.header[key] = header[key]
    path = tmp_path / "table.fits"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    refused(path, "no_image")


def test_complex_pixels(tmp_path):
    path = tmp_path / "asteroid_difference_images_0.npz"
    np.savez(path, data=np.zeros((1, 64, 64), np.complex64))
    with pytest.raises(BadInput) as caught:
        prepare(Source(str(path), index=0), SETTINGS)
    assert caught.value.code == "wrong_dtype"


@pytest.mark.parametrize("where", [0.5, 0.9])
def test_corrupted_rice_bytes(write_ztf, where):
    path = write_ztf()
    data = Path(path).read_bytes()
    start = len(data) - 40000
    changed(path, lambda data: flipped(data, start + int(where * 20000)))
    refused(path, "bad_checksum", "DATASUM")


def test_corrupted_header_value(write_ztf):
    path = changed(write_ztf(), lambda data: data.replace(b"25.352175", b"25.352165"))
    refused(path, "bad_checksum", "CHECKSUM")
    info, _ = prepare(Source(path), Settings(fits={"checksum": "ignore"}))
    assert info.zero_point == 25.352165


def test_corrupted_bytes_never_end_in_another_error(write_ztf):
    """Rice decodes many wrong bytes to some pixels: without checksums they may pass, but nothing breaks."""
    good = Path(write_ztf()).read_bytes()
    for place in range(10):
        path = write_ztf()
        Path(path).write_bytes(flipped(bytearray(good), len(good) - 42000 + 4000 * place, 3000))
        with contextlib.suppress(BadInput):
            info, _ = prepare(Source(path), Settings(fits={"checksum": "ignore"}))
            assert info.shape == (200, 220)


def test_planes_of_another_size_are_refused(write_ztf, sky):
    science = write_ztf(sky[:100], compressed=False, product="sciimg")
    with pytest.raises(BadInput, match="plane 'science' has shape"):
        prepare(Source(write_ztf(), (("science", science),)), SETTINGS)


@pytest.mark.parametrize("width", [1e5, 50.1])
def test_a_psf_as_wide_as_no_star_is_refused_before_anything_of_its_size_is_made(write_ztf, width):
    refused(write_ztf(SEEING=width), "invalid_keyword", "50 px at most")


def test_a_wide_psf_is_taken_as_it_is(write_ztf):
    info, _ = prepare(Source(write_ztf(SEEING=50.0)), SETTINGS)
    assert info.psf.fwhm_px == pytest.approx(50.0, rel=1e-3)  # less the blur by the pixels


@pytest.mark.parametrize(("key", "told"), [("EXPTIME", "EXPTIME has no value that can be read"), ("FILTERID", None)])
def test_a_card_that_cannot_be_parsed_costs_what_it_alone_tells(write_ztf, key, told):
    def spoil(data):
        at = data.index(f"{key:8}=".encode())
        data[at + 10 : at + 30] = b"'open and not closed"
        return data

    source, settings = Source(changed(write_ztf(compressed=False), spoil)), Settings(fits={"checksum": "ignore"})
    if told is None:
        assert prepare(source, settings)[0].band  # of FILTER
    else:
        with pytest.raises(BadInput, match=told):
            prepare(source, settings)
