import contextlib
import gzip
import hashlib
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from flows.adapters.probe import probe
from flows.adapters.sources import Source
from flows.ingest import prepare
from schemas.errors import BadInput
from schemas.mask import MaskPlane
from schemas.settings import Settings

SETTINGS = Settings()


def refused(path, code, *words):
    """The exposure is refused with this code, and the message has these words and names the file."""
    with pytest.raises(BadInput) as caught:
        prepare(Source(str(path)), SETTINGS)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def changed(path, change):
    data = bytearray(Path(path).read_bytes())
    Path(path).write_bytes(bytes(change(data)))
    return path


def flipped(data, at, count=64):
    data[at : at + count] = bytes(255 - byte for byte in data[at : at + count])
    return data


def test_good_exposure(write_ztf, sky):
    sky[:40] = 0  # black border
    sky[60:64, 70:80] = np.nan
    path = write_ztf(sky)
    info, planes = prepare(Source(path), SETTINGS)
    assert info.night == "20190921"
    assert info.name == "99429086-59"
    assert (info.band, info.instrument, info.exposure_time_s) == ("i", "ZTF", 30)
    assert info.midpoint_mjd_tai == pytest.approx(58748.2908681 + (15 + 37) / 86400, abs=1e-9)
    assert (info.zero_point, info.gain, info.saturation) == (25.352175, 6.2, 49390.965)
    assert info.psf.fwhm_px == 1.8
    assert info.background == pytest.approx(0, abs=0.2)
    assert info.noise == pytest.approx(7, rel=0.03)
    correlation = np.array(info.noise_correlation)
    centre = correlation.shape[0] // 2
    assert correlation[centre, centre + 1] == pytest.approx(0.48, abs=0.03)
    assert info.source_sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert info.flags == ()
    assert set(planes) == {"difference", "mask"}
    no_data = planes["mask"] & MaskPlane.NO_DATA > 0
    assert no_data[:40].all()
    assert no_data[60:64, 70:80].all()
    assert info.masked_fraction == pytest.approx((40 * 220 + 40) / sky.size, rel=0.02)
    assert (planes["difference"][no_data] == np.float32(info.background)).all()
    world = WCS(fits.Header.fromstring(info.wcs_header, sep="\n"))
    expected = WCS(fits.getheader(path, 1)).all_pix2world([[10.0, 20.0]], 0)
    np.testing.assert_allclose(world.all_pix2world([[10.0, 20.0]], 0), expected, atol=1e-10)


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
    refused(tmp_path / "gone.fits", "unreadable_file", "FileNotFoundError")


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


def test_infinite_values_are_masked_and_flagged(write_ztf, sky):
    sky[5, 6], sky[7, 8] = np.inf, -np.inf
    info, planes = prepare(Source(write_ztf(sky, compressed=False)), SETTINGS)
    assert info.flags == ("infinite_values",)
    assert planes["mask"][5, 6] == planes["mask"][7, 8] == MaskPlane.NO_DATA
    assert planes["difference"][5, 6] == planes["difference"][7, 8] == np.float32(info.background)


def test_saturated_pixels_are_masked(write_ztf, sky):
    sky[50, 60] = 60000
    _, planes = prepare(Source(write_ztf(sky, compressed=False)), SETTINGS)
    assert planes["mask"][50, 60] == MaskPlane.SAT
    assert np.count_nonzero(planes["mask"]) == 1


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


def test_whole_file_gzip(write_ztf, tmp_path):
    plain = write_ztf(compressed=False)
    packed = tmp_path / "packed.fits.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    ours, theirs = (prepare(Source(str(path)), SETTINGS)[0] for path in (packed, plain))
    assert ours.model_copy(update={"source_uri": theirs.source_uri, "source_sha256": theirs.source_sha256}) == theirs
    assert probe(Source(str(packed)), SETTINGS).name == theirs.name
    data = bytearray(packed.read_bytes())
    data[-8] ^= 1  # of the CRC
    packed.write_bytes(data)
    refused(packed, "bad_checksum", "gzip")
    packed.write_bytes(data[:-100])
    refused(packed, "truncated")


def test_memory_and_local_files_give_the_same(write_ztf):
    path = write_ztf()
    with fsspec.open("memory://night/exposure", "wb") as file:
        file.write(Path(path).read_bytes())
    local, planes = prepare(Source(path), SETTINGS)
    remote, others = prepare(Source("memory://night/exposure"), SETTINGS)
    assert remote.model_copy(update={"source_uri": path}) == local
    for plane, pixels in planes.items():
        np.testing.assert_array_equal(others[plane], pixels)


def test_siblings_join_the_exposure(write_ztf, sky):
    path = write_ztf()
    bits = np.zeros(sky.shape, np.int16)
    bits[10, 11], bits[12, 13], bits[14, 15] = 1 << 8, 1 << 1, 1 << 10
    siblings = (
        ("mask", write_ztf(bits, compressed=False, product="mskimg")),
        ("science", write_ztf(sky + 200, compressed=False, product="sciimg")),
        ("template", write_ztf(sky + 150, compressed=False, product="refimg")),
    )
    info, planes = prepare(Source(path, siblings), SETTINGS)
    assert info.planes == ("science", "template")
    mask = planes["mask"]
    assert (mask[10, 11], mask[12, 13], mask[14, 15]) == (MaskPlane.SAT, MaskPlane.DETECTED, MaskPlane.NO_DATA)
    files = (path, *(uri for _, uri in siblings))
    assert info.source_sha256 == hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def test_template_on_another_grid_is_left_out(write_ztf, sky):
    template = write_ztf(sky, compressed=False, product="refimg", CRPIX1=1060.0)
    info, planes = prepare(Source(write_ztf(), (("template", template),)), SETTINGS)
    assert info.flags == ("template_not_aligned",)
    assert "template" not in planes


def test_planes_of_another_size_are_refused(write_ztf, sky):
    science = write_ztf(sky[:100], compressed=False, product="sciimg")
    with pytest.raises(BadInput, match="plane 'science' has shape"):
        prepare(Source(write_ztf(), (("science", science),)), SETTINGS)


def test_psf_comes_from_the_stamp(write_ztf):
    from galsim import Moffat

    stamp = Moffat(beta=2.8, fwhm=2.3).drawImage(nx=25, ny=25, scale=1.0).array
    psf = write_ztf(stamp, compressed=False, product="diffimgpsf")
    info, _ = prepare(Source(write_ztf(), (("psf", psf),)), SETTINGS)
    assert info.psf.source == "stamp"
    assert info.psf.fwhm_px == pytest.approx(2.3, rel=0.02)
    assert info.psf.beta == pytest.approx(2.8, rel=0.1)


def test_psf_is_assumed_where_nothing_tells(write_ztf):
    info, _ = prepare(Source(write_ztf(SEEING=None)), SETTINGS)
    assert (info.psf.source, info.psf.fwhm_px, info.flags) == ("assumed", 2.5, ("assumed_psf",))


@pytest.fixture
def real():
    folder = os.environ.get("NIGHTSTRIDE_DATA")
    if not folder:
        pytest.skip("NIGHTSTRIDE_DATA is not set: no real images")
    return Path(folder) / "01_fits_streaks"


def shipped(name):
    from flows.settings_file import load_settings

    return load_settings(Path(__file__).parents[2] / "examples" / f"{name}.toml")


def test_real_decam_difference(real):
    path = real / "sfft_decam" / "4check" / "FinalDifference.fits"
    info, planes = prepare(Source(str(path)), shipped("decam"))
    assert (info.night, info.detector, info.band, info.flags) == ("20180803", 37, "i", ("no_zero_point",))
    assert info.midpoint_mjd_tai == pytest.approx(58334.39133794 + (165 + 37) / 86400, abs=1e-8)
    pixels = fits.getdata(path)
    # Robust scatter by another way: half the distance between the 15.87 and 84.13 % quantiles; dipoles inflate it.
    assert info.noise == pytest.approx(np.diff(np.quantile(pixels, [0.1587, 0.8413]))[0] / 2, rel=0.1)
    correlation = np.array(info.noise_correlation)
    assert correlation[tuple(np.array(correlation.shape) // 2 + (0, 1))] == pytest.approx(0.53, abs=0.05)
    assert planes["difference"].dtype == np.float32
    # The header gives the pointing of the camera's centre and that of the CCD's.
    world = WCS(fits.Header.fromstring(info.wcs_header, sep="\n"))
    assert world.all_pix2world([[128, 128]], 0)[0] == pytest.approx([318.37, -66.04], abs=0.4)
    with pytest.raises(BadInput, match="DATASUM"):
        prepare(Source(str(path)), Settings())


def test_real_frame_with_a_strange_date(real):
    path = real / "astride_long.fits"
    info, _ = prepare(Source(str(path)), shipped("ystar"))
    assert info.night == "20020726"
    # The time of the end, 60 s exposure, 32 leap seconds in 2002.
    assert info.midpoint_mjd_tai == pytest.approx(2452482.31709 - 2400000.5 + (32 - 30) / 86400, abs=1e-8)
    assert info.psf.fwhm_px == pytest.approx((3.4918 + 4.5719) / 2)
    assert info.background == pytest.approx(293, abs=0.5)
    assert info.flags == ("no_zero_point",)
    world = WCS(fits.Header.fromstring(info.wcs_header, sep="\n"))
    assert world.proj_plane_pixel_scales()[0].to_value("arcsec") == pytest.approx(3.04, abs=0.01)
    with pytest.raises(BadInput, match="DATE-OBS"):
        prepare(Source(str(path)), Settings())
