from pathlib import Path

import pytest
from astropy.io import fits

from flows.inputs.fits_io import read_headers
from flows.inputs.fits_ztf import ZTF, is_ztf_mask
from schemas.errors import BadInput
from schemas.keyword_mapping import KeywordMapping

MAPPING = KeywordMapping()


@pytest.fixture
def headers(write_ztf):
    def make(*, compressed=True, **cards):
        path = Path(write_ztf(compressed=compressed, **cards))
        with path.open("rb") as file:
            return read_headers(file, str(path))

    return make


@pytest.mark.parametrize("compressed", [True, False])
def test_is_known_by_its_keywords(headers, compressed):
    assert ZTF.matches(headers(compressed=compressed))
    assert ZTF.matches(headers(compressed=compressed, ORIGIN=None, INSTRUME=None))
    assert ZTF.matches(headers(compressed=compressed, OBSMJD=None, EXPID=None))


def test_others_are_not_it():
    assert not ZTF.matches((fits.Header({"INSTRUME": "DECam", "EXPTIME": 30.0, "FILTER": "r", "CCDNUM": 4}),))


@pytest.mark.parametrize(
    ("cards", "band"),
    [
        ({"FILTERID": 1}, "g"),
        ({"FILTERID": 2}, "r"),
        ({"FILTERID": 3}, "i"),
        ({"FILTERID": None, "FILTER": "ZTF_g"}, "g"),
        ({"FILTERID": None, "FILTER": "r"}, "r"),
    ],
)
def test_bands(headers, cards, band):
    assert ZTF.identity(headers(**cards), "x", MAPPING).band == band


@pytest.mark.parametrize(("ccd", "quadrant", "detector"), [(1, 1, 0), (1, 4, 3), (15, 4, 59), (16, 4, 63)])
def test_readout_channel_from_ccd_and_quadrant(headers, ccd, quadrant, detector):
    found = ZTF.identity(headers(RCID=None, CCDID=ccd, QID=quadrant), "x", MAPPING)
    assert found.key.detector == detector


def test_the_julian_date_does_where_the_modified_one_is_missing(headers):
    both = ZTF.identity(headers(), "x", MAPPING)
    one = ZTF.identity(headers(OBSMJD=None), "x", MAPPING)
    assert one.midpoint_mjd_tai == pytest.approx(both.midpoint_mjd_tai, abs=2e-8)  # the header's last digit
    assert one.key == both.key


def test_what_is_not_essential_may_be_missing(headers):
    found = ZTF.calibration(headers(GAIN=None, SATURATE=None, SEEING=None, MAGZPUNC=None), "x", MAPPING, None)
    assert found[:6] == ("adu", 25.352175, None, None, None, None)


def test_seeing_is_in_pixels(headers):
    assert ZTF.calibration(headers(SEEING=2.25), "x", MAPPING, None).psf.fwhm_px == 2.25


def test_the_zero_point_is_essential(headers):
    with pytest.raises(BadInput, match="MAGZP"):
        ZTF.calibration(headers(MAGZP=None), "x", MAPPING, None)


OWN = {
    "OBSMJD": 58748.29, "OBSJD": 2458748.79, "CCDID": 5, "QID": 2, "RCID": 17, "EXPID": 99329150, "FILTERID": 2,
    "PROGRMID": 1,
}  # fmt: skip


@pytest.mark.parametrize(("count", "known"), [(0, False), (2, False), (3, True), (8, True)])
@pytest.mark.parametrize("split", [False, True])
def test_three_keywords_of_its_own_are_enough_wherever_they_are(count, known, split):
    for first in range(len(OWN)):
        keys = [list(OWN)[(first + step) % len(OWN)] for step in range(count)]
        cut = count // 2 if split else 0
        found = tuple(fits.Header({key: OWN[key] for key in part}) for part in (keys[:cut], keys[cut:]))
        assert ZTF.matches(found) is known


@pytest.mark.parametrize("card", [{"ORIGIN": "Zwicky Transient Facility"}, {"INSTRUME": "ZTF/MOSAIC"}])
def test_its_name_is_enough(card):
    assert ZTF.matches((fits.Header(), fits.Header(card)))
    assert is_ztf_mask(fits.Header(card))


def test_a_mask_is_known_by_its_bits_too():
    assert is_ztf_mask(fits.Header({"BIT00": 0}))
    assert not is_ztf_mask(fits.Header({"BITPIX": 16}))


def plain(**cards):
    given = {"NAXIS": 2, "EXPTIME": 30.0, "MAGZP": 26.0, **OWN, **cards}
    return (fits.Header({key: value for key, value in given.items() if value is not None}),)


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ({"CCDID": 0}, "CCDID"), ({"CCDID": 17}, "CCDID"), ({"QID": 0}, "QID"), ({"QID": 5}, "QID"),
        ({"CCDID": 0, "QID": 0}, "CCDID"), ({"RCID": 64}, "RCID"), ({"RCID": -1}, "RCID"), ({"EXPID": 2**42}, "EXPID"),
        ({"EXPTIME": -0.1}, "EXPTIME"), ({"EXPTIME": 1.1e5}, "EXPTIME"),
        ({"FILTERID": 100, "FILTER": "ZTF_r"}, "FILTERID"),
    ],
)  # fmt: skip
def test_numbers_that_the_camera_does_not_have_are_refused(cards, word):
    """16 CCDs of 4 quadrants each: Dekany et al. 2020, PASP 132, 038001."""
    given = plain(**({"RCID": None} | cards))
    with pytest.raises(BadInput, match=word) as caught:
        ZTF.identity(given, "x", MAPPING)
    assert caught.value.code == "invalid_keyword"


def test_every_readout_channel_has_its_own_number():
    channels = [(ccd, quadrant) for ccd in range(1, 17) for quadrant in range(1, 5)]
    found = [ZTF.identity(plain(RCID=None, CCDID=c, QID=q), "x", MAPPING).key.detector for c, q in channels]
    assert found == list(range(64))
    assert [ZTF.identity(plain(RCID=channel), "x", MAPPING).key.detector for channel in (0, 63)] == [0, 63]


@pytest.mark.parametrize("exposure", [0.0, 1e5])
def test_exposures_last_from_nothing_to_a_day(exposure):
    """OBSMJD is the beginning, UTC; since 2017 TAI has been 37 s ahead of it (IERS Bulletin C 52)."""
    found = ZTF.identity(plain(EXPTIME=exposure), "x", MAPPING)
    assert found.exposure_time_s == exposure
    assert found.midpoint_mjd_tai == pytest.approx(58748.29 + (37 + exposure / 2) / 86400, abs=1e-9)


@pytest.mark.parametrize(("hour", "night"), [(17, "20190921"), (19.7, "20190921"), (19.9, "20190922")])
def test_nights_begin_at_noon_on_palomar(hour, night):
    """MJD 58748 is 2019-09-22; 116.86 degrees west it is noon at 19:47 UTC."""
    found = ZTF.identity(plain(OBSMJD=58748 + hour / 24, EXPTIME=0.0), "x", MAPPING)
    assert found.key.night == night


@pytest.mark.parametrize(
    ("cards", "band"),
    [
        ({"FILTERID": 0, "FILTER": "ZTF_R"}, "r"), ({"FILTERID": 4, "FILTER": "ZTF_z"}, "z"),
        ({"FILTERID": 1, "FILTER": "ZTF_r"}, "g"), ({"FILTERID": 99}, "99"),
    ],
)  # fmt: skip
def test_a_filter_is_named_by_its_number_where_that_is_known(cards, band):
    assert ZTF.identity(plain(**cards), "x", MAPPING).band == band


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"MAGZPUNC": 0.0, "GAIN": 6.2, "SATURATE": 6e4}, (26.0, 0.0, 6.2, 6e4)),
        ({"MAGZPUNC": -0.1, "GAIN": 0.0, "SATURATE": 0.0}, (26.0, None, None, None)),
        ({"MAGZP": -26.0, "MAGZPUNC": 0.01, "GAIN": 5e-324, "SATURATE": 5e-324}, (-26.0, 0.01, 5e-324, 5e-324)),
    ],
)
def test_calibration_that_cannot_be_counts_as_not_known(cards, expected):
    found = ZTF.calibration(plain(**cards), "x", MAPPING, None)
    assert (found.zero_point, found.zero_point_err, found.gain, found.saturation) == expected
    assert ZTF.calibration(plain(SEEING=0.0), "x", MAPPING, None).psf is None


def test_the_difference_is_the_first_image():
    table, empty, image = (
        fits.Header({"XTENSION": "BINTABLE", "NAXIS": 2}),
        fits.Header({"NAXIS": 0}),
        fits.Header({"XTENSION": "IMAGE", "NAXIS": 2}),
    )
    assert ZTF.layout((empty, table, image, image), "x", MAPPING) == {"difference": 2}
    assert ZTF.layout((image,), "x", MAPPING) == {"difference": 0}
    with pytest.raises(BadInput) as caught:
        ZTF.layout((empty, table), "x", MAPPING)
    assert caught.value.code == "no_image"
