from pathlib import Path

import pytest
from astropy.io import fits

from flows.inputs.fits_io import read_headers
from flows.inputs.fits_ztf import ZTF
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
    assert found == ("adu", 25.352175, None, None, None, None)


def test_seeing_is_in_pixels(headers):
    assert ZTF.calibration(headers(SEEING=2.25), "x", MAPPING, None).psf.fwhm_px == 2.25


def test_the_zero_point_is_essential(headers):
    with pytest.raises(BadInput, match="MAGZP"):
        ZTF.calibration(headers(MAGZP=None), "x", MAPPING, None)
