import tomllib
from dataclasses import replace

import pytest
from astropy.io import fits

from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from flows.results.camera_file import settings_text, varying
from flows.results.inspection import inspect_source
from schemas.errors import Misconfigured
from schemas.settings import Settings


def inspected(*paths):
    return [inspect_source(Source(str(path)), Settings()) for path in paths]


@pytest.mark.parametrize("name", ["sip", "sixteen_bits", "extensions", "mosaic_3", "jansky", "rates"])
def test_what_is_written_says_the_same_and_the_zero_point(cameras, name):
    camera = cameras[name]
    text = settings_text(inspected(camera.path))
    source, given = Source(str(camera.path)), Settings(**tomllib.loads(text))
    before, after = prepare(source, Settings())[0], prepare(source, given)[0]
    assert after.zero_point == pytest.approx(camera.zero_point, abs=1e-3)
    assert "no_zero_point" not in after.flags
    assert "assumed_gain" not in after.flags
    for field in ("visit", "detector", "night", "midpoint_mjd_tai", "gain", "pixel_unit", "band", "psf"):
        assert getattr(after, field) == getattr(before, field)
    assert "CHECK" in text


def rewritten(path, target, **cards):
    with fits.open(path) as file:
        header = file[-1].header
        for key, value in cards.items():
            key = key.replace("_", "-")
            if value is None:
                del header[key]
            else:
                header[key] = value
        file.writeto(target)
    return target


def test_a_psf_is_said_to_be_found_or_assumed(cameras):
    (stars,) = inspected(cameras["sip"].path)
    assert "assumed_psf" not in stars.flags
    assert f"# found here: {stars.value('psf_fwhm')} px" in settings_text([stars])
    assumed = settings_text([replace(stars, flags=(*stars.flags, "assumed_psf"))])
    assert f"# assumed here: {stars.value('psf_fwhm')} px" in assumed
    assert "# [fits.psf_beta]  # with both" in assumed
    assert "# [fits.psf_beta]" not in settings_text([stars])


def test_keywords_of_the_detector_are_told_from_those_of_the_visit(cameras, tmp_path):
    paths = [
        rewritten(
            cameras["mosaic_3"].path, tmp_path / f"{visit}-{chip}.fits", CCDNUM=None, CHIPNO=chip, EXPNUM=visit,
            SEED=visit * 10 + chip, MJD_OBS=61101.2 + visit / 1000,
        )
        for visit in (101, 102)
        for chip in (1, 2, 3)
    ]  # fmt: skip
    found = inspected(*paths)
    apart = varying(found)
    assert apart.per_detector == ("CHIPNO",)
    assert {"EXPNUM", "MJD-OBS"} <= set(apart.per_visit)
    assert not {"SEED", "CHIPNO", "FILTER"} & set(apart.per_visit)
    text = settings_text(found)
    given = Settings(**tomllib.loads(text))
    assert given.fits.detector.keyword == "CHIPNO"
    assert '# keyword = "EXPNUM"' in text
    assert len({prepare(Source(str(path)), given)[0].name for path in paths}) == 6


def test_a_refused_file_gives_the_question_to_fill_in(cameras, tmp_path):
    path = rewritten(cameras["rates"].path, tmp_path / "x.fits", UTSTART=None)
    text = settings_text(inspected(path))
    assert "missing_time" not in text
    assert "a date without a time of day" in text
    Settings(**tomllib.loads(text))


def test_what_a_refused_file_left_open_is_as_without_settings(cameras, tmp_path):
    path = rewritten(cameras["rates"].path, tmp_path / "x.fits", UTSTART=None)
    given = Settings(**tomllib.loads(settings_text(inspected(path))))
    assert given.fits.time == Settings().fits.time
    assert prepare(Source(str(cameras["rates"].path)), given)[0].midpoint_mjd_tai > 0


def test_another_exposure_time_is_not_proposed_where_there_is_the_usual_one(cameras, tmp_path):
    path = rewritten(cameras["rates"].path, tmp_path / "x.fits", TEXP=45.0, ELAPTIME=46.0)
    assert settings_text(inspected(path)).count("[fits.exposure_time]") == 1


def test_a_refused_file_names_what_may_be_its_exposure_time(cameras, tmp_path):
    path = rewritten(cameras["rates"].path, tmp_path / "x.fits", EXPTIME=None, TEXP=45.0)
    assert "--write" in inspected(path)[0].error.remedy
    text = settings_text(inspected(path))
    assert '# [fits.exposure_time]\n# keyword = "TEXP"  # CHECK: 45.0 s?' in text
    given = Settings(fits={"exposure_time": {"keyword": "TEXP"}})
    assert prepare(Source(str(path)), given)[0].exposure_time_s == 45


@pytest.mark.parametrize(
    ("name", "plane"), [("SCI", "science"), ("REF", "template"), ("VAR_MAP", "variance"), ("DQ", "mask")]
)
def test_an_image_beside_the_difference_is_proposed_by_its_name(cameras, tmp_path, name, plane):
    with fits.open(cameras["extensions"].path) as file:
        image = next(hdu for hdu in file if "DIFF" in hdu.name)
        fits.HDUList([file[0], image, fits.ImageHDU(image.data, name=name)]).writeto(tmp_path / "x.fits")
    assert f'# planes = {{ {plane} = "{name}" }}' in settings_text(inspected(tmp_path / "x.fits"))


def test_images_beside_the_difference_are_proposed_in_one_line(cameras, tmp_path):
    names = ["SCI", "A", "NEW", "DQ", "B"]
    with fits.open(cameras["extensions"].path) as file:
        image = next(hdu for hdu in file if "DIFF" in hdu.name)
        others = [fits.ImageHDU(image.data, name=name) for name in names]
        fits.HDUList([file[0], image, *others]).writeto(tmp_path / "x.fits")
    (line,) = [line for line in settings_text(inspected(tmp_path / "x.fits")).splitlines() if "# planes" in line]
    said = tomllib.loads(line.removeprefix("# "))["planes"]
    assert said == {"science": "SCI", "mask": "DQ", "template": "A", "variance": "B"}


def test_formats_that_are_known_need_no_settings():
    with pytest.raises(Misconfigured, match="no file"):
        settings_text([])


@pytest.mark.parametrize(
    ("comment", "line"), [("", 'at = "start"  # CHECK: '), ("UTC mid-exposure", 'at = "middle"  # by its comment: ')]
)
def test_the_instant_is_that_of_the_comment(cameras, tmp_path, comment, line):
    with fits.open(cameras["jansky"].path) as file:
        file[0].header.set("DATE-OBS", file[0].header["DATE-OBS"], comment)
        file.writeto(tmp_path / "x.fits")
    found = inspect_source(Source(str(tmp_path / "x.fits")), Settings())
    assert line in settings_text([found])
