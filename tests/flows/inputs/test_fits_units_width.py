import pytest
from astropy.io import fits

from flows.inputs.fits_header import Keywords
from flows.inputs.fits_units import fwhm_of, unit_of_width
from schemas.errors import BadInput
from schemas.keyword_mapping import FwhmFromHeader

WCS = "\n".join(
    f"{key:8}= {value}"
    for key, value in {
        "CTYPE1": "'RA---TAN'", "CTYPE2": "'DEC--TAN'", "CRPIX1": 1.0, "CRPIX2": 1.0, "CRVAL1": 10.0, "CRVAL2": 0.0,
        "CDELT1": -0.0001, "CDELT2": 0.0001,
    }.items()
)  # fmt: skip
"""Of pixels of 0.36 arcsec."""


def told(value, comment="", wcs=WCS, **given):
    words = Keywords("x.fits", (fits.Header([("SEEING", value, comment)]),))
    return fwhm_of(words, FwhmFromHeader(keywords=["SEEING"], **given), wcs)


@pytest.mark.parametrize(
    ("value", "comment", "unit", "pixels"),
    [
        (1.44, "[arcsec] FWHM of PSF", None, 4.0), (1.44, "[Arcseconds]", None, 4.0), (1.44, '["] seeing', None, 4.0),
        (4e-4, "[deg]", None, 4.0), (4.0, "[px]", None, 4.0), (4.0, "[pix] seeing", None, 4.0),
        (4.0, "[pixels]", "px", 4.0), (1.44, "", "arcsec", 4.0), (4.0, "of the seeing monitor", "px", 4.0),
        (1.44, "[as] of the PSF", "arcsec", 4.0), (4e-4, "", "deg", 4.0),
    ],
)  # fmt: skip
def test_the_unit_is_that_of_the_settings_or_at_the_head_of_the_comment(value, comment, unit, pixels):
    """FITS standard 4.0, section 4.3.2."""
    found, origin = told(value, comment, unit=unit)
    assert (found, origin.flag, origin.keyword) == (pytest.approx(pixels, rel=1e-6), "", "SEEING")


@pytest.mark.parametrize(
    ("value", "comment", "pixels"),
    [
        (4.0, "", 4.0), (4.0, "FWHM of PSF", 4.0), (1.44, "FWHM of PSF in arcsec", 4.0), (4.0, "FWHM, pixels", 4.0),
        (4.0, "arcsec or pixels", 4.0),
    ],
)  # fmt: skip
def test_a_unit_in_words_or_none_has_a_flag(value, comment, pixels):
    found, origin = told(value, comment)
    assert (found, origin.flag) == (pytest.approx(pixels, rel=1e-6), "assumed_psf_unit")
    assert "fits.psf_fwhm.unit" in origin.note


def test_a_unit_that_is_not_known_is_refused():
    with pytest.raises(BadInput) as caught:
        told(1.2, "[adu]")
    assert caught.value.code == "invalid_keyword"
    assert "must be px, arcsec or deg" in caught.value.problem
    assert "fits.psf_fwhm.unit" in caught.value.remedy


@pytest.mark.parametrize(
    ("comment", "unit", "pixels"), [("[arcsec]", "px", 1.2), ("[pix]", "arcsec", 1.2 / 0.36), ("[median]", "px", 1.2)]
)
def test_the_unit_of_the_settings_goes_before_that_of_the_comment(comment, unit, pixels):
    found, origin = told(1.2, comment, unit=unit)
    assert (found, origin.flag) == (pytest.approx(pixels, rel=1e-6), "")
    assert f"in {unit} by the settings, and its comment is {comment!r}" in origin.note


def test_a_width_on_the_sky_needs_a_wcs():
    with pytest.raises(BadInput, match=r"in arcsec needs a WCS"):
        told(1.2, "[arcsec]", wcs=None)


def test_keywords_in_several_units_have_their_mean_and_a_value_is_in_px():
    words = Keywords("x.fits", (fits.Header([("A", 1.44, "[arcsec]"), ("B", 6.0, "[px]")]),))
    assert fwhm_of(words, FwhmFromHeader(keywords=["A", "B"]), WCS)[0] == pytest.approx(5.0, rel=1e-6)
    found, origin = fwhm_of(words, FwhmFromHeader(value=3.0), None)
    assert (found, origin.flag, origin.keyword) == (3.0, "", "")
    assert fwhm_of(words, FwhmFromHeader(), None)[0] is None


@pytest.mark.parametrize(
    ("comment", "unit"), [("[arcsec] x", "arcsec"), ("['' ]", "arcsec"), ("[PIX]", "px"), ("px", None), ("[s]", None)]
)
def test_only_a_unit_in_brackets_is_sure(comment, unit):
    assert unit_of_width(comment) == unit
