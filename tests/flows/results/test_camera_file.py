import tomllib
from dataclasses import replace

import pytest
from astropy.io import fits

from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from flows.results.camera_file import settings_text, varying
from flows.results.inspection import inspect_source
from kernels.psf.gaussian_mixture import fwhm_with_pixels
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
    seen = fwhm_with_pixels(stars.value("psf_fwhm"), stars.value("psf_beta"))
    assert f"# found here: {seen:.5g} px as seen in the image" in settings_text([stars])
    assumed = settings_text([replace(stars, flags=(*stars.flags, "assumed_psf"))])
    assert f"# assumed here: {seen:.5g} px as seen in the image" in assumed
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


def test_the_width_that_is_written_gives_the_fluxes_without_it_when_it_is_set(cameras):
    (stars,) = inspected(cameras["sip"].path)
    (line,) = [line for line in settings_text([stars]).splitlines() if "found here" in line]
    given = Settings(
        fits={"psf_fwhm": {"value": float(line.split()[3])}, "psf_beta": {"value": stars.value("psf_beta")}}
    )
    assert prepare(Source(stars.uri), given)[0].psf.fwhm_px == pytest.approx(stars.value("psf_fwhm"), rel=1e-4)


def copies(cameras, folder, changes):
    """Write a file for each of some changes of its cards, and inspect them."""
    paths = []
    for number, cards in enumerate(changes):
        with fits.open(cameras["jansky"].path) as file:
            for key, value in cards.items():
                if value is None:
                    del file[0].header[key]
                else:
                    file[0].header[key] = value
            paths.append(folder / f"{number}.fits")
            file.writeto(paths[-1])
    return inspected(*paths)


def test_what_files_do_not_agree_on_is_not_set_and_names_them(cameras, tmp_path):
    date = fits.getval(cameras["jansky"].path, "DATE-OBS")
    comments = ("start of exposure", "UTC mid-exposure", "UTC mid-exposure")
    found = copies(cameras, tmp_path, [{"DATE-OBS": (date, comment)} for comment in comments])
    text = settings_text(found)
    given = Settings(**tomllib.loads(text))
    assert given.fits.time == Settings().fits.time
    assert "# CHECK: the files differ in what follows, and nothing is set." in text
    assert f"# {found[0].uri}:" in text
    assert f"# {found[1].uri}, {found[2].uri}:" in text
    assert '# at = "middle"  # by its comment' in text
    for one in found:
        assert prepare(Source(one.uri), given)[0].midpoint_mjd_tai == pytest.approx(one.value("mid_exposure_tai"))
    assert Settings(**tomllib.loads(settings_text(found[1:]))).fits.time.at == "middle"


def test_what_the_first_file_lacks_is_not_decided_for_all(cameras, tmp_path):
    changes = [{"BUNIT": None, "EGAIN": 1.2}, {"BUNIT": "electron"}, {"BUNIT": "electron"}]
    text = settings_text(copies(cameras, tmp_path, changes))
    given = Settings(**tomllib.loads(text)).fits
    assert (given.pixel_unit, given.gain.keyword) == (None, None)
    assert '# pixel_unit = "electron"' in text


def test_all_refused_files_are_named_and_counted(cameras, tmp_path):
    broken = tmp_path / "broken.fits"
    broken.write_bytes(cameras["jansky"].path.read_bytes()[:4000])
    found = [*copies(cameras, tmp_path, [{}, {"EXPTIME": None}]), *inspected(broken)]
    text = settings_text(found)
    assert "from 1 file, " in text
    assert "# Refused: 2 of 3 files." in text
    assert "broken.fits" in text
    assert found[1].uri in text


def test_what_a_comment_says_of_scale_and_exposure_time_is_marked(cameras, tmp_path):
    date = fits.getval(cameras["jansky"].path, "DATE-OBS")
    local, atomic, minutes = copies(
        cameras,
        tmp_path,
        [
            {"DATE-OBS": (date, "local time (HST)")},
            {"DATE-OBS": (date, "TAI start")},
            {"EXPTIME": (0.5, "exposure in minutes")},
        ],
    )
    assert '# scale = "utc"  # CHECK' in settings_text([local])
    assert 'scale = "tai"  # by its comment' in settings_text([atomic])
    assert 'unit = "min"  # CHECK: in min by the words' in settings_text([minutes])


def test_the_number_of_a_day_is_proposed_where_there_is_no_date(cameras, tmp_path):
    (one,) = copies(cameras, tmp_path, [{"DATE-OBS": None, "JD": 2461101.8}])
    assert '# keyword = "JD"  # CHECK' in settings_text([one])
    assert '# format = "jd"' in settings_text([one])


def test_a_refused_mosaic_tells_what_its_headers_do(cameras, tmp_path):
    with fits.open(cameras["jansky"].path) as file:
        common = fits.Header({key: file[0].header[key] for key in ("DATE-OBS", "EXPTIME", "FILTER")})
        primary = fits.PrimaryHDU(header=fits.Header({**common, "SITELONG": -70.8}))
        detectors = [fits.ImageHDU(file[0].data, fits.Header({"CCDNUM": n, "BUNIT": "adu"})) for n in (1, 2)]
        fits.HDUList([primary, *detectors]).writeto(tmp_path / "x.fits")
    (one,) = inspected(tmp_path / "x.fits")
    assert one.error.code == "ambiguous_image"
    assert one.value("detector") is None
    given = Settings(**tomllib.loads(settings_text([one]))).fits
    assert (given.detector.keyword, given.longitude_deg, given.pixel_unit) == ("CCDNUM", -70.8, "adu")
    assert given.time.at == "start"


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


@pytest.mark.parametrize(
    ("cards", "lines"),
    [
        ({"SEEING": (1.1, "[arcsec] FWHM")}, ['# keywords = ["SEEING"]  # 1.1', '# unit = "arcsec"  # by its comment']),
        ({"SEEING": (1.1, "FWHM")}, ["# keywords = []  # or value = ..., px"]),
        (
            {"FWHM": 3.0, "SEEING": (3.2, "[pix]")},
            ['# keywords = ["SEEING"]  # 3.2', '# unit = "px"  # by its comment'],
        ),
    ],
)
def test_a_width_is_proposed_with_the_unit_that_its_comment_has(cameras, tmp_path, cards, lines):
    (one,) = copies(cameras, tmp_path, [cards])
    text = settings_text([one])
    assert "\n".join(["# [fits.psf_fwhm]  # stars are measured without it", *lines]) in text


@pytest.mark.parametrize(
    ("cards", "lines"),
    [
        ({"FILTER": None, "FILTNAM": "r"}, ["# [fits.band]", '# keyword = "FILTNAM"  # CHECK: r?']),
        ({"FILTER": ""}, ["# [fits.band]", '# value = "r"  # CHECK: the band; no keyword that is known here tells it']),
        (
            {"EXPTIME": None, "XPOSURE": 45.0, "TELAPSE": (46e3, "[ms]")},
            [
                "# [fits.exposure_time]",
                '# keyword = "XPOSURE"  # CHECK: 45.0 s?',
                '# keyword = "TELAPSE"  # CHECK: 46000.0 ms?',
            ],
        ),
        (
            {"EXPTIME": None},
            [
                "# [fits.exposure_time]",
                "# value = 30.0  # CHECK: the exposure time, s; no keyword that is known here tells it",
            ],
        ),
    ],
)
def test_what_no_file_can_do_without_is_asked_for(cameras, tmp_path, cards, lines):
    (one,) = copies(cameras, tmp_path, [cards])
    assert one.error is not None
    text = settings_text([one])
    assert "\n".join(lines) + "\n" in text
    Settings(**tomllib.loads(text))


def test_without_an_exposure_time_the_rest_is_written(cameras, tmp_path):
    path = rewritten(cameras["sip"].path, tmp_path / "x.fits", EXPTIME=None)
    given, whole = (
        Settings(**tomllib.loads(settings_text(inspected(one)))).fits for one in (path, cameras["sip"].path)
    )
    assert given.exposure_time == Settings().fits.exposure_time
    for name in ("time", "gain", "pixel_unit", "zero_point", "band", "longitude_deg"):
        assert getattr(given, name) == getattr(whole, name)


def test_files_of_several_instruments_are_refused(cameras, tmp_path):
    names = ("Cam", "cam ", "", "Other")
    found = copies(cameras, tmp_path, [{"INSTRUME": name} for name in names])
    assert "# Settings for Cam, " in settings_text(found[:3])
    with pytest.raises(Misconfigured, match=r"of 2 instruments, must be of one: Cam .*, Other ") as caught:
        settings_text(found)
    assert caught.value.code == "several_instruments"


@pytest.mark.parametrize(
    ("cards", "lines", "absent"),
    [
        ({"SATURATE": 5e4}, ["[fits.saturation]  # CHECK: 50000.0, in", '# keyword = "SATURATE"'], []),
        ({"BUNIT": "odd"}, ['# pixel_unit = "adu"  # CHECK: BUNIT is not known here'], ['\npixel_unit = "']),
        ({"MAGZERO": 25.5, "BUNIT": "adu"}, ["[fits.zero_point]"], ["fluxes are null without it"]),
        ({"FLUXMAG0": 3.5e5, "BUNIT": "adu"}, ["# value = 13.86017  # AB magnitude of 1 adu, if it is 2.5 log10"], []),
        ({"FLUXMAG0": 0.0, "BUNIT": "adu"}, ["# value = 25.0  # AB magnitude of 1 adu\n"], []),
    ],
)
def test_what_an_image_may_tell_is_proposed(cameras, tmp_path, cards, lines, absent):
    text = settings_text(copies(cameras, tmp_path, [cards]))
    assert all(line in text for line in lines)
    assert not any(line in text for line in absent)
    assert ("[fits.saturation]" in text) == ("SATURATE" in cards)
