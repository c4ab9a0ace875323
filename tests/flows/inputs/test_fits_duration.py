import pytest
from astropy.io import fits

from flows.inputs.fits_duration import exposure_time_of
from flows.inputs.fits_header import Keywords
from schemas.errors import BadInput, Misconfigured
from schemas.keyword_mapping import KeywordMapping


def told(value, comment="", **given):
    words = Keywords("x.fits", (fits.Header([("EXPTIME", value, comment)]),))
    return exposure_time_of(words, KeywordMapping(exposure_time={"keyword": "EXPTIME", **given}))


@pytest.mark.parametrize(
    ("value", "comment", "seconds"),
    [
        (60.0, "", 60.0), (60.0, "[s] exposure time", 60.0), (60.0, "[SEC]", 60.0), (60.0, "exposure, seconds", 60.0),
        (60000.0, "[ms] exposure time", 60.0), (1.0, "[min] exposure", 60.0), (1.0, "[Minutes]", 60.0),
        (0.5, "[h]", 1800.0), (0.06, "[ks]", 60.0), (60.0, "hours, minutes, seconds: in s", 60.0),
        (60.0, "minimum of all", 60.0), (60.0, "d and h are not units here", 60.0),
        (9000.0, "[s] of all images", 9000.0), (7200.0, "", 7200.0),
    ],
)  # fmt: skip
def test_the_unit_is_that_at_the_head_of_the_comment(value, comment, seconds):
    """FITS standard 4.0, section 4.3.2."""
    found, origin = told(value, comment)
    assert (found, origin.flag) == (pytest.approx(seconds), "")


@pytest.mark.parametrize(
    ("value", "comment", "seconds"),
    [
        (1.0, "exposure time in minutes", 60.0), (60000.0, "milliseconds", 60.0), (60000.0, "exposure (ms)", 60.0),
        (1.0, "exposure in min", 60.0), (0.5, "Exposure, HOURS", 1800.0), (60.0, "hours or minutes", 60.0),
        (9000.0, "", 9000.0),
    ],
)  # fmt: skip
def test_a_unit_in_words_or_a_long_time_has_a_flag(value, comment, seconds):
    found, origin = told(value, comment)
    assert (found, origin.flag) == (pytest.approx(seconds), "ambiguous_time")
    assert "fits.exposure_time.unit" in origin.note
    sure, origin = told(value, comment, unit="ms")
    assert (sure, origin.flag) == (pytest.approx(value / 1000), "")


def test_no_time_at_all_has_a_flag():
    found, origin = told(0.0, "[s] exposure time")
    assert (found, origin.flag) == (0.0, "ambiguous_time")
    assert "fits.exposure_time.value" in origin.note


@pytest.mark.parametrize(
    "comment",
    ["exposure time per coadd", "[s] time/frame", "Time of each sub-exposure", "of a single read"],
)
def test_the_time_of_one_part_has_a_flag(comment):
    found, origin = told(60.0, comment)
    assert (found, origin.flag) == (60.0, "ambiguous_time")
    assert "fits.exposure_time.value" in origin.note
    assert told(60.0, comment, unit="s")[1].flag == ""


@pytest.mark.parametrize("comment", ["of the frame", "[s] all coadds", "persistent frame", "each night", "at the end"])
def test_the_time_of_the_whole_has_none(comment):
    assert told(60.0, comment)[1].flag == ""


@pytest.mark.parametrize("comment", ["[adu]", "[deg] exposure", "[furlong]"])
def test_a_unit_that_is_not_of_time_is_refused(comment):
    with pytest.raises(BadInput, match="must be a unit of time") as caught:
        told(60.0, comment)
    assert "fits.exposure_time.unit" in caught.value.remedy


def test_more_than_a_stack_has_is_refused_in_its_own_unit():
    with pytest.raises(BadInput, match="is 300 d, must be from 0 to 1e"):
        told(300.0, "[d]")
    assert told(1e7, "[s]")[0] == 1e7


def test_a_constant_is_in_seconds_unless_its_unit_is_given():
    words = Keywords("x.fits", ())
    assert exposure_time_of(words, KeywordMapping(exposure_time={"value": 30.0}))[0] == 30.0
    assert exposure_time_of(words, KeywordMapping(exposure_time={"value": 2.0, "unit": "min"}))[0] == 120.0
    with pytest.raises(Misconfigured):
        exposure_time_of(words, KeywordMapping(exposure_time={}))


def of_two_headers(own, primary, **mapping):
    words = Keywords("x.fits", (fits.Header({"EXPTIME": own}), fits.Header([("EXPTIME", *primary)])))
    return exposure_time_of(words, KeywordMapping(**mapping))


@pytest.mark.parametrize(
    ("primary", "flag"),
    [
        ((60.0, ""), ""),
        ((61.0, ""), ""),
        ((60000.0, "[ms]"), ""),
        (("", ""), ""),
        ((0.0, "no image here"), ""),
        (("a minute", ""), ""),
        ((62.0, ""), "ambiguous_time"),
        ((60.0, "[min]"), "ambiguous_time"),
    ],
)
def test_the_image_goes_before_the_primary_header_and_a_difference_has_a_flag(primary, flag):
    found, origin = of_two_headers(60.0, primary)
    assert (found, origin.flag) == (60.0, flag)
    assert ("of the primary header" in origin.note) == bool(flag)
    assert of_two_headers(60.0, primary, time={"contradictions": "ignore"})[1].flag == ""


@pytest.mark.parametrize(
    ("cards", "told"),
    [
        ([("EXPOSURE", 30.0)], ""), ([("EXPOSURE", 0.5, "[min]"), ("XPOSURE", 29.5)], ""), ([("EXPOSURE", "dark")], ""),
        ([("EXPOSURE", 90.0)], "EXPOSURE is 90 s"), ([("XPOSURE", 28.0)], "XPOSURE is 28 s"),
        ([("TELAPSE", 60.0, "[s] with pauses")], "TELAPSE is 60 s"), ([("COADDS", 1)], ""),
        ([("NCOADDS", 2)], "perhaps of one part, as NCOADDS is 2"),
    ],
)  # fmt: skip
def test_other_keywords_of_the_duration_are_compared(cards, told):
    words = Keywords("x.fits", (fits.Header([("EXPTIME", 30.0, "exposure time"), *cards]),))
    found, origin = exposure_time_of(words, KeywordMapping())
    assert (found, origin.flag) == (30.0, "ambiguous_time" if told else "")
    assert told in origin.note
    sure = {"exposure_time": {"keyword": "EXPTIME", "unit": "s"}, "time": {"contradictions": "ignore"}}
    assert exposure_time_of(words, KeywordMapping(**sure))[1].flag == ""


def test_a_keyword_of_the_settings_and_the_sum_of_all_parts_are_not_doubted():
    words = Keywords("x.fits", (fits.Header([("EXPTIME", 30.0, "sum of all"), ("TELAPSE", 60.0), ("COADDS", 2)]),))
    assert exposure_time_of(words, KeywordMapping(time={"contradictions": "ignore"}))[1].flag == ""
    mapping = KeywordMapping(exposure_time={"keyword": "TELAPSE", "unit": "s"})
    assert (exposure_time_of(words, mapping)[0], exposure_time_of(words, mapping)[1].flag) == (60.0, "")
