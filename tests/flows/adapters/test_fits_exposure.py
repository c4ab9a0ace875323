import numpy as np
import pytest

from flows.adapters.fits_exposure import fits_identity, read_fits, real_image
from flows.adapters.sources import Source
from schemas.errors import BadInput
from schemas.keyword_mapping import KeywordMapping

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
