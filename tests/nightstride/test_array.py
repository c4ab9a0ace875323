import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.time import Time

import nightstride as ns
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.sky.projection import celestial_wcs
from kernels.trails.trail_model import trail_image
from schemas.dia_source import DIA_SOURCE
from tests.support.forced import WCS_HEADER, at_pixel, plain_planes

pytest_plugins = ("tests.support.linked_fixture",)
TRAIL = (100.0, 60.0, 14.0, 30.0, 6000.0)
"""x, y, length, angle, flux: S/N about 50."""


@pytest.fixture(scope="module")
def pixels():
    return plain_planes(TRAIL)["difference"]


@pytest.fixture(scope="module")
def found(pixels):
    wcs = celestial_wcs(WCS_HEADER)
    return ns.search(pixels, wcs=wcs, psf=ns.PsfModel(fwhm_px=2.2), zero_point=26.0, gain=1e6, time=61000.5)


def test_what_was_planted_is_found_and_measured(found):
    row = found.to_arrow().sort_by([("snr", "descending")]).to_pylist()[0]
    assert (row["x"], row["y"]) == pytest.approx(TRAIL[:2], abs=0.2)
    assert (row["ra"], row["dec"]) == pytest.approx(at_pixel(*TRAIL[:2]), abs=0.3 / 3600)
    assert row["trailLengthPx"] == pytest.approx(TRAIL[2], abs=4 * row["trailLengthPxErr"])
    assert row["trailFlux"] == pytest.approx(TRAIL[4] * 10**2.16, abs=4 * row["trailFluxErr"])
    assert row["midpointMjdTai"] == 61000.5
    assert row["reliability"] > 0.5


def test_it_is_a_table_of_detections(found):
    assert found.name == "dia_source"
    assert found.columns == DIA_SOURCE.schema.names
    assert found["trailFlux"].unit == u.nJy
    assert "NO_WCS" not in found.flag_names[0]


def test_without_anything_known_rows_say_so(pixels):
    with pytest.warns(UserWarning, match=r"2.5 px are assumed, and trails may be missed.*Give psf"):
        rows = ns.search(pixels[:130, :160])
    table = rows.to_arrow()
    assert len(table) >= 1
    for name in ("ra", "trailFlux", "midpointMjdTai"):
        assert table[name].null_count == len(table)
    assert all({"NO_WCS", "NO_ZERO_POINT"} <= set(names) for names in rows.flag_names)


def test_a_psf_that_nothing_tells_is_flagged(pixels):
    point = np.random.default_rng(2).normal(0, 5, (120, 120)).astype(np.float32)
    point += 900 * trail_image((120, 120), 60.0, 60.0, 9.0, 20.0, moffat_mixture(2.2, 3.0)).astype(np.float32)
    with pytest.warns(UserWarning, match="nothing tells the PSF"):
        assumed = ns.search(point)
    assert all("ASSUMED_PSF" in names for names in assumed.flag_names)
    assert not any("ASSUMED_PSF" in names for names in ns.search(point, psf=2.4).flag_names)


def test_bright_candidates_that_an_assumed_psf_costs_are_counted():
    psf = moffat_mixture(1.6, 3.0)
    image = np.random.default_rng(2).normal(0, 5, (150, 150)).astype(np.float32)
    for y, x in ((40, 40), (40, 110), (110, 40), (110, 110)):
        image += 8000 * trail_image(image.shape, x, y, 12.0, 0.5, psf).astype(np.float32)
    with pytest.warns(UserWarning, match=r"; [1-4] bright candidates were left out as unreliable") as told:
        few = ns.search(image)
    lost = int(str(told[0].message).split("; ")[1].split()[0])
    assert (len(few) + lost, len(ns.search(image, psf=1.9))) == (4, 4)


def test_masked_pixels_are_left_out(pixels):
    mask = np.zeros(pixels.shape, bool)
    mask[40:80, 80:120] = True
    planted = "x > 80 and x < 120 and y > 40 and y < 80"
    options = {"psf": 2.4}
    assert len(ns.search(pixels, **options)(where=planted)) == 1
    assert len(ns.search(pixels, mask=mask, **options)(where=planted)) == 0
    blank = np.where(mask, np.nan, pixels)
    assert len(ns.search(blank, **options)(where=planted)) == 0
    assert len(ns.search(np.ma.array(pixels, mask=mask), **options)(where=planted)) == 0


def test_a_width_says_nothing_of_the_wings_and_errors_say_so():
    """A Gaussian, of which nothing but the width is known: the flux is fitted with other wings, within its error."""
    y, x = np.mgrid[:120, :120] - 60.0
    sigma = 3.2 / 2.3548
    point = 5_000 * np.exp(-(x**2 + y**2) / 2 / sigma**2) / (2 * np.pi * sigma**2)
    image = (point + np.random.default_rng(3).normal(0, 5, point.shape)).astype(np.float32)
    row = ns.search(image, psf=3.2, unit="nJy").to_arrow().to_pylist()[0]
    assert abs(row["psfFlux"] - 5_000) < 2.5 * row["psfFluxErr"]


def test_electrons_and_rates_have_the_errors_of_the_counts_they_are(pixels):
    known = {"psf": 2.4, "zero_point": 26.0}
    counts = ns.search(pixels, gain=2.0, **known).to_arrow()
    rate = {"zero_point": 26.0 - 2.5 * np.log10(30), "exposure_time": 30.0, "psf": 2.4}
    more = 2.5 * np.log10(2)
    for same in (
        ns.search(2 * pixels, unit="electron", psf=2.4, zero_point=26.0 + more),
        ns.search(pixels / 30 * u.adu / u.s, gain=2.0, **rate),
        ns.search(2 * pixels / 30, unit="electron/s", **rate | {"zero_point": rate["zero_point"] + more}),
    ):
        np.testing.assert_allclose(same.to_arrow()["trailFluxErr"], counts["trailFluxErr"], rtol=2e-3)
        np.testing.assert_allclose(same.to_arrow()["trailFlux"], counts["trailFlux"], rtol=2e-3)
    assert ns.search(2 * pixels / 30, unit="electron/s", psf=2.4).to_arrow().num_rows == counts.num_rows


def test_a_stamp_of_the_psf_is_as_good_as_its_width(pixels):
    stamp = trail_image((25, 25), 12.0, 12.0, 0.0, 0.0, moffat_mixture(2.2, 3.0))
    by_stamp, by_model = ns.search(pixels, psf=stamp), ns.search(pixels, psf=ns.PsfModel(fwhm_px=2.2))
    np.testing.assert_allclose(by_stamp["snr"].max(), by_model["snr"].max(), rtol=0.02)


def test_an_image_of_astropy_brings_what_it_knows(pixels, found):
    image = CCDData(pixels, unit="adu", wcs=celestial_wcs(WCS_HEADER))
    again = ns.search(
        image, psf=ns.PsfModel(fwhm_px=2.2), zero_point=26.0, gain=1e6, time=Time(61000.5, format="mjd", scale="tai")
    )
    assert again.to_arrow().equals(found.to_arrow())
    header = fits.Header.fromstring(WCS_HEADER, sep="\n")
    by_header = ns.search(
        pixels.astype(">f8"), wcs=header, psf=ns.PsfModel(fwhm_px=2.2), zero_point=26.0, gain=1e6, time=61000.5
    )
    assert by_header.to_arrow().equals(found.to_arrow())


def test_flux_density_needs_no_zero_point(pixels):
    micro = ns.search(pixels / 1000 * u.uJy, psf=2.4).to_arrow()
    plain = ns.search(pixels, unit="nJy", psf=2.4).to_arrow()
    assert plain["trailFlux"].null_count == 0
    np.testing.assert_allclose(micro["trailFlux"], plain["trailFlux"], rtol=1e-3)


def test_what_is_published_is_what_is_found(pixels, linked):
    """Pixels of a stored exposure, searched in memory: the answer has the form of the catalogue."""
    night, _ = linked
    image = night.image(100, 5)
    found = ns.search(
        image, psf=ns.PsfModel(fwhm_px=image.meta["fwhm"]), mask=image.flags, zero_point=image.meta["zeroPoint"]
    )
    assert pa.schema(found.schema).names == night.detections().columns[1:]
    options = {"psf": ns.PsfModel(fwhm_px=image.meta["fwhm"]), "zero_point": image.meta["zeroPoint"]}
    assert ns.search(image, **options).to_arrow().equals(found.to_arrow())  # its bits and its WCS come with it


OK = np.random.default_rng(1).normal(0, 1, (64, 64)).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "options", "says"),
    [
        (OK[0], {}, "has the shape .64,., must be .ny, nx."),
        (OK[None], {}, "must be .ny, nx."),
        ((100 * OK).astype(np.uint16), {}, "is uint16: integers may have wrapped round"),
        ((100 * OK).astype(int), {}, r"give array.astype\('float32'\)"),
        (OK + 1j, {}, "is complex"),
        ([["a"]], {}, "array in memory: array"),
        (OK[:20], {}, "smaller than a search window"),
        (np.full_like(OK, np.nan), {}, "no pixel has a finite value"),
        (np.ones_like(OK), {}, "all pixels are 1. To fix, look at the array"),
        (np.broadcast_to(np.float32(1), (8000, 8000)), {}, "more than 37,748,736 pixels"),
        (OK, {"mask": np.zeros((3, 3), bool)}, "mask: has the shape"),
        (OK, {"mask": OK}, "give booleans, or the bits"),
        (OK, {"science": OK[:30]}, "science: has the shape"),
        (OK, {"psf": -1.0}, "give its FWHM in pixels"),
        (OK, {"psf": 1e9}, "psf: is not valid: a FWHM of 1e.09 px"),
        (OK, {"psf": np.zeros((9, 9))}, "psf: is not valid"),
        (OK, {"psf": 17.0}, "psf: has a FWHM of 17 px, must be 0.25 of the shorter side at most, of 64 px"),
        (OK, {"psf": ns.PsfModel(fwhm_px=17)}, "psf: has a FWHM of 17 px"),
        (OK, {"psf": True}, "psf: is not valid: it is true or false"),
        (OK, {"gain": np.inf}, "gain: is inf, must be electrons per adu, more than 0 and finite"),
        (OK, {"gain": True}, "gain: is True"),
        (OK, {"zero_point": np.nan}, "zero_point: is nan"),
        (OK, {"saturation": -1.0}, "saturation: is -1.0"),
        (OK, {"time": np.nan}, "time: is nan"),
        (OK, {"time": 1e9}, "time: is 1000000000.0, must be an astropy Time, or MJD TAI from 40587 to 88069"),
        (OK, {"time": "2026-01-01"}, "time: is '2026-01-01'"),
        (OK, {"wcs": 3}, "give an astropy WCS"),
        (OK, {"wcs": fits.Header({"CRVAL1": 3.0})}, "wcs: the header has no keyword"),
        (
            OK,
            {"gain": -3.0},
            "gain: is -3.0, must be electrons per adu, more than 0 and finite. To fix, correct it, or leave it out",
        ),
        (OK, {"exposure_time": -3}, "exposure_time: is -3, must be seconds"),
        (OK, {"band": 3}, "band: is 3, must be a text"),
        (OK, {"psf": 2.4 * u.arcsec}, "psf: is 2.4 arcsec, and without a WCS"),
        (OK, {"zero_point": 25, "unit": "nJy"}, "zero_point: is 25, and the pixels are nJy"),
        (OK, {"gain": 1.5, "unit": "electron"}, "gain: is 1.5, and the pixels are electrons already"),
        (OK, {"gain": 1.5, "unit": "adu/s"}, "gain: of pixels that are rates needs the exposure time"),
        (OK * u.m, {}, "has the unit m"),
        (OK * u.nJy, {"unit": "adu"}, "unit: is adu, that of the array nJy"),
        (OK * u.nJy, {"science": OK * u.adu}, "science: is in adu, the difference image in nJy"),
        (OK, {"unit": "counts"}, "unit: is counts, must be one of adu, adu/s, electron"),
    ],
)
def test_what_makes_no_sense_is_refused(array, options, says):
    with pytest.raises(ns.BadInput, match=says):
        ns.search(array, **options)


def test_settings_are_a_file():
    with pytest.raises(ns.Misconfigured, match="settings: is 5, no path"):
        ns.search(OK, settings=5)
