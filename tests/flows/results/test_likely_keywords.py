import pytest
from astropy.io import fits

from flows.inputs.fits_header import Keywords
from flows.results.likely_keywords import unused_keywords


def told(form="generic", used=(), unit="adu", **cards):
    header = fits.Header()
    for key, value in cards.items():
        header[key.replace("_", "-") if key.startswith(("DATE", "MJD")) else key] = value
    return unused_keywords(Keywords("x", (header,)), set(used), form, unit)


@pytest.mark.parametrize(
    ("keyword", "quantity"),
    [
        ("MAGZP", "zero_point"), ("MAGZERO", "zero_point"), ("ZEROPNT", "zero_point"), ("ZEROPT", "zero_point"),
        ("ZP", "zero_point"), ("PHOTZP", "zero_point"), ("ZP3", "zero_point"), ("ZMAG", "zero_point"),
        ("MAG0", "zero_point"), ("ZPTMAG", "zero_point"), ("ZPT_OBS", "zero_point"),
        ("FLUXMAG0", "zero_point"), ("MAGZEROP", "zero_point"), ("ZEPHYR", ""), ("HJD", "time"),
        ("BJD_TDB", "time"), ("MJDOBS", "time"), ("ZPX", ""), ("JD", "time"),
        ("EXPSTART", "time"), ("LST", "time"), ("SITELONG", "longitude_deg"), ("OBSERVAT", "longitude_deg"),
        ("EXPOSURE", "exposure_time"), ("TEXP", "exposure_time"), ("EXP_TIME", "exposure_time"),
        ("XPOSURE", "exposure_time"), ("TELAPSE", "exposure_time"), ("EXPERT", ""),
        ("CHIP", "detector"), ("AMPID", "detector"), ("SATURATE", "saturation"), ("DATAMAX", "saturation"),
        ("EXPNUM", "visit"), ("SEEING", "psf_fwhm"), ("FWHM", "psf_fwhm"), ("FWHMPIX", "psf_fwhm"), ("FWHMPIXS", ""),
        ("GAIN", "gain"), ("EGAIN", "gain"), ("GAIN1", "gain"), ("RDNOISE", "noise"), ("READNOIS", "noise"),
        ("FILTER", "band"), ("FILTER02", "band"), ("BUNIT", "pixel_unit"), ("AIRMASS", ""), ("OBJECT", ""),
    ],
)  # fmt: skip
def test_names_tell_what_a_keyword_may_hold(keyword, quantity):
    found = told(**{keyword: "1"})
    assert [(one.keyword, one.quantity) for one in found] == [(keyword, quantity)] * bool(quantity)


def test_those_that_were_used_or_are_empty_are_left_out_and_others_come_once():
    assert told(used=("GAIN",), GAIN=2.0, SATURATE="") == ()
    first, second = fits.Header({"GAIN": 2.0, "RDNOISE": 7.0}), fits.Header({"GAIN": 3.0})
    found = unused_keywords(Keywords("x", (first, second)), set(), "generic", "adu")
    assert [(one.keyword, one.value) for one in found] == [("GAIN", "2.0"), ("RDNOISE", "7.0")]


def test_a_gain_that_is_of_something_else_and_a_time_of_the_sun_say_so():
    header = fits.Header([("GAIN", 30.0, "[dB]"), ("HJD", 2461101.8, "")])
    gain, time = unused_keywords(Keywords("x", (header,)), set(), "generic", "adu")
    assert "'[dB]'" in gain.why
    assert "8.3 minutes" in time.why


def test_the_reason_names_the_unit_and_the_form():
    (known,) = told(MAGZP=25.0, unit="nJy")
    assert "AB magnitude of 1 nJy" in known.why
    (unknown,) = told(SATURATE=6e4, unit=None)
    assert "in pixel unit, name it" in unknown.why
    (ours,) = told(form="ztf", MAGZP=25.0)
    assert ours.why == "what is known of files of ztf goes before it"


@pytest.mark.parametrize(
    ("flux", "told_zero"),
    [
        (63095734448.0194, "2.5 log10 of it, 27, "),
        ("1e10", "2.5 log10 of it, 25, "),
        (3.5e5, "2.5 log10 of it, 13.8602, "),
    ],
)
def test_a_flux_of_magnitude_zero_tells_the_zero_point(flux, told_zero):
    """27 mag: of the coadds of Hyper Suprime-Cam (Aihara et al. 2018)."""
    (found,) = told(FLUXMAG0=flux)
    assert told_zero in found.why
    assert "fits.zero_point.value" in found.why


@pytest.mark.parametrize("flux", [0.0, -1.0, "nan", "inf", "bright", True])
def test_what_is_no_flux_of_magnitude_zero_tells_none(flux):
    assert [one.why for one in told(FLUXMAG0=flux)] == ["it is no flux of magnitude 0"]


def test_a_site_whose_name_is_unknown_does_not_pass_for_one_that_is_told():
    (site,) = told(OBSERVAT="Somewhere")
    assert site.why == "the site is not taken from it; if that is assumed or wrong, give fits.longitude_deg"
