import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from flows.inputs.prepare import prepare
from flows.inputs.source import Source
from kernels.psf.gaussian_mixture import fwhm_before_pixels
from schemas.errors import BadInput, Misconfigured
from schemas.pixels import MaskPlane
from schemas.settings import Settings

CARDS = {
    "INSTRUME": "Camera",
    "FILTER": "r_prime",
    "DATE-OBS": "2024-03-01T22:00:00",
    "EXPTIME": 100.0,
    "RUN": 4711,
    "CHIP": 3,
    "ZP": 28.25,
    "EGAIN": 1.5,
    "SATLEVEL": 60000.0,
    "FWHM": 2.0,
}
TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 50.0,
    "CRPIX2": 50.0,
    "CRVAL1": 10.0,
    "CRVAL2": -30.0,
    "CDELT1": -1e-4,
    "CDELT2": 1e-4,
}
MAPPING = {
    "visit": {"keyword": "RUN"},
    "detector": {"keyword": "CHIP"},
    "band": {"keyword": "FILTER", "aliases": {"r_prime": "r"}},
    "zero_point": {"keyword": "ZP"},
    "gain": {"keyword": "EGAIN"},
    "saturation": {"keyword": "SATLEVEL"},
    "psf_fwhm": {"keywords": ["FWHM"], "unit": "px"},
}


@pytest.fixture
def write(tmp_path, sky):
    def written(*extra, **changes):
        header = fits.Header()
        for key, value in {**CARDS, **TAN, **changes}.items():
            if value is not None:
                header[key.replace("_", "-")] = value
        path = tmp_path / "frame.fits"
        fits.HDUList([fits.PrimaryHDU(sky, header), *extra]).writeto(path, overwrite=True)
        return Source(str(path))

    return written


def info_of(source, **mapping):
    return prepare(source, Settings(fits={**MAPPING, **mapping}))[0]


def refused(code, source, **mapping):
    with pytest.raises(BadInput) as caught:
        info_of(source, **mapping)
    assert caught.value.code == code
    return str(caught.value)


def test_all_that_is_mapped_arrives(write):
    info = info_of(write())
    assert (info.visit, info.detector, info.band, info.instrument) == (4711, 3, "r", "Camera")
    assert (info.zero_point, info.gain, info.saturation, info.psf.fwhm_px) == (
        28.25,
        1.5,
        60000,
        fwhm_before_pixels(2, 3.0),
    )
    assert info.midpoint_mjd_tai == pytest.approx(Time("2024-03-01T22:00:50").tai.mjd, abs=1e-9)
    assert info.flags == ()


def test_values_stand_in_for_keywords(write):
    info = info_of(write(CHIP=None), detector={"value": 7}, gain={"value": "2.5"}, instrument={"value": "Mine"})
    assert (info.detector, info.gain, info.instrument) == (7, 2.5, "Mine")


def test_with_no_mapping_the_usual_keywords_do(write):
    info, _ = prepare(write(), Settings())
    assert info.flags == ("assumed_psf", "no_zero_point")
    assert (info.detector, info.band) == (0, "r_prime")
    assert info.visit == round(info.midpoint_mjd_tai * 864000)


def test_visits_without_a_number_differ_by_their_times(write):
    first, _ = prepare(write(), Settings())
    second, _ = prepare(write(DATE_OBS="2024-03-01T22:00:01"), Settings())
    assert second.visit - first.visit == 10


@pytest.mark.parametrize(
    ("time", "cards", "offset"),
    [
        ({"keyword": "JD", "format": "jd", "at": "end"}, {"JD": 2460371.25}, -50),
        ({"keyword": "MJD", "format": "mjd", "at": "middle"}, {"MJD": 60370.75}, 0),
        ({"keyword": "MJD", "format": "mjd", "at": "start", "scale": "tai"}, {"MJD": 60370.75}, 50 - 37),
        ({"value": 60370.75, "format": "mjd", "at": "middle"}, {}, 0),
    ],
)
def test_times_in_any_form(write, time, cards, offset):
    info = info_of(write(**cards), time=time)
    assert info.midpoint_mjd_tai == pytest.approx(60370.75 + (37 + offset) / 86400, abs=1e-8)


def test_the_night_follows_the_longitude(write):
    assert info_of(write(), longitude_deg=0).night == "20240301"
    assert info_of(write(), longitude_deg=-179).night == "20240229"


def test_widths_are_averaged_and_converted(write):
    source = write(FWHMV=3.0)
    assert info_of(source, psf_fwhm={"keywords": ["FWHM", "FWHMV"]}).psf.fwhm_px == fwhm_before_pixels(2.5, 3.0)
    assert info_of(source, psf_fwhm={"value": 0.9, "unit": "arcsec"}).psf.fwhm_px == pytest.approx(
        fwhm_before_pixels(2.5, 3.0), rel=1e-6
    )


def test_without_astrometry_the_exposure_is_flagged(write):
    source = write(**dict.fromkeys(TAN))
    info = info_of(source)
    assert info.wcs_header is None
    assert info.flags == ("no_wcs",)
    refused("missing_wcs", source, psf_fwhm={"value": 0.9, "unit": "arcsec"})


def test_half_an_astrometry_is_an_error(write):
    assert "CRVAL1" in refused("missing_wcs", write(CRVAL1=None))


def test_planes_in_other_extensions(write, sky):
    bad = np.zeros(sky.shape, np.uint8)
    bad[4, 5] = 1
    extensions = (fits.ImageHDU(bad, name="BPM"), fits.ImageHDU(sky + 100, name="SCI"))
    settings = Settings(fits={**MAPPING, "planes": {"mask": "BPM", "science": 2}})
    info, planes = prepare(write(*extensions), settings)
    assert planes["mask"][4, 5] == MaskPlane.BAD
    assert info.planes == ("science",)
    assert "BPM" in refused("missing_extension", write(*extensions), planes={"mask": "DQ"})


def test_the_image_may_be_in_a_named_extension(write, sky):
    source = write(fits.ImageHDU(sky + 500, name="DIFF"))
    assert info_of(source, extension="DIFF").background == pytest.approx(500, abs=1)
    assert info_of(source, extension=1).background == pytest.approx(500, abs=1)
    refused("missing_extension", source, extension=2)


def test_a_mapped_keyword_must_be_there(write):
    assert "ZP" in refused("missing_zero_point", write(ZP=None))
    assert "EGAIN" in refused("missing_keyword", write(EGAIN=None))
    assert "RUN" in refused("invalid_keyword", write(RUN="seven"))
    assert "EXPTIME" in refused("invalid_keyword", write(EXPTIME=-1.0))
    assert "EGAIN" in refused("invalid_keyword", write(EGAIN=0.0))


@pytest.mark.parametrize("field", ["time", "exposure_time", "band"])
def test_what_no_exposure_can_do_without_stops_the_run(write, field):
    with pytest.raises(Misconfigured, match=field):
        info_of(write(), **{field: {"keyword": None}})


def test_nanojansky_need_no_zero_point(write):
    info = info_of(write(), zero_point={}, pixel_unit="nJy")
    assert (info.zero_point, info.pixel_unit) == (31.4, "nJy")


def test_tables_are_no_images(tmp_path):
    path = tmp_path / "table.fits"
    column = fits.Column("name", "10A", array=np.array(["a", "b"]))
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column])]).writeto(path)
    refused("no_image", Source(str(path)))
    refused("no_image", Source(str(path)), extension=1)
