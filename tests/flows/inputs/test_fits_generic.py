import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from flows.inputs.fits_generic import GENERIC
from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from kernels.psf.gaussian_mixture import fwhm_before_pixels
from schemas.errors import BadInput, Misconfigured
from schemas.keyword_mapping import KeywordMapping
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
    assert info.flags == ("assumed_pixel_unit", "assumed_site")
    assert info_of(write(), pixel_unit="adu").flags == ("assumed_site",)


def test_values_stand_in_for_keywords(write):
    info = info_of(write(CHIP=None), detector={"value": 7}, gain={"value": "2.5"}, instrument={"value": "Mine"})
    assert (info.detector, info.gain, info.instrument) == (7, 2.5, "Mine")


def test_with_no_mapping_the_usual_keywords_do(write):
    info, _ = prepare(write(), Settings())
    assumed = ("assumed_detector", "assumed_gain", "assumed_pixel_unit", "assumed_psf", "assumed_site")
    assert info.flags == (*assumed, "no_zero_point")
    assert (info.detector, info.band) == (0, "r_prime")
    assert info.visit == round(info.midpoint_mjd_tai * 864000)


@pytest.mark.parametrize(
    ("cards", "flag"), [({"BSOFTEN": 1.0, "BOFFSET": 0.0}, "asinh_pixels"), ({"EPOCH": 1950.0}, "assumed_equinox")]
)
def test_what_the_header_leaves_to_others_is_told(write, cards, flag):
    assert flag in info_of(write(**cards)).flags


def test_a_sky_that_was_not_subtracted_is_asked_about(write, sky):
    source = write()
    with fits.open(source.uri, mode="update") as file:
        noise = float(np.std(file[0].data))
        file[0].data = file[0].data + np.float32(8 * noise)
    assert "high_background" not in info_of(source).flags
    with fits.open(source.uri, mode="update") as file:
        file[0].data = file[0].data + np.float32(100 * noise)
    assert "high_background" in info_of(source).flags


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
    assert info.flags == ("assumed_pixel_unit", "assumed_site", "no_wcs")
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


def test_a_mask_that_numbers_its_planes_is_bad_where_these_are(write, sky):
    """What an upstream pipeline has detected is what is to be found."""
    mask = np.zeros(sky.shape, np.int32)
    mask[4, 5], mask[6, 7] = 32, 2
    planes = fits.ImageHDU(mask, fits.Header({"MP_SAT": 1, "HIERARCH MP_DETECTED": 5}), name="MASK")
    _, found = prepare(write(planes), Settings(fits={**MAPPING, "planes": {"mask": "MASK"}}))
    assert (found["mask"][4, 5], found["mask"][6, 7]) == (MaskPlane.DETECTED, MaskPlane.SAT)


@pytest.mark.parametrize(("good", "flagged"), [(0, False), (1, True)])
def test_a_mask_that_is_upside_down_is_asked_about(write, sky, good, flagged):
    mask = np.full(sky.shape, good, np.uint8)
    mask[:40] = 1 - good
    info = info_of(write(fits.ImageHDU(mask, name="MASK")), planes={"mask": "MASK"})
    assert ("mostly_masked" in info.flags) == flagged


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


UNMAPPED = KeywordMapping()
IMAGE = {"NAXIS": 2, **CARDS}


def mapped(**mapping):
    return KeywordMapping(**{**MAPPING, **mapping})


def calibration(mapping, wcs=None, **cards):
    return GENERIC.calibration((fits.Header({**IMAGE, **cards}),), "x", mapping, wcs)


def test_an_extension_goes_by_its_number_or_its_name():
    headers = tuple(
        fits.Header({"XTENSION": "IMAGE", "NAXIS": axes, **name})
        for axes, name in ((0, {}), (2, {"EXTNAME": "SCI "}), (2, {"EXTNAME": "ERR"}), (2, {}))
    )
    for wanted, index in ((None, 1), (1, 1), ("SCI", 1), (2, 2), ("ERR", 2), (3, 3)):
        found = GENERIC.layout(headers, "x", KeywordMapping(extension=wanted, planes={"variance": 3}))
        assert found == {"difference": index, "variance": 3}
    for wanted, code in ((0, "no_image"), (4, "missing_extension"), ("4", "missing_extension")):
        with pytest.raises(BadInput) as caught:
            GENERIC.layout(headers, "x", KeywordMapping(extension=wanted))
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("field", "keyword", "least", "beyond"),
    [
        ("zero_point_err", "ZPE", 0.0, -5e-324),
        ("gain", "EGAIN", 1e-9, 0.9e-9),
        ("saturation", "SATLEVEL", 0.0, -1e-9),
    ],
)
def test_what_is_mapped_is_at_least_what_it_can_be(field, keyword, least, beyond):
    for how in ({"keyword": keyword}, {"value": least}):
        assert getattr(calibration(mapped(**{field: how}), **{keyword: least}), field) == least
    for how in ({"keyword": keyword}, {"value": beyond}):
        with pytest.raises(BadInput, match=keyword if "keyword" in how else f"fits.{field}.value"):
            calibration(mapped(**{field: how}), **{keyword: beyond})


def test_what_is_not_mapped_is_not_known():
    assert calibration(UNMAPPED, EGAIN=None)[:6] == ("adu", None, None, None, None, None)
    assert calibration(mapped(zero_point={"value": 0.0})).zero_point == 0.0
    assert calibration(mapped(zero_point={"value": "27.5"})).zero_point == 27.5


def test_a_zero_point_that_is_mapped_counts_but_of_nanojansky():
    for unit, zero_point in (("adu", 28.25), ("uJy", 28.25), ("nJy", 31.4)):
        assert calibration(mapped(pixel_unit=unit)).zero_point == zero_point
    assert calibration(mapped(pixel_unit="uJy"), ZP="none").zero_point == pytest.approx(23.9)


def test_what_is_mapped_is_said_to_come_from_there():
    origins = calibration(mapped(zero_point={"value": 27.5})).origins
    found = {one.quantity: (one.keyword, one.note) for one in origins}
    assert found["saturation"] == ("SATLEVEL", "")
    assert found["zero_point"] == ("", "of the settings")
    assert "zero_point_err" not in found
    assert found["psf_fwhm"][0] == "FWHM"
    assert "psf_fwhm" not in {one.quantity for one in calibration(UNMAPPED).origins}


def test_a_width_is_above_nothing_and_in_arcsec_only_with_astrometry():
    with pytest.raises(BadInput, match=r"FWHM is 0\.0009"):
        calibration(mapped(), FWHM=0.0009)
    assert calibration(mapped(), FWHM=0.001).psf.fwhm_px == 0.001
    both = {"keywords": ["FWHM", "FWHMV"], "value": 9.0}
    assert calibration(mapped(psf_fwhm=both), FWHMV=4.0).psf.fwhm_px == 3.0  # keywords go first
    cards = fits.Header(TAN).tostring(sep="\n", endcard=False, padding=False)
    for unit, wcs, fwhm in (("px", None, 2.0), ("px", cards, 2.0), ("arcsec", cards, 2.0 / 0.36)):
        given = mapped(psf_fwhm={"keywords": ["FWHM"], "unit": unit})
        assert calibration(given, wcs).psf.fwhm_px == pytest.approx(fwhm)


def identity(mapping=UNMAPPED, **cards):
    given = {key: value for key, value in {**IMAGE, "DATE-OBS": "2024-03-01T22:00:00", **cards}.items() if value != ""}
    return GENERIC.identity((fits.Header(given),), "x", mapping)


def parts(mapping=UNMAPPED, **cards):
    given = {key: value for key, value in {**IMAGE, "DATE-OBS": "2024-03-01T22:00:00", **cards}.items() if value != ""}
    return GENERIC.parts((fits.Header(given),), "x", mapping)


@pytest.mark.parametrize("mapping", [UNMAPPED, KeywordMapping(visit={"value": 7})])
def test_parts_of_an_identity_that_is_known_are_those_of_the_whole(mapping):
    whole, found = identity(mapping), parts(mapping)
    assert found.values == {
        "exposure_time_s": whole.exposure_time_s, "midpoint_mjd_tai": whole.midpoint_mjd_tai,
        "longitude_deg": whole.longitude_deg, "detector": whole.key.detector, "visit": whole.key.visit,
        "night": whole.key.night, "band": whole.band, "instrument": whole.instrument,
    }  # fmt: skip
    assert sorted(found.origins) == sorted(whole.origins)


def test_without_a_time_neither_night_nor_a_visit_by_time_is_known():
    gone = {"DATE-OBS": "nonsense"}
    assert parts(**gone).values.keys() & {"midpoint_mjd_tai", "visit", "night"} == set()
    found = parts(KeywordMapping(visit={"value": 7}), **gone).values
    assert (found["visit"], found.keys() & {"midpoint_mjd_tai", "night"}) == (7, set())


def test_without_its_duration_only_the_middle_of_an_exposure_is_a_time():
    assert parts(EXPTIME="").values.keys() & {"exposure_time_s", "midpoint_mjd_tai", "night"} == set()
    known = parts(**{"EXPTIME": "", "DATE-OBS": "", "DATE-AVG": "2024-03-01T22:00:00"}).values
    expected = Time("2024-03-01T22:00:00", scale="utc").tai.mjd
    assert known["midpoint_mjd_tai"] == pytest.approx(expected, abs=1e-9)
    assert "exposure_time_s" not in known


def test_an_instrument_is_a_name_only():
    assert identity().instrument == "Camera"
    assert identity(INSTRUME="").instrument == "unknown"
    assert identity(KeywordMapping(instrument={"value": "Mine"})).instrument == "Mine"
    assert identity(KeywordMapping(instrument={})).instrument == "unknown"


@pytest.mark.parametrize(("visit", "detector"), [(0, 0), (2**42 - 1, 511)])
def test_numbers_are_kept_up_to_their_limits(visit, detector):
    assert identity(mapped(), RUN=visit, CHIP=detector).key.name == f"{visit}-{detector}"
    fixed = mapped(visit={"value": visit}, detector={"value": detector})
    assert identity(fixed).key.name == f"{visit}-{detector}"
    for card in ({"RUN": 2**42}, {"CHIP": 512}, {"RUN": -1}, {"CHIP": -1}):
        with pytest.raises(BadInput, match=next(iter(card))):
            identity(mapped(), **card)


def test_an_exposure_may_last_no_time():
    assert identity(EXPTIME=0.0).exposure_time_s == 0.0
    with pytest.raises(BadInput, match="EXPTIME"):
        identity(EXPTIME=-5e-324)


@pytest.mark.parametrize(("value", "flagged"), [(True, True), (False, False), ("T", False), (None, False)])
def test_images_that_say_they_are_simulated_are_flagged(write, value, flagged):
    assert ("simulated" in info_of(write(SIMULATE=value)).flags) == flagged


def test_planes_that_are_left_out_are_flagged(write, sky):
    mask = fits.ImageHDU(np.zeros(sky.shape, np.int16), name="MASK")
    small = fits.ImageHDU(np.zeros((9, 9), np.float32), name="SCI")
    source = write(mask, small)
    given = {"extension": 0, **MAPPING}
    flagged, used = (
        prepare(source, Settings(fits={**given, **more}))[0] for more in ({}, {"planes": {"mask": "MASK"}})
    )
    assert "planes_left_out" in flagged.flags
    assert "planes_left_out" not in used.flags


def test_what_a_manifest_gives_no_keyword_has_to_tell(write):
    given = {"visit": "77", "detector": "5", "band": "z", "zero_point": "26.5", "gain": "2.5", "saturation": "3e4"}
    absent = dict.fromkeys(("RUN", "CHIP", "FILTER", "ZP", "EGAIN", "SATLEVEL"))
    source = Source(write(**absent).uri, overrides=tuple(given.items()))
    info = info_of(source)
    assert (info.visit, info.detector, info.band) == (77, 5, "z")
    assert (info.zero_point, info.gain, info.saturation) == (26.5, 2.5, 3e4)
    assert not {"assumed_detector", "assumed_gain", "no_zero_point"} & set(info.flags)
    with pytest.raises(BadInput, match="detector is '512', must be a whole number from 0 to 511"):
        info_of(Source(write().uri, overrides=(("detector", "512"),)))
