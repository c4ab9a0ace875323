from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from flows.inputs.probe import _aligned, fits_identity, probe, read, read_fits, real_image
from flows.inputs.source import REFERENCE, Source
from flows.inputs.sources import FIELDS
from flows.inputs.wcs_cards import wcs_cards
from schemas.errors import BadInput, Retryable
from schemas.exposure import ExposureKey
from schemas.keyword_mapping import KeywordMapping
from schemas.pixels import MaskPlane
from schemas.settings import Settings
from tests.support.forced import WCS_HEADER

SETTINGS = Settings()


def test_the_name_does_not_matter(write_ztf, tmp_path):
    path = Path(write_ztf())
    other = tmp_path / "exposure.dat"
    other.write_bytes(path.read_bytes())
    key = ExposureKey(night="20190921", visit=99429086, detector=59)
    assert probe(Source(str(path)), SETTINGS) == probe(Source(str(other)), SETTINGS) == key


def test_headers_suffice(write_ztf):
    """Pixels that cannot be decoded are not the probe's business."""
    path = Path(write_ztf())
    data = bytearray(path.read_bytes())
    data[-6000:-3000] = bytes(3000)
    path.write_bytes(data)
    assert probe(Source(str(path)), SETTINGS).visit == 99429086
    with pytest.raises(BadInput, match="checksum"):
        read(Source(str(path)), SETTINGS)


def test_stacks_go_by_their_content_too(tmp_path):
    path = tmp_path / "asteroid_difference_images_7.npz"
    np.savez(path, data=np.zeros((2, 30, 30), np.float32))
    assert probe(Source(str(path), index=1), SETTINGS).visit == 7001
    with pytest.raises(BadInput, match="image None of a stack"):
        probe(Source(str(path)), SETTINGS)


def test_a_file_that_is_none_of_these(tmp_path):
    path = tmp_path / "image.fits"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    for call in (probe, read):
        with pytest.raises(BadInput, match="neither FITS"):
            call(Source(str(path)), SETTINGS)


def test_a_folder_that_could_not_be_listed(tmp_path):
    with pytest.raises(BadInput, match=r"gone/: the folder cannot .*: No such file or directory\. T") as caught:
        probe(Source(f"{tmp_path}/gone/"), SETTINGS)
    assert caught.value.code == "unreadable_folder"
    with pytest.raises(Retryable, match="run again"):
        probe(Source(f"{tmp_path}/"), SETTINGS)


MAPPING = KeywordMapping()


def test_headers_and_pixels_agree_on_what_it_is(write_ztf):
    source = Source(write_ztf())
    identity, raw = fits_identity(source, MAPPING), read_fits(source, MAPPING)
    assert identity.key == raw.key
    assert identity.midpoint_mjd_tai == raw.midpoint_mjd_tai


def test_pixels_are_as_they_were_written(write_ztf, sky):
    sky[3, 4], sky[5, 6] = np.nan, np.inf
    raw = read_fits(Source(write_ztf(sky, compressed=False)), MAPPING)
    np.testing.assert_array_equal(raw.planes["difference"], sky)
    assert raw.planes["difference"].dtype == np.float32
    assert raw.planes["difference"].dtype.isnative
    assert not raw.planes["mask"].any()


@pytest.mark.parametrize("dtype", [">f8", ">i2", "u1", "<i4"])
def test_any_real_numbers_become_native_floats(dtype):
    image = real_image(np.arange(12).reshape(3, 4).astype(dtype), "x")
    np.testing.assert_array_equal(image, np.arange(12).reshape(3, 4))
    assert image.dtype == np.float32
    assert image.flags.c_contiguous


def test_numbers_beyond_float32_become_infinite():
    assert np.isinf(real_image(np.full((2, 2), 1e300), "x")).all()


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.zeros(9), "wrong_dimensions"),
        (np.zeros((2, 3, 4)), "wrong_dimensions"),
        (np.zeros((3, 3), complex), "wrong_dtype"),
        (np.array([["a", "b"]]), "wrong_dtype"),
    ],
)
def test_what_is_no_image_is_refused(pixels, code):
    with pytest.raises(BadInput) as caught:
        real_image(pixels, "x")
    assert caught.value.code == code


def test_a_bad_psf_stamp_is_named(write_ztf):
    stamp = write_ztf(np.zeros((25, 25), np.float32), compressed=False, product="diffimgpsf")
    with pytest.raises(BadInput, match="no Moffat profile fits") as caught:
        read_fits(Source(write_ztf(), (("psf", stamp),)), MAPPING)
    assert caught.value.where == stamp


def test_a_sibling_that_cannot_be_read_is_named(write_ztf, tmp_path):
    gone = str(tmp_path / "gone_mskimg.fits")
    with pytest.raises(BadInput) as caught:
        read_fits(Source(write_ztf(), (("mask", gone),)), MAPPING)
    assert caught.value.where == gone


GIVEN = {
    "visit": "17",
    "detector": "3",
    "band": "z",
    "zero_point": "25.5",
    "gain": "2.5",
    "saturation": "30000",
    "psf_fwhm_px": "3.25",
}


def test_every_column_of_a_manifest_has_its_effect(write_ztf):
    assert tuple(GIVEN) == FIELDS
    source = Source(write_ztf(), overrides=tuple(GIVEN.items()))
    key, raw = probe(source, Settings()), read(source, Settings())
    assert key == raw.key
    assert (key.visit, key.detector, raw.band) == (17, 3, "z")
    assert (raw.zero_point, raw.gain, raw.saturation, raw.psf.fwhm_px) == (25.5, 2.5, 30000, 3.25)
    assert key.night == probe(Source(source.uri), Settings()).night


@pytest.mark.parametrize(
    ("field", "value"), [("visit", "-1"), ("detector", "512"), ("zero_point", "bright"), ("psf_fwhm_px", "0")]
)
def test_nonsense_is_named(write_ztf, field, value):
    with pytest.raises(BadInput, match=field):
        read(Source(write_ztf(), overrides=((field, value),)), Settings())


def test_a_template_lies_on_the_grid_unless_its_wcs_says_otherwise():
    same, bare = fits.Header.fromstring(WCS_HEADER, sep="\n"), fits.Header()
    other = same.copy()
    other["CRVAL2"] += 0.01
    known = wcs_cards((same,), "x", (30, 40))
    for wcs, theirs, aligned in (
        (known, same, True), (known, other, False), (known, bare, True), (None, other, True), (None, bare, True),
    ):  # fmt: skip
        assert _aligned(wcs, (theirs,), "x", (30, 40)) is aligned


def test_from_an_image_of_a_stack_no_template_is_subtracted(tmp_path):
    path = tmp_path / "asteroid_difference_images_7.npz"
    np.savez(path, data=np.zeros((2, 30, 30), np.float32))
    for siblings, refused in (((("mask", "m.fits"),), False), (((REFERENCE, "t.fits"),), True)):
        source = Source(str(path), siblings, index=0)
        if not refused:
            assert read(source, SETTINGS).key.visit == 7000
            continue
        with pytest.raises(BadInput, match="leave out --template") as caught:
            read(source, SETTINGS)
        assert caught.value.code == "no_template"


def test_planes_of_one_file_have_one_shape(tmp_path):
    path = tmp_path / "a.fits"
    cards = fits.Header({"DATE-OBS": "2026-03-04T05:06:07", "EXPTIME": 30.0, "FILTER": "r"})
    mapping = KeywordMapping(planes={"variance": "VAR"}, extension="SCI")
    for shape, good in (((8, 9), True), ((9, 8), False), ((8, 8), False)):
        images = [fits.ImageHDU(np.ones((8, 9)), cards, "SCI"), fits.ImageHDU(np.ones(shape), name="VAR")]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)
        if good:
            assert read_fits(Source(str(path)), mapping).planes["variance"].shape == shape
            continue
        with pytest.raises(BadInput, match="variance") as caught:
            read_fits(Source(str(path)), mapping)
        assert caught.value.code == "wrong_dimensions"


def test_weights_beside_an_image_are_no_variances(write_ztf, tmp_path):
    with fits.open(write_ztf()) as file:
        fits.PrimaryHDU(np.ones(file[1].shape), fits.Header({"EXTNAME": "WEIGHT"})).writeto(tmp_path / "w.fits")
    with pytest.raises(BadInput, match="extension WEIGHT is given for the variance") as caught:
        read_fits(Source(write_ztf(), (("variance", str(tmp_path / "w.fits")),)), MAPPING)
    assert (caught.value.code, caught.value.where) == ("not_a_variance", str(tmp_path / "w.fits"))


@pytest.mark.parametrize("plane", ["mask", "science", "psf", "template"])
def test_a_sibling_without_an_image_is_named(write_ztf, tmp_path, plane):
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(BadInput) as caught:
        read_fits(Source(write_ztf(), ((plane, str(tmp_path / "empty.fits")),)), MAPPING)
    assert (caught.value.code, caught.value.where) == ("no_image", str(tmp_path / "empty.fits"))


@pytest.mark.parametrize(
    ("plane", "names", "value"),
    [
        ("science", ("MASK", "SCI"), 2),
        ("science", ("BKG", ""), 2),
        ("mask", ("SCI", "DQ"), 1),
        ("mask", ("A", "B"), None),
    ],
)
def test_a_plane_is_found_in_a_file_of_several_images(write_ztf, tmp_path, plane, names, value):
    difference, path = write_ztf(), str(tmp_path / "planes.fits")
    with fits.open(difference) as file:
        shape = file[1].shape
    images = [fits.ImageHDU(np.full(shape, fill, "f4"), name=name) for fill, name in zip((1, 2), names, strict=True)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    if value is not None:
        assert read_fits(Source(difference, ((plane, path),)), MAPPING).planes[plane].max() == value
        return
    with pytest.raises(BadInput, match=r"given for the plane 'mask', .* 1 \(A\), 2 \(B\)") as caught:
        read_fits(Source(difference, ((plane, path),)), MAPPING)
    assert (caught.value.code, caught.value.where) == ("ambiguous_image", path)


def test_the_primary_header_may_number_the_planes_of_a_mask(write_ztf, tmp_path):
    difference, path = write_ztf(), str(tmp_path / "planes.fits")
    with fits.open(difference) as file:
        mask = fits.ImageHDU(np.full(file[1].shape, 1 << 5, "i4"), name="MASK")
    fits.HDUList([fits.PrimaryHDU(header=fits.Header({"MP_SAT": 5})), mask]).writeto(path)
    assert read_fits(Source(difference, (("mask", path),)), MAPPING).planes["mask"].max() == MaskPlane.SAT


@pytest.mark.parametrize(
    ("cards", "differs"),
    [
        (lambda _: {"BUNIT": "DN"}, False),
        (lambda _: {"BUNIT": "electron"}, True),
        (lambda _: {"BUNIT": "wavelets"}, False),
        (lambda wcs: wcs | {"CTYPE2": "x"}, False),
        (lambda wcs: wcs | {"CRPIX1": wcs["CRPIX1"] + 0.2}, False),
        (lambda wcs: wcs | {"CRPIX1": wcs["CRPIX1"] + 1}, True),
        (lambda wcs: wcs | {"CD1_1": -wcs["CD1_1"]}, True),
    ],
)
def test_a_science_image_in_another_unit_or_of_other_pixels_has_a_flag(write_ztf, tmp_path, cards, differs):
    difference, path = write_ztf(BUNIT="adu"), str(tmp_path / "science.fits")
    wcs = dict(fits.Header.fromstring(read_fits(Source(difference), MAPPING).wcs_header, sep="\n"))
    with fits.open(difference) as file:
        fits.PrimaryHDU(file[1].data, fits.Header(cards(wcs))).writeto(path)
    assert ("science_differs" in read_fits(Source(difference, (("science", path),)), MAPPING).flags) is differs
