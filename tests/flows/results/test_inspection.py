from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from flows.inputs.ingest import prepare
from flows.inputs.source import Source
from flows.results import inspection
from flows.results.camera_file import settings_text
from flows.results.inspection import inspect_source
from schemas.errors import BadInput
from schemas.settings import Settings


def inspected(camera, **settings):
    return inspect_source(Source(str(camera.path)), Settings(**settings))


@pytest.mark.parametrize("name", ["sip", "sixteen_bits", "extensions", "mosaic_3", "jansky", "rates"])
def test_it_tells_what_a_run_would_use(cameras, name):
    camera = cameras[name]
    found, info = inspected(camera), prepare(Source(str(camera.path)), Settings())[0]
    assert found.error is None
    assert Time(found.value("mid_exposure_utc"), scale="utc").mjd == pytest.approx(camera.middle.mjd, abs=1e-8)
    for field in ("visit", "detector", "band", "night", "pixel_unit"):
        assert found.value(field) == getattr(info, field)
    for field in ("gain", "zero_point"):
        known = getattr(info, field)
        assert found.value(field) == (known if known is None else pytest.approx(known, rel=1e-8))
    assert found.value("psf_fwhm") == pytest.approx(camera.psf[0], rel=0.03)
    assert (found.value("psf_beta") > 15) == (camera.psf[1] is None)
    assert found.value("psf_ellipticity") < 0.03
    assert found.flags == info.flags


@pytest.mark.parametrize("name", ["sip", "sixteen_bits", "extensions", "mosaic_3"])
def test_the_place_on_the_sky_is_told_as_it_is(cameras, name):
    camera = cameras[name]
    found, wcs = inspected(camera), camera.wcs
    matrix = wcs.wcs.cd if wcs.wcs.has_cd() else wcs.wcs.get_pc() @ np.diag(wcs.wcs.get_cdelt())
    assert found.value("pixel_scale") == pytest.approx(np.sqrt(abs(np.linalg.det(matrix))) * 3600, rel=1e-3)
    assert found.value("parity") == ("as on the sky" if np.linalg.det(matrix) < 0 else "mirrored")
    east, north = matrix @ [0.0, 1.0]
    ny, nx = prepare(Source(str(camera.path)), Settings())[0].shape
    centre = [float(part) for part in found.value("centre").split()]
    assert centre == pytest.approx(wcs.all_pix2world([[(nx - 1) / 2, (ny - 1) / 2]], 0)[0], abs=2e-6)
    off = (found.value("orientation") - np.degrees(np.arctan2(east, north)) + 180) % 360 - 180
    assert off == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "galactic"),
        ({"RADESYS": "FK4", "EQUINOX": 1950.0}, "fk4"),
        ({"RADESYS": "FK5", "EQUINOX": 2000.0}, "fk5"),
        ({"RADESYS": "ICRS"}, "icrs"),
    ],
)
@pytest.mark.parametrize("parity", [-1, 1])
def test_any_frame_is_told_in_icrs(tmp_path, cards, frame, parity):
    """Steps of a pixel are compared with separations and position angles of astropy's coordinates."""
    pixels = np.random.default_rng(3).normal(0, 5, (120, 140)).astype("f4")
    sky = fits.Header({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 123.4, "CRVAL2": 31.0, "CRPIX1": 70.5, "CRPIX2": 60.5,
        "CD1_1": parity * 2e-4, "CD1_2": 1e-4, "CD2_1": parity * -1e-4, "CD2_2": 2e-4, **cards,
    })  # fmt: skip
    others = {"MJD-OBS": 61101.275, "EXPTIME": 60.0, "FILTER": "r", "SITELONG": -155.5}
    fits.writeto(tmp_path / "x.fits", pixels, fits.Header({**sky, **others}))
    found = inspect_source(Source(str(tmp_path / "x.fits")), Settings())
    rows = {row.name: row for row in found.quantities}
    x, y = 69.5, 59.5
    at, up, right = (WCS(sky).pixel_to_world(*place).icrs for place in ((x, y), (x, y + 1), (x + 1, y)))
    assert [float(part) for part in rows["centre"].value.split()] == pytest.approx([at.ra.deg, at.dec.deg], abs=2e-6)
    assert rows["centre"].note.startswith("ICRS;" if frame == "icrs" else f"ICRS, converted from {frame};")
    off = (rows["orientation"].value - at.position_angle(up).deg + 180) % 360 - 180
    assert off == pytest.approx(0, abs=0.01)
    turn = np.sin(at.position_angle(right).rad - at.position_angle(up).rad)
    assert rows["parity"].value == ("as on the sky" if turn < 0 else "mirrored")


def test_where_each_comes_from_and_what_is_assumed(cameras):
    rows = {row.name: row for row in inspected(cameras["sip"]).quantities}
    assert (rows["mid_exposure_utc"].keyword, rows["longitude_deg"].keyword) == ("DATE-OBS", "OBSGEO-X")
    assert "TAI by TIMESYS" in rows["mid_exposure_utc"].note
    assert (rows["gain"].keyword, rows["gain"].said, rows["gain"].assumed) == ("GAIN", "1.6", True)
    assert not any(rows[name].assumed for name in ("band", "exposure_time", "centre", "noise", "background"))
    rows = {row.name: row for row in inspected(cameras["sixteen_bits"]).quantities}
    assert rows["mid_exposure_utc"].keyword == "DATE-OBS + TIME-OBS"
    rows = {row.name: row for row in inspected(cameras["jansky"]).quantities}
    assert (rows["night"].assumed, rows["longitude_deg"].assumed, rows["gain"].value) == (True, True, None)


@pytest.mark.parametrize(
    ("name", "keyword", "quantity"),
    [
        ("sip", "MAGZPT", "zero_point"),
        ("sixteen_bits", "MAGZERO", "zero_point"),
        ("mosaic_3", "PHOTZP", "zero_point"),
        ("mosaic_3", "GAIN", "gain"),
        ("extensions", "MJD-OBS", "time"),
    ],
)
def test_likely_keywords_that_told_nothing_are_named(cameras, name, keyword, quantity):
    unused = {row.keyword: row for row in inspected(cameras[name]).unused}
    assert unused[keyword].quantity == quantity
    assert unused[keyword].why
    assert "ZPCOUNT" not in unused


def test_every_extension_is_listed_with_its_use(cameras):
    found = inspected(cameras["extensions"]).extensions
    assert [(one.name, one.used) for one in found] == [("", ""), ("SCI", ""), ("DIFF", "difference"), ("MASK", "")]
    assert [one.likely for one in found] == ["", "science", "", "mask"]
    found = inspected(cameras["extensions"], fits={"planes": {"mask": "MASK"}}).extensions
    assert [one.likely for one in found] == ["", "science", "", ""]


def test_an_error_is_told_with_what_was_found_before_it(cameras, tmp_path):
    path = tmp_path / "x.fits"
    with fits.open(cameras["rates"].path) as file:
        del file[0].header["UTSTART"]
        file.writeto(path)
    found = inspect_source(Source(str(path)), Settings())
    assert found.error.code == "missing_time"
    unused = {row.keyword: row.why for row in found.unused}
    assert "[fits.zero_point]" in unused["MAGZERO"]
    assert "DATE-OBS" not in unused  # it is asked, and the error tells of it
    assert found.extensions[0].used == "difference"
    assert found.values()["error"]["code"] == "missing_time"


@pytest.mark.parametrize(
    ("spoilt", "code", "lost"),
    [
        ({"DATE-OBS": "nothing"}, "invalid_keyword", {"mid_exposure_utc", "mid_exposure_tai", "visit", "night"}),
        ({"FILTER": None}, "missing_keyword", {"band"}),
        ({"CRPIX1": None}, "missing_wcs", {"centre", "pixel_scale", "orientation", "parity"}),
        ({"DATE-OBS": "nothing", "FILTER": None, "CRPIX1": None}, "invalid_keyword", {
            "mid_exposure_utc", "mid_exposure_tai", "visit", "night", "band", "centre", "pixel_scale", "orientation",
            "parity",
        }),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["sip", "jansky"])
def test_what_is_wrong_costs_what_it_tells_and_no_more(cameras, tmp_path, name, spoilt, code, lost):
    whole = {row.name: row for row in inspected(cameras[name]).quantities}
    path = tmp_path / "x.fits"
    with fits.open(cameras[name].path) as file:
        for key, value in spoilt.items():
            if value is None:
                file[0].header.remove(key)
            else:
                file[0].header[key] = value
        file.writeto(path)
    found = inspect_source(Source(str(path)), Settings())
    rows = {row.name: row for row in found.quantities}
    pixels = {"background", "noise", "masked_fraction", "psf_fwhm", "psf_beta", "stars", "psf_ellipticity"}
    assert found.error.code == code
    if name == "jansky" and "CRPIX1" in spoilt:
        lost = lost | {"zero_point"}  # MJy/sr: by the area of a pixel
    assert rows.keys() == whole.keys() - lost - pixels
    assert {key: row.value for key, row in rows.items()} == {key: whole[key].value for key in rows}
    assert not {"DATE-OBS", "FILTER", "EXPTIME", "INSTRUME"} & {row.keyword for row in found.unused}


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("ORIGIN", None),
        ("INSTRUME", None),
        ("EXTNAME", None),
        ("EXPTIME", "missing_keyword"),
        ("CRVAL1", "invalid_keyword"),
    ],
)
def test_a_card_that_breaks_the_standard_costs_what_it_tells_alone(cameras, tmp_path, key, code):
    path = tmp_path / "x.fits"
    with fits.open(cameras["rates"].path) as file:
        file[0].header[key] = 12345.0 if code else ("xxxxxxx", "of a card that is spoilt")
        card = file[0].header.cards[key].image
        file.writeto(path)
    path.write_bytes(path.read_bytes().replace(card.encode(), f"{key:8}= =broken".ljust(80).encode()))
    found = inspect_source(Source(str(path)), Settings())
    assert (found.error and found.error.code) == code
    assert settings_text([found])
    if code is None:
        assert prepare(Source(str(path)), Settings())[0].detector == found.value("detector")
    else:
        assert f"{key} has no value that can be read" in str(found.error)


@pytest.mark.parametrize(
    ("key", "value", "told"), [("CRVAL1", "1E999", "CRVAL1 is inf"), ("EXPTIME", "1E300", "EXPTIME is 1e+300")]
)
def test_a_value_that_no_exposure_has_is_refused_by_its_keyword(cameras, tmp_path, key, value, told):
    path = tmp_path / "x.fits"
    with fits.open(cameras["rates"].path) as file:
        file[0].header[key] = 12345.0
        card = file[0].header.cards[key].image
        file.writeto(path)
    path.write_bytes(path.read_bytes().replace(card.encode(), f"{key:8}= {value:>20}".ljust(80).encode()))
    error = inspect_source(Source(str(path)), Settings()).error
    assert (error.code, told in str(error), f"correct {key}" in error.remedy) == ("invalid_keyword", True, True)


def test_pixels_without_a_unit_leave_the_gain_in_doubt(cameras, tmp_path):
    with fits.open(cameras["sip"].path) as file:
        file[0].header.pop("BUNIT", None)
        file[0].header["EGAIN"] = 1.6
        file.writeto(tmp_path / "x.fits")
    found = inspect_source(Source(str(tmp_path / "x.fits")), Settings())
    rows = {row.name: row for row in found.quantities}
    assert (rows["pixel_unit"].assumed, rows["gain"].keyword, rows["gain"].assumed) == (True, "EGAIN", True)
    assert "assumed_gain" in found.flags
    sure = inspect_source(Source(str(tmp_path / "x.fits")), Settings(fits={"pixel_unit": "adu"}))
    assert "assumed_gain" not in sure.flags


@pytest.mark.parametrize("doubt", ["BUNIT", "comment"])
def test_what_is_said_of_a_gain_in_doubt_is_so(cameras, tmp_path, doubt):
    with fits.open(cameras["sip"].path) as file:
        file[0].header["GAIN"] = (1.6, "" if doubt == "comment" else "[e-/adu] of both amplifiers")
        file[0].header["BUNIT"] = "adu"
        if doubt == "BUNIT":
            del file[0].header["BUNIT"]
        file.writeto(tmp_path / "x.fits")
    said = inspect_source(Source(str(tmp_path / "x.fits")), Settings()).values()["flags"]
    assert "no comment tells its unit, or no BUNIT that of the pixels" in said["assumed_gain"]
    assert ("assumed_pixel_unit" in said) == (doubt == "BUNIT")


def test_what_is_no_image_is_told(tmp_path):
    path = tmp_path / "x.fits"
    path.write_bytes(b"nothing")
    assert inspect_source(Source(str(path)), Settings()).error.code == "not_fits"
    assert inspect_source(Source(str(tmp_path / "none")), Settings()).error.code == "unreadable_file"


def test_a_stack_is_told_by_its_pixels(tmp_path):
    np.savez(tmp_path / "asteroid_difference_images_1.npz", data=np.random.default_rng(1).normal(0, 1, (1, 90, 90)))
    found = inspect_source(Source(str(tmp_path / "asteroid_difference_images_1.npz"), index=0), Settings())
    assert found.error is None
    assert {row.name for row in found.quantities if row.assumed} >= {"mid_exposure_utc", "psf_fwhm", "night"}


@pytest.mark.parametrize(("name", "missing"), [("sip", {"zero_point"}), ("jansky", {"gain"})])
def test_what_follows_from_a_missing_value_is_told(cameras, name, missing):
    rows = {row.name: row for row in inspected(cameras[name]).quantities}
    words = {
        "zero_point": "fluxes are null", "gain": "photon noise of the sources is left out",
        "saturation": "nothing counts as saturated",
    }  # fmt: skip
    for quantity, text in words.items():
        assert (rows[quantity].note == text) == (rows[quantity].value is None)
    assert {quantity for quantity in ("zero_point", "gain") if rows[quantity].value is None} == missing


@pytest.mark.parametrize(
    ("lacking", "likely"), [("EXPTIME", {"TEXP"}), ("FILTER", {"FILTER2"}), ("UTSTART", {"JD"}), ("CRPIX1", set())]
)
def test_only_keywords_of_what_is_missing_may_be_why(cameras, tmp_path, lacking, likely):
    path = tmp_path / "x.fits"
    with fits.open(cameras["rates"].path) as file:
        file[0].header.update({"TEXP": 30.0, "FILTER2": "r", "JD": 2461101.8, "EXPNUM": 7, "GAIN": 1.0})
        file[0].header.remove(lacking)
        file.writeto(path)
    found = inspect_source(Source(str(path)), Settings())
    assert found.error is not None
    assert {row.keyword for row in found.unused if "this may be why" in row.why} == likely


def test_a_width_of_the_settings_is_said_to_be_of_them(cameras):
    source = Source(str(cameras["jansky"].path))
    given = Settings(fits={"psf_fwhm": {"value": 3.0}})
    (width,) = (row for row in inspect_source(source, given).quantities if row.name == "psf_fwhm")
    assert "of the settings" in width.note


def test_a_width_that_was_measured_on_a_stamp_is_not_of_a_keyword(write_ztf, tmp_path):
    y, x = np.mgrid[-12:13, -12:13]
    stamp = write_ztf(np.exp(-(x**2 + y**2) / 4).astype(np.float32), compressed=False, product="diffimgpsf")
    image = write_ztf(SEEING=9.0)
    found = inspect_source(Source(str(image), siblings=(("psf", str(stamp)),)), Settings())
    (width,) = (row for row in found.quantities if row.name == "psf_fwhm")
    assert ("of the PSF image" in width.note, width.keyword) == (True, "")
    assert "SEEING" in {row.keyword for row in found.unused}


def without_exposure_time(cameras, folder, **cards):
    with fits.open(cameras["sip"].path) as file:
        header = file[0].header
        del header["EXPTIME"]
        header.update({key.replace("_", "-"): value for key, value in cards.items()})
        file.writeto(folder / "x.fits")
    return inspect_source(Source(str(folder / "x.fits")), Settings())


def test_a_missing_exposure_time_hides_nothing_else(cameras, tmp_path):
    whole = {row.name: row for row in inspected(cameras["sip"]).quantities}
    found = without_exposure_time(cameras, tmp_path, XPOSURE=45.0)
    rows = {row.name: row for row in found.quantities}
    assert found.error.code == "missing_keyword"
    for name in ("pixel_unit", "gain", "zero_point", "centre", "band", "longitude_deg"):
        assert rows[name] == whole[name]
    middle = rows["mid_exposure_utc"]
    assert (middle.value, middle.keyword) == (None, "DATE-OBS")
    assert "exposure time is missing" in middle.note
    assert {row.keyword for row in found.unused if "this may be why" in row.why} == {"XPOSURE"}


def test_a_time_of_the_middle_needs_no_exposure_time(cameras, tmp_path):
    middle = cameras["sip"].middle
    date = middle.tai.isot if fits.getval(cameras["sip"].path, "TIMESYS") == "TAI" else middle.utc.isot
    found = without_exposure_time(cameras, tmp_path, DATE_OBS=(date, "mid-exposure"))
    assert Time(found.value("mid_exposure_utc"), scale="utc").mjd == pytest.approx(middle.mjd, abs=1e-7)


def test_what_is_used_is_not_called_unused(cameras, tmp_path):
    with fits.open(cameras["sip"].path) as file:
        for key in [key for key in file[0].header if key.startswith("OBSGEO")]:
            del file[0].header[key]
        file[0].header["HIERARCH ESO TEL GEOLON"] = -70.7
        file.writeto(tmp_path / "x.fits")
    found = inspect_source(Source(str(tmp_path / "x.fits")), Settings())
    assert next(row for row in found.quantities if row.name == "longitude_deg").keyword == "ESO TEL GEOLON"
    assert "ESO TEL GEOLON" not in {row.keyword for row in found.unused}


def test_only_settings_of_the_unit_are_said_to_tell_it(cameras, tmp_path):
    path = tmp_path / "x.fits"
    with fits.open(cameras["rates"].path) as file:
        file[0].header["EXPTIME"] = -1.0  # the gain of rates takes it
        file.writeto(path)
    for given, told in (({}, False), ({"pixel_unit": "adu/s"}, True)):
        unused = {row.keyword for row in inspect_source(Source(str(path)), Settings(fits=given)).unused}
        assert ("BUNIT" in unused) == told


def test_what_the_primary_header_says_otherwise_is_told(cameras, tmp_path):
    with fits.open(cameras["jansky"].path) as file:
        own = file[0].header
        primary = fits.PrimaryHDU(header=fits.Header({"EXPTIME": own["EXPTIME"] + 30, "FILTER": "other"}))
        fits.HDUList([primary, fits.ImageHDU(file[0].data, own)]).writeto(tmp_path / "x.fits")
    found = inspect_source(Source(str(tmp_path / "x.fits")), Settings())
    rows = {row.name: row for row in found.quantities}
    assert (rows["band"].value, rows["band"].note) == (own["FILTER"], "the primary header has FILTER = other")
    assert "of the primary header" in rows["exposure_time"].note
    assert "ambiguous_time" in found.flags


def test_stars_that_are_too_few_for_the_psf_are_told(cameras, tmp_path):
    with fits.open(cameras["jansky"].path) as file:
        noise = np.random.default_rng(1).normal(0, 1, file[0].data.shape).astype("f4")
        fits.writeto(tmp_path / "x.fits", noise, file[0].header)
    found = inspect_source(Source(str(tmp_path / "x.fits")), Settings())
    (stars,) = [row for row in found.quantities if row.name == "stars"]
    assert "assumed_psf" in found.flags
    assert (stars.value, stars.note) == (0, "of 0 are above 20 sigma; 3, or 5 in all, would tell the PSF")


NEEDED = {"exposure_time": "exposure_time_s", "time": "midpoint_mjd_tai", "detector": "detector", "band": "band"}
CALIBRATION = {"pixel_unit", "gain", "zero_point", "saturation"}


@pytest.mark.parametrize(
    ("lacking", "seconds", "calibrated", "missing"),
    [
        ((), 30.0, True, set()), ((), 30.0, False, CALIBRATION), ((), 0.0, False, set()),
        (("band",), 30.0, False, {"band"} | CALIBRATION), (("time",), 30.0, True, {"time"}),
        (("exposure_time",), 0.0, False, {"exposure_time"}),
        (("exposure_time", "time", "band"), 0.0, False, {"exposure_time", "band"}),
    ],
)  # fmt: skip
def test_what_may_be_why_a_file_is_refused_is_what_no_header_tells(lacking, seconds, calibrated, missing):
    values = {field: 1.0 for name, field in NEEDED.items() if name not in lacking}
    values |= {"exposure_time_s": seconds} if "exposure_time" not in lacking else {}
    parts = SimpleNamespace(values=values, origins=[SimpleNamespace(quantity="gain")])
    known = SimpleNamespace(parts=parts, calibration=object() if calibrated else None, layout={"difference": 0})
    assert inspection._missing(known) == missing - {"gain"}


def test_of_a_file_without_values_everything_may_be_why_if_it_has_an_image():
    for layout, missing in (({"difference": 0}, set(NEEDED)), ({}, set())):
        known = SimpleNamespace(parts=SimpleNamespace(values={}, origins=[]), calibration=None, layout=layout)
        assert inspection._missing(known) == missing


def test_a_file_that_was_refused_before_it_was_opened_is_told_so(tmp_path):
    path = tmp_path / "stack.npz"
    path.write_bytes(b"not FITS")
    why = BadInput("wrong_number", str(path), "is one of two.", "choose.")
    assert inspect_source(Source(str(path), refusal=why), Settings()).error is why


@pytest.mark.parametrize(("cards", "longitude"), [({"OBS-LONG": -155.5}, -155.5), ({}, -70.7494)])
def test_the_site_of_a_rubin_file_is_told_by_the_keyword_that_a_run_uses(tmp_path, cards, longitude):
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 1.0, "CRVAL2": 2.0, "CD1_1": -5e-5, "CD2_2": 5e-5}
    primary = {"VISIT": 7, "DETECTOR": 1, "BAND": "r", "EXPTIME": 30.0, "MJD-AVG": 61060.1, "PSF_FWHM": 4.0, **cards}
    pixels = np.random.default_rng(1).normal(0, 20, (100, 120)).astype("f4")
    image = fits.ImageHDU(pixels, fits.Header({**sky, "BUNIT": "nJy"}), "IMAGE")
    mask = fits.ImageHDU(np.zeros(pixels.shape, "i4"), fits.Header({"MP_SAT": 1}), "MASK")
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary)), image, mask]).writeto(tmp_path / "x.fits")
    found = inspect_source(Source(str(tmp_path / "x.fits")), Settings())
    site = next(row for row in found.quantities if row.name == "longitude_deg")
    assert (site.value, site.keyword) == (longitude, "".join(cards))
    assert found.unused == ()
