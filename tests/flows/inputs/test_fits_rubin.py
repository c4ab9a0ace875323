import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from flows.inputs.prepare import prepare
from flows.inputs.probe import read
from flows.inputs.source import Source
from kernels.psf.gaussian_mixture import fwhm_before_pixels
from schemas.errors import BadInput
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
