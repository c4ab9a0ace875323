"""What an array must be, and what is known of it; searches: tests/nightstride/test_array.py."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from flows.pipeline import search_array as module
from flows.pipeline.array_facts import ArrayFacts
from flows.pipeline.search_array import search_array
from schemas.errors import BadInput
from schemas.exposure import PsfModel
from schemas.pixels import MaskPlane
from schemas.settings import Settings
from tests.support.forced import WCS_HEADER

SHAPE = (40, 50)
IMAGE = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
PLANES = {"difference": IMAGE}


def raw(**facts):
    return module._raw(PLANES, ArrayFacts(**facts))


def refusal(array=IMAGE, **facts):
    with pytest.raises(BadInput, match=r"^array in memory: ") as caught:
        search_array(array, ArrayFacts(**facts), Settings())
    return caught.value.code


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((3, 4, 5)), "wrong_dimensions"), (np.zeros(9), "wrong_dimensions"),
        (np.zeros(SHAPE, int), "not_floating"), (np.zeros(SHAPE, complex), "not_floating"),
        ([[1.0, 2.0], [3.0]], "not_an_array"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(array, code):
    assert refusal(array) == code


def test_an_image_may_have_as_many_pixels_as_are_held_at_once(monkeypatch):
    monkeypatch.setattr(module, "WHOLE_PIXELS", IMAGE.size)
    monkeypatch.setattr(module, "described", lambda raw: (_ for _ in ()).throw(RuntimeError("searched")))
    with pytest.raises(RuntimeError, match="searched"):
        search_array(IMAGE, ArrayFacts(), Settings())
    monkeypatch.setattr(module, "WHOLE_PIXELS", IMAGE.size - 1)
    assert refusal() == "too_large"


@pytest.mark.parametrize(
    ("name", "good", "bad", "code"),
    [
        ("mjd_tai", (40587.0, 88069.0), (40586.9, 88069.1, np.nan, "now"), "bad_time"),
        ("zero_point", (-100.0, 0.0, 100.0), (-100.1, 100.1, np.inf), "bad_zero_point"),
        ("saturation", (1e-9, 5e4, np.inf), (0.0, -1.0), "bad_saturation"),
        ("psf", (0.5, 100.0), (0.0, -2.0, 100.1, "wide"), "bad_psf"),
        ("gain", (1e-9, 2.0), (0.0, -1.0, np.nan), "bad_gain"),
        ("exposure_time_s", (0.0, 30.0, 1e7), (-0.1, 1.1e7, "long"), "bad_exposure_time"),
        ("zero_point_err", (0.0, 0.1), (-0.1, np.nan), "bad_zero_point_err"),
        ("band", ("r", "clear"), (3, None), "bad_band"),
    ],
)
def test_numbers_have_their_range(name, good, bad, code):
    for value in good:
        found = raw(**{name: value})
        assert (found.psf.fwhm_px if name == "psf" else getattr(found, name.replace("mjd", "midpoint_mjd"))) == value
    for value in bad:
        assert refusal(**{name: value}) == code


def test_what_is_not_known_is_flagged():
    assert raw().flags == ("no_time", "no_wcs", "no_zero_point")
    assert raw(pixel_unit="nJy").flags == ("no_time", "no_wcs")
    assert raw(zero_point=25.0, mjd_tai=61000.5, wcs=WCS_HEADER).flags == ()
    assert (raw().midpoint_mjd_tai, raw().key.night) == (0.0, raw().key.night)
    assert (raw().key.visit, raw().key.detector) == (0, 0)
    assert [raw(mjd_tai=mjd).key.night for mjd in (61000.4, 61000.6)] == ["20251120", "20251121"]  # 61000: 21 November
    assert raw().source_sha256 != module._raw({"difference": IMAGE + 1}, ArrayFacts()).source_sha256


def test_the_mask_is_booleans_or_bits():
    some = np.zeros(SHAPE, bool)
    some[3, 4] = True
    found = module._mask(some, SHAPE)
    assert (found.dtype, found[3, 4], found.sum()) == (np.uint16, MaskPlane.BAD, MaskPlane.BAD)
    assert module._mask(None, SHAPE).tolist() == np.zeros(SHAPE).tolist()
    bits = np.full(SHAPE, 2**16 - 1, np.int64)
    bits[0, 0] = 0
    np.testing.assert_array_equal(module._mask(bits, SHAPE), bits)
    for bad in (bits + 1, bits - 1, bits.astype(float)):
        assert refusal(mask=bad) == "bad_mask"
    assert refusal(mask=some[1:]) == refusal(science=IMAGE[:, 1:]) == "other_shape"


def test_what_is_masked_or_too_large_for_a_float_is_no_number():
    masked = np.ma.MaskedArray(IMAGE.astype(float), np.eye(*SHAPE, dtype=bool))
    found = module._image(masked, "array")
    np.testing.assert_array_equal(np.isnan(found), np.eye(*SHAPE, dtype=bool))
    np.testing.assert_array_equal(found[~np.isnan(found)], IMAGE[~np.eye(*SHAPE, dtype=bool)])
    assert np.isinf(module._image(np.full(SHAPE, 1e300), "array")).all()
    assert module._image(IMAGE, "array") is not IMAGE


def test_a_psf_is_its_width_a_stamp_or_a_model():
    y, x = np.mgrid[-12:13, -12:13]
    stamp = (1 + np.square(np.hypot(x, y) / 2.5)) ** -3.0
    found = module._psf(stamp)
    assert (found.source, found.beta) == ("stamp", pytest.approx(3, rel=0.1))
    assert found.fwhm_px == pytest.approx(2 * 2.5 * np.sqrt(2 ** (1 / 3) - 1), rel=0.1)
    assert module._psf(None) is None
    assert module._psf(PsfModel(fwhm_px=2.0, source="header")).source == "stamp"
    assert module._psf(PsfModel(fwhm_px=2.0, source="measured")).source == "measured"
    assert (module._psf(2.0).source, module._psf(2.0).flatness_err > 0) == ("header", True)


def test_a_stamp_needs_light():
    y, x = np.mgrid[-12:13, -12:13]
    star = np.exp(-(x**2 + y**2) / 8)
    for dark in (-star, star - 1, star - 0.1, np.full((9, 9), np.nan)):
        assert refusal(psf=dark) == "bad_psf"


def test_quantities_are_converted():
    world = {"wcs": WCS_HEADER}
    scale = proj_plane_pixel_scales(WCS(fits.Header.fromstring(WCS_HEADER, sep="\n"))).mean() * u.deg
    assert raw(psf=2.4 * u.pix).psf == raw(psf=2.4).psf
    assert raw(psf=2.4 * scale, **world).psf.fwhm_px == pytest.approx(2.4)
    assert raw(psf=2.4 * scale.to(u.arcmin), **world).psf.fwhm_px == pytest.approx(2.4)
    assert raw(gain=1.5 * u.electron / u.adu).gain == 1.5
    assert raw(gain=1.5 * u.electron / u.nJy, pixel_unit="nJy").gain == 1.5
    rates = raw(gain=1.5 * u.electron / u.adu, exposure_time_s=0.5 * u.min, pixel_unit="adu/s")
    assert (rates.gain, rates.exposure_time_s) == (45.0, 30.0)
    assert raw(zero_point=25 * u.ABmag, zero_point_err=0.02 * u.mag).zero_point == 25.0
    assert raw(zero_point=25 * u.mag).zero_point == 25.0
    assert raw(saturation=5e4 * u.adu).saturation == 5e4
    assert raw(saturation=5 * u.uJy, pixel_unit="nJy").saturation == pytest.approx(5000)
    assert raw(mjd_tai=61000.5 * u.d).midpoint_mjd_tai == 61000.5


def test_a_wcs_may_be_one_of_astropy_a_header_or_its_cards():
    header = fits.Header.fromstring(WCS_HEADER, sep="\n")
    for given in (WCS_HEADER, header, WCS(header)):
        found = WCS(fits.Header.fromstring(module._cards(given, SHAPE), sep="\n"))
        np.testing.assert_allclose(found.all_pix2world(150, 140, 0), (150, 20), atol=1e-9)
    assert refusal(wcs=3) == "bad_wcs"
    assert refusal(wcs=fits.Header()) == "missing_wcs"
