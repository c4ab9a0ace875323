import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from flows.inputs.fits_rubin import RUBIN
from flows.inputs.ingest import prepare
from flows.inputs.probe import read
from flows.inputs.source import Source
from kernels.psf.gaussian_mixture import fwhm_before_pixels
from schemas.errors import BadInput
from schemas.keyword_mapping import KeywordMapping
from schemas.pixels import MaskPlane
from schemas.settings import Settings

WCS_CARDS = {
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "CRPIX1": 60.0,
    "CRPIX2": 50.0,
    "CRVAL1": 150.0,
    "CRVAL2": 2.2,
    "CD1_1": -5.5e-5,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 5.5e-5,
    "A_ORDER": 2,
    "B_ORDER": 2,
    "A_2_0": 1e-7,
}
PRIMARY = {
    "HIERARCH LSST BUTLER DATAID VISIT": 2026011900123,
    "HIERARCH LSST BUTLER DATAID DETECTOR": 94,
    "HIERARCH LSST BUTLER DATAID BAND": "r",
    "INSTRUME": "LSSTCam",
    "EXPTIME": 30.0,
    "DATE-AVG": "2026-01-20T03:04:05.678",
    "TIMESYS": "TAI",
    "PSF_FWHM": 4.1,
}


@pytest.fixture
def write(tmp_path):
    """Write image, mask and variance as Rubin's pipelines do; compressed as they are published."""

    def written(primary=None, image=None, *, compressed=True):
        rng = np.random.default_rng(1)
        pixels = rng.normal(0, 20, (100, 120)).astype(np.float32)
        bits = np.zeros((100, 120), np.int32)
        bits[3, 4], bits[5, 6], bits[7, 8] = 1 << 3, 1 << 11, 1 << 9
        hdus = [fits.PrimaryHDU(header=header({**PRIMARY, **(primary or {})}))]
        for name, data, cards in (
            ("IMAGE", pixels, {"BUNIT": "nJy", **WCS_CARDS, **(image or {})}),
            ("MASK", bits, {"MP_SAT": 3, "HIERARCH MP_NO_DATA": 11, "HIERARCH MP_INEXACT_PSF": 9}),
            ("VARIANCE", np.full_like(pixels, 400), {}),
        ):
            kind = fits.CompImageHDU if compressed else fits.ImageHDU
            hdus.append(kind(data, header(cards), name=name))
        path = tmp_path / "exposure.fits"
        fits.HDUList(hdus).writeto(path, checksum=True, overwrite=True)
        return Source(str(path))

    return written


def header(cards):
    made = fits.Header()
    for key, value in cards.items():
        if value is not None:
            made[key] = value
    return made


@pytest.mark.parametrize("compressed", [True, False])
def test_one_file_holds_the_exposure(write, compressed):
    info, planes = prepare(write(compressed=compressed), Settings())
    assert (info.visit, info.detector, info.band, info.night) == (2026011900123, 94, "r", "20260119")
    assert info.midpoint_mjd_tai == pytest.approx(Time("2026-01-20T03:04:05.678", scale="tai").mjd, abs=1e-9)
    assert (info.pixel_unit, info.zero_point, info.zero_point_err) == ("nJy", 31.4, 0)
    assert info.psf.fwhm_px == fwhm_before_pixels(4.1, 3.0)
    assert info.planes == ("variance",)
    assert info.flags == ()
    assert planes["variance"] == pytest.approx(400)
    mask = planes["mask"]
    assert (mask[3, 4], mask[5, 6], mask[7, 8]) == (MaskPlane.SAT, MaskPlane.NO_DATA, 0)


def test_the_zero_point_of_one_nanojansky():
    assert -2.5 * math.log10(1e-9 / 3631) == pytest.approx(31.4, abs=1e-3)


@pytest.mark.parametrize(("cards", "expected"), [({"MAGZERO": 27.5}, 27.5), ({"FLUXMAG0": 6.309573444801933e10}, 27.0)])
def test_counts_need_a_zero_point(write, cards, expected):
    info, _ = prepare(write(cards, {"BUNIT": "adu"}), Settings())
    assert info.zero_point == pytest.approx(expected)
    assert info.pixel_unit == "adu"
    with pytest.raises(BadInput, match="FLUXMAG0") as caught:
        prepare(write(None, {"BUNIT": "adu"}), Settings())
    assert caught.value.code == "missing_zero_point"


RAW = {"GAIN": 1.6, "SATURATE": 150000.0}


@pytest.mark.parametrize(
    ("cards", "unit", "expected"),
    [
        (RAW, "nJy", (None, None)),
        (RAW | {"GAINNJY": 0.02, "SATNJY": 4e5}, "nJy", (0.02, 4e5)),
        (RAW | {"GAINNJY": 0.02, "SATNJY": 4e5, "MAGZERO": 27.5}, "adu", (1.6, 150000)),
    ],
)
def test_gain_and_saturation_are_of_the_pixels(write, cards, unit, expected):
    """GAIN and SATURATE are of raw counts, and would be wrong by the calibration for pixels in nJy."""
    raw = read(write(cards, {"BUNIT": unit}), Settings())
    assert (raw.gain, raw.saturation) == expected


@pytest.mark.parametrize(
    ("cards", "seconds"),
    [
        ({"DATE-AVG": None, "DATE-BEG": "2026-01-20T03:04:05.678"}, 15),
        ({"DATE-AVG": None, "MJD-OBS": Time("2026-01-20T03:04:05.678").mjd}, 15),
        ({"TIMESYS": "UTC"}, 37),
    ],
)
def test_other_ways_to_say_when(write, cards, seconds):
    info, _ = prepare(write(cards), Settings())
    expected = Time("2026-01-20T03:04:05.678", scale="tai").mjd + seconds / 86400
    assert info.midpoint_mjd_tai == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ({"HIERARCH LSST BUTLER DATAID VISIT": None}, "VISIT"),
        ({"HIERARCH LSST BUTLER DATAID DETECTOR": None}, "DETECTOR"),
        ({"DATE-AVG": None}, "DATE-AVG"),
        ({"EXPTIME": None}, "EXPTIME"),
    ],
)
def test_missing_keywords_are_named(write, cards, word):
    with pytest.raises(BadInput, match=word) as caught:
        prepare(write(cards), Settings())
    assert caught.value.code == "missing_keyword"


def test_a_detector_number_that_does_not_fit_is_refused(write):
    with pytest.raises(BadInput, match="DETECTOR is 512"):
        prepare(write({"HIERARCH LSST BUTLER DATAID DETECTOR": 512}), Settings())


def test_astrometry_is_required(write):
    with pytest.raises(BadInput, match="CTYPE1"):
        prepare(write(None, dict.fromkeys(WCS_CARDS)), Settings())


def planes(*names, mp=True, **cards):
    """Headers of a file: the primary one with ``cards``, then an HDU for each name."""
    given = {"HIERARCH LSST BUTLER DATAID VISIT": 7, "DETECTOR": 3, "BAND": "r", "EXPTIME": 30.0, **cards}
    primary = fits.Header({key.replace("__", "-"): value for key, value in given.items() if value is not None})
    extensions = [fits.Header({"EXTNAME": name} | ({"MP_SAT": 1} if mp and name == "MASK" else {})) for name in names]
    return (primary, *extensions)


@pytest.mark.parametrize(
    ("names", "mp", "known"),
    [
        (("IMAGE", "MASK", "VARIANCE"), True, True),
        (("image ", "MASK"), True, True),
        (("IMAGE", "MASK"), False, False),
        (("IMAGE", "VARIANCE"), True, False),
        (("MASK", "VARIANCE"), True, False),
        ((), True, False),
    ],
)
def test_it_is_known_by_an_image_and_a_mask_with_named_bits(names, mp, known):
    assert RUBIN.matches(planes(*names, mp=mp)) is known


def test_of_two_planes_of_one_name_the_first_counts():
    found = RUBIN.layout(planes("IMAGE", "MASK", "ARCHIVE_INDEX", "IMAGE", "VARIANCE", "MASK"), "x", KeywordMapping())
    assert found == {"difference": 1, "mask": 2, "variance": 5}


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"DATE__AVG": "2026-01-20T03:00:00"}, "2026-01-20T03:00:00"),
        ({"DATE__AVG": "2026-01-20T03:00:00", "DATE__BEG": "2026-01-19T01:00:00"}, "2026-01-20T03:00:00"),
        ({"DATE__BEG": "2026-01-20T03:00:00"}, "2026-01-20T03:00:15"),
        ({"MJD__AVG": 61060.125}, "2026-01-20T03:00:00"),
        ({"MJD__BEG": 61060.125}, "2026-01-20T03:00:15"),
        ({"DATE__OBS": "2026-01-20T03:00:00"}, "2026-01-20T03:00:15"),
        ({"MJD__OBS": 61060.125}, "2026-01-20T03:00:15"),
        ({"MJD": 61060.125}, "2026-01-20T03:00:15"),
        ({"MJD": 61060.125, "TIMESYS": "TAI"}, "2026-01-20T03:00:15"),
        ({"MJD": 61060.125, "TIMESYS": "utc "}, "2026-01-20T03:00:52"),
    ],
)
def test_the_middle_is_dated_or_half_an_exposure_after_the_beginning(cards, expected):
    """MJD 61060 is 2026-01-20; UTC is 37 s behind TAI (IERS Bulletin C)."""
    found = RUBIN.identity(planes("IMAGE", "MASK", **cards), "x", KeywordMapping())
    assert found.midpoint_mjd_tai == pytest.approx(Time(expected, scale="tai").mjd, abs=1e-9)


@pytest.mark.parametrize(("cards", "night"), [({}, "20260119"), ({"OBS__LONG": 0.0}, "20260120")])
def test_the_night_is_that_of_the_site_even_at_longitude_zero(cards, night):
    """15:00 UTC is before noon on Pachon, 70.7 degrees west, and after noon in Greenwich."""
    found = RUBIN.identity(planes("IMAGE", "MASK", MJD=61060.625, TIMESYS="UTC", **cards), "x", KeywordMapping())
    assert found.key.night == night


@pytest.mark.parametrize(
    ("cards", "given", "flagged", "night"),
    [
        ({"INSTRUME": "LSSTCam"}, None, False, "20260119"),
        ({"INSTRUME": "HSC"}, None, True, "20260119"),
        ({"INSTRUME": "HSC"}, 0.0, False, "20260120"),
        ({"INSTRUME": "HSC", "OBS__LONG": 0.0}, None, False, "20260120"),
    ],
)
def test_the_site_of_another_instrument_is_asked_about(cards, given, flagged, night):
    where = {} if given is None else {"longitude_deg": given}
    headers = planes("IMAGE", "MASK", MJD=61060.625, TIMESYS="UTC", **cards)
    found = RUBIN.identity(headers, "x", KeywordMapping(**where))
    assert ("assumed_site" in [one.flag for one in found.origins], found.key.night) == (flagged, night)


def test_what_no_setting_can_name_is_not_asked_of_the_settings():
    with pytest.raises(BadInput, match="no keyword DATE-AVG") as caught:
        RUBIN.identity(planes("IMAGE", "MASK"), "x", KeywordMapping())
    assert caught.value.remedy == "add it to the file's header."


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ({"EXPTIME": -0.1}, "EXPTIME"), ({"EXPTIME": 1.1e5}, "EXPTIME"), ({"DETECTOR": 512}, "DETECTOR"),
        ({"HIERARCH LSST BUTLER DATAID VISIT": 2**42}, "VISIT"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(cards, word):
    with pytest.raises(BadInput, match=word) as caught:
        RUBIN.identity(planes("IMAGE", "MASK", MJD=61060.1, **cards), "x", KeywordMapping())
    assert caught.value.code == "invalid_keyword"


def test_names_are_as_the_header_has_them_or_the_cameras():
    given = {"MJD": 61060.1, "BAND": "r_57", "EXPTIME": 0.0, "DETECTOR": 511}
    found = RUBIN.identity(planes("IMAGE", "MASK", **given), "x", KeywordMapping())
    assert (found.instrument, found.band, found.key.detector) == ("LSSTCam", "r", 511)
    named = RUBIN.identity(planes("IMAGE", "MASK", INSTRUME="LSSTComCam", **given), "x", KeywordMapping())
    assert named.instrument == "LSSTComCam"


def calibration(**cards):
    return RUBIN.calibration(planes("IMAGE", "MASK", **cards), "x", KeywordMapping(), None)


@pytest.mark.parametrize("unit", ["nJy", " NJY ", None, "adu"])
def test_keywords_of_counts_are_not_those_of_nanojansky(unit):
    """31.4 is the AB magnitude of 1 nJy: Oke & Gunn 1983, ApJ 266, 713."""
    given = {"GAIN": 1.5, "SATURATE": 6e4, "GAINNJY": 0.7, "SATNJY": 9e5, "MAGZERO": 27.0, "MAGZPUNC": 0.02}
    found = calibration(BUNIT=unit, **given)
    if unit in (None, "adu"):
        assert found[:5] == ("adu", 27.0, 0.02, 1.5, 6e4)
    else:
        assert found[:5] == ("nJy", 31.4, 0.0, 0.7, 9e5)


@pytest.mark.parametrize(
    ("cards", "zero_point"),
    [({"MAGZERO": 27.0, "FLUXMAG0": 1e10}, 27.0), ({"MAGZERO": 0.0}, 0.0), ({"FLUXMAG0": 1e10}, 25.0)],
)
def test_the_zero_point_of_counts_is_given_or_that_of_so_many(cards, zero_point):
    assert calibration(**cards).zero_point == pytest.approx(zero_point)
    assert calibration(MAGZPUNC=0.0, **cards).zero_point_err == 0.0
    assert calibration(MAGZPUNC=-0.1, **cards).zero_point_err is None
    for nothing in ({}, {"FLUXMAG0": 0.0}):
        with pytest.raises(BadInput, match="neither MAGZERO nor FLUXMAG0"):
            calibration(**nothing)


@pytest.mark.parametrize(
    ("cards", "fwhm"),
    [
        ({"PSF_FWHM": 4.0, "PSFSIGMA": 1.0}, 4.0), ({"PSFSIGMA": 2.0}, 4.0 * math.sqrt(2 * math.log(2))),
        ({"PSF_FWHM": 0.0, "PSFSIGMA": 2.0}, 4.0 * math.sqrt(2 * math.log(2))), ({"PSFSIGMA": 0.0}, None), ({}, None),
    ],
)  # fmt: skip
def test_the_width_is_given_or_that_of_a_gaussian(cards, fwhm):
    psf = calibration(MAGZERO=27.0, **cards).psf
    assert (psf and psf.fwhm_px) == (fwhm and pytest.approx(fwhm))


@pytest.mark.parametrize(
    ("unit", "stored", "gain"),
    [("electron", "electron", 1.0), ("electron/s", "electron/s", 30.0), ("adu/s", "adu/s", 48.0), ("odd", "adu", 1.6)],
)
def test_a_gain_of_counts_is_converted_to_the_pixels(unit, stored, gain):
    found = calibration(BUNIT=unit, GAIN=1.6, EXPTIME=30.0, MAGZERO=27.0)
    assert (found.pixel_unit, found.gain) == (stored, pytest.approx(gain))


@pytest.mark.parametrize(("system", "ahead"), [("TT", 32.184), ("GPS", -19.0)])
def test_other_time_systems_are_honoured_and_unknown_ones_refused(system, ahead):
    cards = {"MJD": 61060.125}
    tai, other = (
        RUBIN.identity(planes("IMAGE", "MASK", **cards, TIMESYS=name), "x", KeywordMapping())
        for name in ("TAI", system)
    )
    assert (tai.midpoint_mjd_tai - other.midpoint_mjd_tai) * 86400 == pytest.approx(ahead, abs=1e-3)
    with pytest.raises(BadInput, match="TIMESYS"):
        RUBIN.identity(planes("IMAGE", "MASK", **cards, TIMESYS="MARS"), "x", KeywordMapping())


def test_a_date_without_a_time_of_day_is_not_midnight():
    beside = planes("IMAGE", "MASK", **{"DATE-OBS": "2026-01-20", "MJD-OBS": 61060.125})
    alone = planes("IMAGE", "MASK", **{"DATE-OBS": "2026-01-20"})
    other = RUBIN.identity(beside, "x", KeywordMapping())
    assert other.midpoint_mjd_tai == pytest.approx(61060.125 + other.exposure_time_s / 2 / 86400, abs=1e-9)
    with pytest.raises(BadInput, match="DATE-OBS is '2026-01-20', a date without a time of day") as caught:
        RUBIN.identity(alone, "x", KeywordMapping())
    assert caught.value.code == "missing_time"


@pytest.mark.parametrize(("unit", "zero_point"), [("uJy", 23.9), ("Jy", 8.9), ("nanomaggy", 22.5)])
def test_other_units_of_flux_have_their_own_zero_point(unit, zero_point):
    found = calibration(BUNIT=unit, GAIN=1.5, SATURATE=6e4, MAGZERO=27.0, MAGZPUNC=0.02)
    assert found[1:5] == (pytest.approx(zero_point, abs=1e-3), 0.0, None, None)
