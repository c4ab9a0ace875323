import math

import pytest
from astropy import units
from astropy.io import fits

from flows.inputs.fits_generic import GENERIC
from flows.inputs.fits_header import HeaderOrigin
from flows.inputs.fits_units import Unit, gain_of, unit_named
from schemas.errors import BadInput
from schemas.keyword_mapping import KeywordMapping

CARDS = {"NAXIS": 2, "EXPTIME": 60.0, "GAIN": 1.6}
TAN = (
    "CTYPE1  = 'RA---TAN'\nCTYPE2  = 'DEC--TAN'\nCRPIX1  = 50.\nCRPIX2  = 50.\nCRVAL1  = 10.\nCRVAL2  = -30.\n"
    "CDELT1  = -1e-4\nCDELT2  = 2e-4"
)


def calibration(wcs=None, mapping=None, **cards):
    header = fits.Header()
    for key, value in {**CARDS, **cards}.items():
        if value is not None:
            header[key] = value
    return GENERIC.calibration((header,), "x.fits", KeywordMapping(**(mapping or {})), wcs)


@pytest.mark.parametrize(
    ("names", "unit"),
    [
        (("ADU", "adu", "DN", "counts", "Count", "ct", "ADU/pixel"), "adu"),
        (("ADU/s", "DN/sec", "counts/s", "ct s-1", "adu s^-1", "count s**-1", "counts per second"), "adu/s"),
        (("electron", "electrons", "e-", "E-", "e", "ELECTRONS", "electron/pix"), "electron"),
        (("electron/s", "ELECTRONS/S", "e-/s", "e/sec", "electron s-1", "electrons / second"), "electron/s"),
        (("nJy", "NJY", "nanojansky", "1e-9 Jy", "10**-9 Jy", "0.001 uJy"), "nJy"),
        (("MJy/sr", "MJy sr-1", "1e6 Jy/sr"), "MJy/sr"),
        (("nanomaggy", "nanomaggies", "nmgy"), "nmgy"),
        (
            (
                "erg/s/cm2/Angstrom",
                "MJy",
                "mJy/sr",
                "mjy sr-1",
                "furlong",
                "relative flux",
                "1e-8 Jy",
                "2 stars",
                "1e-9",
            ),
            "unknown",
        ),
    ],
)
def test_units_go_by_many_names(names, unit):
    assert {unit_named(name) for name in names} == {unit}


@pytest.mark.parametrize("unit", ["nJy", "uJy", "mJy", "Jy"])
def test_fluxes_have_the_zero_point_of_their_unit(unit):
    expected = (1 * units.Unit(unit)).to_value(units.ABmag)
    assert calibration(BUNIT=unit).zero_point == pytest.approx(expected, abs=1e-3)


def test_surface_brightness_has_that_of_a_pixel():
    pixel = 1e-4 * 2e-4 * units.deg**2
    expected = (1 * units.MJy / units.sr * pixel).to(units.Jy).to_value(units.ABmag)
    assert calibration(TAN, BUNIT="MJy/sr").zero_point == pytest.approx(expected, abs=1e-3)
    assert calibration(None, BUNIT="MJy/sr").zero_point is None


@pytest.mark.parametrize(
    ("bunit", "gain"),
    [("adu", 1.6), (None, 1.6), ("adu/s", 96.0), ("electron", 1.0), ("electron/s", 60.0), ("nJy", None), ("odd", None)],
)
@pytest.mark.parametrize("given", [{}, {"gain": {"keyword": "GAIN"}}])
def test_electrons_per_unit_follow_the_unit(bunit, gain, given):
    found = calibration(mapping=given, BUNIT=bunit)
    assert found.gain == (None if gain is None else pytest.approx(gain))
    assert [one.assumed for one in found.origins if one.quantity == "pixel_unit"] == [bunit is None]
    flags = {origin.flag for origin in found.origins} - {""}
    assert (
        flags == {"unknown_unit"}
        if bunit == "odd"
        else flags == ({"assumed_gain"} if _guessed(bunit, given) else set())
    )


def _guessed(bunit, given):
    return not given and bunit in ("adu", None, "adu/s")


def test_settings_go_before_the_header():
    assert calibration(mapping={"pixel_unit": "electron"}, BUNIT="adu").gain == 1.0
    assert calibration(mapping={"gain": {"value": 2.5}}, BUNIT="electron/s").gain == 2.5
    nano = calibration(mapping={"pixel_unit": "nJy", "gain": {"keyword": "GAIN"}})
    assert (nano.gain, nano.zero_point) == (1.6, 31.4)
    assert calibration(mapping={"zero_point": {"value": 20.0}}, BUNIT="Jy").zero_point == 20.0


def test_egain_is_the_gain_of_the_image_whatever_the_amplifier_was_set_to():
    found = calibration(EGAIN=0.8, GAIN=139, BUNIT="adu")
    assert found.gain == 0.8
    assert not any(origin.flag for origin in found.origins)


def test_rates_without_a_time_are_refused():
    with pytest.raises(BadInput, match="EXPTIME is 0, and the pixels are rates") as caught:
        calibration(BUNIT="electron/s", EXPTIME=0.0)
    assert "fits.exposure_time" in caught.value.remedy
    assert calibration(BUNIT="adu", EXPTIME=0.0).gain == 1.6


@pytest.mark.parametrize(
    ("comment", "gain", "flags"),
    [
        ("[e-/ADU] effective gain", 1.6, set()),
        ("Gain in electrons per ADU", 1.6, set()),
        ("e/DN", 1.6, set()),
        ("[ADU/e-]", 1 / 1.6, set()),
        ("ADU per electron", 1 / 1.6, set()),
        ("counts / electron", 1 / 1.6, set()),
        ("", 1.6, {"assumed_gain"}),
        ("[e-] gain", 1.6, {"assumed_gain"}),
        ("gain of the amplifier", 1.6, {"assumed_gain"}),
        ("[dB]", None, set()),
        ("gain of the sensor, dB", None, set()),
        ("[uV/e-] sensitivity", None, set()),
    ],
)
def test_the_comment_tells_what_a_gain_is_of(comment, gain, flags):
    found = calibration(GAIN=(1.6, comment), BUNIT="adu")
    assert found.gain == (None if gain is None else pytest.approx(gain))
    assert {origin.flag for origin in found.origins} - {""} == flags


def test_a_comment_holds_for_the_keyword_of_the_settings_too():
    named = {"gain": {"keyword": "GAIN"}}
    assert calibration(mapping=named, GAIN=(0.5, "[ADU/e-]"), BUNIT="adu").gain == 2.0
    with pytest.raises(BadInput, match="not in electrons per adu"):
        calibration(mapping=named, GAIN=(30.0, "[dB]"), BUNIT="adu")
    assert calibration(EGAIN=(30.0, "[dB]"), BUNIT="adu").gain == 1.6


def test_a_unit_that_settings_know_not_is_refused():
    with pytest.raises(ValueError, match="pixel_unit"):
        KeywordMapping(pixel_unit="furlong")
    assert math.isclose(calibration(mapping={"pixel_unit": "nmgy"}).zero_point, 22.5, abs_tol=1e-3)


@pytest.mark.parametrize(
    ("name", "exposure_time", "gain"),
    [("electron/s", 0.0, None), ("electron/s", -1.0, None), ("electron/s", 0.5, 0.5), ("electron", 0.0, 1.0)],
)
def test_rates_hold_as_many_electrons_as_the_exposure_is_long(name, exposure_time, gain):
    unit = Unit(name, HeaderOrigin("pixel_unit"))
    assert gain_of(None, "", "", unit, exposure_time).value == gain


def test_a_gain_with_two_values_is_refused_where_it_is_used():
    def gain(unit, *values):
        cards = [("NAXIS", 2), ("EXPTIME", 60.0), ("BUNIT", unit), *(("GAIN", value, "[e-/adu]") for value in values)]
        return GENERIC.calibration((fits.Header(cards),), "x.fits", KeywordMapping(), None).gain

    with pytest.raises(BadInput, match=r"GAIN is there 2 times with different values: 1\.6, 2\.0") as caught:
        gain("adu", 1.6, 2.0)
    assert caught.value.code == "invalid_keyword"
    assert gain("adu", 1.6, 1.6) == 1.6
    assert gain("electron", 1.6, 2.0) == 1
