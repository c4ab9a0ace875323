import math
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given
from hypothesis import strategies as st

from flows.inputs.fits_generic import GENERIC
from flows.inputs.fits_header import (
    HeaderOrigin,
    Keywords,
    as_integer,
    as_number,
    exposure_end,
    has_large_image,
    image_shape,
    is_image,
    middle,
    time_scale,
    true_pixels,
)
from flows.inputs.fits_io import FitsContent, read_headers
from flows.inputs.fits_rows import FitsRows
from flows.inputs.fits_rubin import RUBIN
from flows.inputs.fits_ztf import ZTF
from schemas.errors import BadInput
from tests.support.exposure import exposure_info


@pytest.mark.parametrize(("form", "required"), [(ZTF, True), (RUBIN, True), (GENERIC, False)])
def test_archives_promise_astrometry_and_strangers_do_not(form, required):
    assert form.wcs_required is required


def test_formats_are_values():
    assert {ZTF, RUBIN, GENERIC} == {GENERIC, ZTF, RUBIN}
    assert {form.name for form in (ZTF, RUBIN, GENERIC)} == {"ZTF", "Rubin", "generic"}


def words(image=None, primary=None):
    return Keywords("x.fits", (fits.Header(image or {}), fits.Header(primary or {})))


def refused(code, call):
    with pytest.raises(BadInput) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


def test_the_image_header_goes_before_the_primary_one():
    found = words({"GAIN": 2.0}, {"GAIN": 1.0, "EXPTIME": 30})
    assert found.number("GAIN") == 2
    assert found.number("EXPTIME") == 30


def test_the_first_name_that_is_there_counts():
    assert words({"EXPOSURE": 31.0, "EXPTIME": 30.0}).number("EXPTIME", "EXPOSURE") == 30


def test_a_name_goes_before_the_next_one_in_whichever_header_it_is():
    assert words({"EXPOSURE": 31.0}, {"EXPTIME": 30.0}).required("EXPTIME", "EXPOSURE") == ("EXPTIME", 30.0)
    assert words({"EXPOSURE": 31.0}).has("EXPTIME", "EXPOSURE")
    assert words({"EXPOSURE": 31.0}).find("EXPTIME", "GAIN") is None


def test_zero_is_a_value():
    assert words({"DETECTOR": 0, "FLAG": False}).integer("DETECTOR", below=1) == 0
    assert words({"FLAG": False}).required("FLAG") == ("FLAG", False)


def test_empty_values_are_no_values():
    assert not words({"DETECTOR": "        ", "BAND": None}).has("DETECTOR", "BAND")
    assert words({"DETECTOR": "   "}, {"DETECTOR": 4}).integer("DETECTOR", below=10) == 4


@pytest.mark.parametrize(("values", "one"), [((30.0, 30.0), True), ((30.0, 60.0), False), (("r", "g"), False)])
def test_a_keyword_with_two_values_is_refused(values, one):
    """A pipeline has appended its own, and the standard does not say which counts."""
    header = fits.Header([("EXPTIME", value) for value in values])
    found = Keywords("x.fits", (header, fits.Header({"EXPTIME": 5.0})))
    if one:
        assert found.number("EXPTIME") == 30
        return
    for call in (found.text, found.required):
        assert "EXPTIME is there 2 times" in refused("invalid_keyword", lambda call=call: call("EXPTIME"))


def test_missing_keywords_are_named():
    assert "EXPTIME or EXPOSURE" in refused("missing_keyword", lambda: words().number("EXPTIME", "EXPOSURE"))
    assert "FILTER has no value" in refused("missing_keyword", lambda: words({"FILTER": " "}).text("BAND", "FILTER"))


@pytest.mark.parametrize("value", ["long", True, "nan", "inf"])
def test_what_is_no_number_is_named(value):
    assert "EXPTIME" in refused("invalid_keyword", lambda: words({"EXPTIME": value}).number("EXPTIME"))


def test_limits_are_said():
    assert "from 0 to 10" in refused("invalid_keyword", lambda: as_number(11, "N", "x", 0, 10))
    assert "at least 0" in refused("invalid_keyword", lambda: as_number(-1, "N", "x", 0))


def test_the_limit_that_there_is_is_said():
    assert refused("invalid_keyword", lambda: as_number("a", "N", "x")).count("must be a number.") == 1
    assert "from -inf to 10" in refused("invalid_keyword", lambda: as_number(11, "N", "x", most=10))
    assert "from 0 to 7" in refused("invalid_keyword", lambda: as_integer(8, "N", "x", 8))


@given(
    value=st.floats(allow_nan=False, allow_infinity=False),
    least=st.floats(allow_nan=False),
    most=st.floats(allow_nan=False),
)
@example(value=1.0, least=1.0, most=1.0)
@example(value=1.0, least=math.nextafter(1, 2), most=2.0)
@example(value=1.0, least=0.0, most=math.nextafter(1, 0))
def test_a_number_is_taken_from_the_least_to_the_most(value, least, most):
    if value < least or value > most:
        refused("invalid_keyword", lambda: as_number(value, "N", "x", least, most))
        refused("invalid_keyword", lambda: words({"N": value}).number("N", least=least, most=most))
    else:
        assert as_number(value, "N", "x", least, most) == value
        assert words({"N": value}).number("N", least=least, most=most) == value


@pytest.mark.parametrize("value", [0, 1, 8, 9, 9.0, "9"])
def test_a_whole_number_is_taken_from_zero_to_the_last_below(value):
    assert as_integer(value, "N", "x", 10) == int(value)
    refused("invalid_keyword", lambda: as_integer(value, "N", "x", int(value)))


@given(value=st.integers(0, 2**42 - 1))
def test_whole_numbers_come_back_from_any_form(value):
    for form in (value, str(value), float(value)):
        assert as_integer(form, "VISIT", "x", 2**42) == value


@pytest.mark.parametrize("value", [-1, 2**42, 1.5, "1e3.5", True])
def test_what_is_no_id_is_refused(value):
    refused("invalid_keyword", lambda: as_integer(value, "VISIT", "x", 2**42))


def test_optional_numbers_lie_above_the_least():
    assert words({"GAIN": 5e-324}).optional("GAIN", least=0) == 5e-324
    assert words({"GAIN": "-7.5"}).optional("GAIN") == -7.5
    assert words({"GAIN": 1.0}).optional("ZP") is None


@pytest.mark.parametrize("value", ["unknown", 0.0, -5.0, "nan", "inf"])
def test_optional_nonsense_counts_as_not_known(value):
    assert words({"GAIN": value}).optional("GAIN", least=0) is None


def test_text_has_no_blanks_around_it():
    assert words({"FILTER": " R "}).text("FILTER") == "R"


def when(value, **given):
    return middle(value, name="T", where="x.fits", exposure_time_s=60.0, longitude_deg=-116.86, **given)


@pytest.mark.parametrize(("at", "seconds"), [("start", 30), ("middle", 0), ("end", -30)])
def test_middle_from_any_moment(at, seconds):
    assert when(58748.29, at=at).midpoint_mjd_tai == pytest.approx(58748.29 + (37 + seconds) / 86400, abs=1e-9)


def test_tai_headers_need_no_leap_seconds_but_the_night_does():
    found = when(58748.29, scale="tai", at="middle")
    assert found.midpoint_mjd_tai == 58748.29
    assert found.night == "20190921"


def test_forms_agree():
    days = when(58334.39133794).midpoint_mjd_tai
    assert when(2458334.89133794, form="jd").midpoint_mjd_tai == pytest.approx(days, abs=1e-8)
    assert when("2018-08-04T09:23:31.598", form="isot").midpoint_mjd_tai == pytest.approx(days, abs=1e-8)


def test_the_future_is_no_warning():
    """Leap seconds are known some years ahead only; warnings are errors here."""
    assert when(80000.0).night == "20771127"  # MJD 80000 is 2077-11-28


@pytest.mark.parametrize(("value", "form"), [("26/07/102", "isot"), (0.0, "mjd"), (1e9, "mjd"), ("x", "jd")])
def test_nonsense_names_the_keyword(value, form):
    forms = {
        "isot": r"a date and time \(YYYY-MM-DDThh:mm:ss\)",
        "mjd": r"a day number \(MJD\)",
        "jd": r"a day number \(JD\)",
    }
    with pytest.raises(BadInput, match=f"T is .*, must be {forms[form]} in UTC(, between|\\.)") as caught:
        when(value, form=form)
    assert caught.value.code == "invalid_keyword"
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("first", "last"), [("1970-01-01T00:00:00", "2100-01-01T00:00:00"), (40587.0, 88069.0), (2440587.5, 2488069.5)]
)
def test_dates_from_1970_to_2100_are_possible(first, last):
    """The Unix epoch is MJD 40587; from it to 2100 are 130 years of 365 days and 32 leap days."""
    form = "isot" if isinstance(first, str) else "jd" if first > 1e6 else "mjd"
    for limit, other in ((first, 40586.99999), (last, 88069.00001)):
        assert when(limit, form=form, scale="tai", at="middle").midpoint_mjd_tai in (40587, 40587 + 365 * 130 + 32)
        with pytest.raises(BadInput, match="between 1970 and 2100"):
            when(other, scale="tai", at="middle")


@pytest.mark.parametrize(
    ("cards", "image"),
    [
        ({"XTENSION": "IMAGE   ", "NAXIS": 2}, True),
        ({"XTENSION": "IMAGE", "NAXIS": 1}, True),
        ({"XTENSION": "IMAGE", "NAXIS": 0}, False),
        ({"SIMPLE": True, "NAXIS": 2}, True),
        ({"SIMPLE": True, "NAXIS": 0}, False),
        ({"SIMPLE": True}, False),
        ({"XTENSION": "BINTABLE", "NAXIS": 2}, False),
        ({"XTENSION": "BINTABLE", "NAXIS": 2, "ZIMAGE": True}, True),
        ({"XTENSION": "BINTABLE", "NAXIS": 2, "ZIMAGE": False}, False),
    ],
)
def test_pixels_are_in_images_and_in_tables_that_say_so(cards, image):
    """FITS standard 4.0: an image has axes (4.4.1); a table with ZIMAGE = T is a compressed one (10.1)."""
    assert is_image(fits.Header(cards)) is image


def test_it_is_half_an_exposure_after_the_middle_in_utc():
    """MJD 58748 is 2019-09-22T00:00; since 2017 TAI has been 37 s ahead of UTC (IERS Bulletin C 52)."""
    info = exposure_info((9, 9), night="20190921", instrument="x", midpoint_mjd_tai=58748.0)
    expected = datetime(2019, 9, 22, tzinfo=UTC) - timedelta(seconds=37) + timedelta(seconds=15)
    assert abs(exposure_end(info) - expected) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("kind", "left"), [("i2", [1, math.nan]), ("u1", [1, math.nan]), ("f4", [1, 7]), ("f8", [1, 7])]
)
def test_only_whole_numbers_have_a_blank(kind, left):
    """FITS 4.0, 4.4.2.5: BLANK is of images with whole numbers alone."""
    pixels = np.array([1, 7], kind)
    np.testing.assert_array_equal(true_pixels(pixels, fits.Header({"BLANK": 7})), left)
    assert true_pixels(pixels, fits.Header()) is pixels


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("bits", [16, 32])
def test_a_blank_is_of_the_numbers_in_the_file(tmp_path, bits, compressed):
    """FITS 4.0, 4.4.2.5: not of the unsigned ones that BZERO makes of them, where it is 0 here."""
    pixels, path = np.arange(1000, 1012, dtype=f"u{bits // 8}").reshape(3, 4), tmp_path / "x.fits"
    pixels[1] = 0
    hdu = fits.CompImageHDU(pixels, compression_type="RICE_1") if compressed else fits.ImageHDU(pixels)
    hdu.header["BLANK"] = -(2 ** (bits - 1))
    hdu.writeto(path)
    found = FitsContent(path.read_bytes(), "x").image(1)
    np.testing.assert_array_equal(found, np.where(pixels == 0, np.nan, pixels))
    np.testing.assert_array_equal(opened_by_rows(path).image(1)[1:3], found[1:3])


def opened_by_rows(path):
    with path.open("rb") as file:
        headers = read_headers(file, "x")
    return FitsRows(str(path), headers, 10**6, sha256(), path.parent, verify=False)


def test_pixels_of_a_stack_of_pan_starrs_are_made_linear(tmp_path):
    """L = BOFFSET + BSOFTEN (exp(C / alpha) - exp(-C / alpha)), alpha = 1.0857362 (the project's asinh_compression)."""
    stored, path, soften, offset = np.array([[-7.5, 0.0, 2.0, np.nan, 12.0]], "f4"), tmp_path / "x.fits", 12.3, -0.7
    fits.PrimaryHDU(stored, fits.Header({"BSOFTEN": soften, "BOFFSET": offset})).writeto(path)
    linear = offset + soften * (np.exp(stored / 1.0857362) - np.exp(-stored / 1.0857362))
    np.testing.assert_allclose(FitsContent(path.read_bytes(), "x").image(0), linear, rtol=2e-6)
    np.testing.assert_allclose(opened_by_rows(path).image(0)[0:1], linear, rtol=2e-6)
    for kept in ({"BSOFTEN": soften}, {"BSOFTEN": "12.3", "BOFFSET": offset}):
        assert true_pixels(stored, fits.Header(kept)) is stored


def test_a_guess_has_the_flag_of_its_quantity():
    assert HeaderOrigin("gain", "GAIN").doubt == ""
    assert HeaderOrigin("gain", assumed=True).doubt == "assumed_gain"
    assert HeaderOrigin("time", flag="no_time", assumed=True).doubt == "no_time"


def test_a_comment_is_that_of_the_value():
    """The image's own header has the keyword, but no value of it."""
    own = [("GAIN", "  ", "of the image"), ("RON", 4.0, "of the image")]
    found = words(own, [("GAIN", 1.0, "of the whole")])
    assert [found.comment(name) for name in ("GAIN", "RON", "ZP")] == ["of the whole", "of the image", ""]


def test_the_primary_header_may_be_asked_first():
    both = words({"GAIN": 2.0}, {"GAIN": 1.0})
    assert both.primary_first().number("GAIN") == 1
    assert Keywords("x", both.headers[:1]).primary_first() is None


@pytest.mark.parametrize(
    ("given", "scale"), [(None, "tai"), ("UTC", "utc"), ("utc(NIST)", "utc"), (" TDT ", "tt"), ("GPS", "gps")]
)
def test_the_header_names_the_time_scale(given, scale):
    assert time_scale(words({} if given is None else {"TIMESYS": given}), "tai") == scale


@pytest.mark.parametrize("given", ["UT1", "LOCAL", "TCB"])
def test_times_of_other_scales_are_refused(given):
    assert given in refused("unknown_time_scale", lambda: time_scale(words({"TIMESYS": given}), "utc"))


def test_a_time_scale_given_twice_is_refused():
    told = "TIMESYS is there 2 times with different values: 'UTC', 'TAI'"
    assert told in refused(
        "invalid_keyword", lambda: time_scale(words([("TIMESYS", "UTC"), ("TIMESYS", "TAI")]), "utc")
    )
    assert time_scale(words([("TIMESYS", "TAI"), ("TIMESYS", "TAI")]), "utc") == "tai"


def sides(*lengths, prefix=""):
    cards = {f"{prefix}NAXIS{axis}": length for axis, length in enumerate(lengths, 1)}
    return fits.Header({f"{prefix}NAXIS": len(lengths), **cards})


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ((), ()),
        ((7,), (7,)),
        ((9, 0), (0, 9)),
        ((9, 7), (7, 9)),
        ((9, 1), (1, 9)),
        ((1, 1), (1, 1)),
        ((9, 7, 1), (7, 9)),
        ((9, 7, 1, 1), (7, 9)),
        ((9, 7, 2), (2, 7, 9)),
        ((9, 7, 1, 2), (2, 1, 7, 9)),
    ],
)
def test_sides_are_those_of_numpy_without_axes_of_1_beyond_the_second(lengths, shape):
    assert image_shape(sides(*lengths)) == shape
    packed = sides(*lengths, prefix="Z")
    packed.update({"ZIMAGE": True, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": 99})
    assert image_shape(packed) == shape


def test_an_image_has_no_more_axes_than_a_header_can_number():
    assert image_shape(fits.Header({"NAXIS": 999})) == (0,) * 999
    for cards in ({"NAXIS": 1000}, {"NAXIS": -1}, {"NAXIS": 1, "NAXIS1": -1}):
        with pytest.raises(ValueError, match=r"NAXIS = |negative axis"):
            image_shape(fits.Header(cards))


def test_a_file_is_large_where_one_of_its_images_is():
    small, large = sides(9, 7), sides(2**14, 2**14)
    table = fits.Header({"XTENSION": "BINTABLE", **sides(2**14, 2**14)})
    assert not has_large_image((small, table))
    assert has_large_image((small, table, large))
