import io

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.wcs import WCS

from flows.publish.cutout_fits import CutoutPixels, LocalWcs, fits_files
from schemas.pixels import MaskPlane

RNG = np.random.default_rng(3)


def picture(count=3, side=30, unit="nJy"):
    data = RNG.normal(0, 5, (count, side, side)).astype(np.float32)
    data[0, :4] = np.nan
    mask = np.zeros(data.shape, np.uint16)
    mask[0, :4] = MaskPlane.EDGE | MaskPlane.NO_DATA
    mask[1, 7, 9] = MaskPlane.DETECTED
    mask[1, 8, 9] = MaskPlane.DETECTED | MaskPlane.SAT
    psf = np.outer(*2 * [np.exp(-(np.linspace(-3, 3, 15) ** 2) / 2)])
    return CutoutPixels("science", unit, data, RNG.uniform(1, 2, data.shape), mask, psf / psf.sum(), "header")


def wcs(count=3):
    turn, scale = np.radians(30.0), 0.2 / 3600
    matrix = scale * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x, y = np.array([13.3, 400.0, 2000.25])[:count], np.array([11.1, 500.5, 12.0])[:count]
    return LocalWcs(
        np.array([0.001, 150.0, 359.999])[:count],
        np.array([-89.0, 20.0, 0.1])[:count],
        x,
        y,
        np.repeat(matrix[None], count, 0),
    )


CORNER = np.array([-2, 385, 1986]), np.array([-4, 486, -3])
OUTSIDE = np.array([120, 0, 90])
IDS = np.array([(1 << 62) + 1, 5, 6])


def files(made):
    return fits_files(made, wcs(), CORNER, OUTSIDE, IDS)


def read(content):
    return CCDData.read(io.BytesIO(content), format="fits")


def test_astropy_reads_what_went_in():
    made = picture()
    for n, content in enumerate(files(made)):
        found = read(content)
        assert found.unit == u.nJy
        np.testing.assert_array_equal(found.data, made.data[n])
        assert isinstance(found.uncertainty, VarianceUncertainty)
        np.testing.assert_array_equal(found.uncertainty.array, made.variance[n].astype(np.float32))
        np.testing.assert_array_equal(found.psf, made.psf.astype(np.float32))
        trusted = (made.mask[n] & ~np.uint16(MaskPlane.DETECTED)) == 0
        np.testing.assert_array_equal(found.mask, ~trusted)
        assert found.header["SOURCEID"] == IDS[n]
        assert b"EXTEND  =                    T" in content[:2880]  # as extensions follow
        assert found.header["OUTSIDE"] == OUTSIDE[n]
        assert (found.header["CUTMINX"], found.header["CUTMINY"]) == (CORNER[0][n], CORNER[1][n])


def test_the_place_of_the_detection_is_where_the_projection_has_it():
    places = wcs()
    for n, content in enumerate(files(picture())):
        found = read(content)
        x, y = places.x[n] - CORNER[0][n], places.y[n] - CORNER[1][n]
        sky = found.wcs.pixel_to_world(x, y)
        assert sky.ra.deg == pytest.approx(places.ra[n], abs=1e-9)
        assert sky.dec.deg == pytest.approx(places.dec[n], abs=1e-9)
        up = found.wcs.pixel_to_world(x, y + 1)
        assert sky.position_angle(up).deg == pytest.approx(30.0, abs=1e-4)
        assert found.header["ROTPA"] == pytest.approx(30.0, abs=1e-9)
        assert sky.separation(up).arcsec == pytest.approx(0.2, rel=1e-6)


def test_the_files_keep_to_the_standard():
    for content in files(picture(unit="adu")):
        assert len(content) % 2880 == 0
        with fits.open(io.BytesIO(content)) as hdus:
            hdus.verify("exception")
            assert [one.name for one in hdus] == ["PRIMARY", "MASK", "UNCERT", "PSFIMAGE"]
            assert hdus["UNCERT"].header["BUNIT"] == "adu2"
            assert hdus["MASK"].data.dtype == np.dtype(">i2")
            bits = {name: value for name, value in hdus["MASK"].header.items() if name.startswith("MP_")}
            assert bits == {
                "MP_BAD": 0, "MP_SAT": 1, "MP_INTRP": 2, "MP_CR": 3, "MP_EDGE": 4, "MP_NO_DA": 5, "MP_SUSPE": 6,
                "MP_STREA": 9,
            }  # fmt: skip


@pytest.mark.parametrize("unit", ["nJy", "adu", "electron/s", ""])
def test_variances_have_the_square_of_the_unit(unit):
    (content, *_) = files(picture(unit=unit))
    found = read(content)
    assert (found.unit, found.uncertainty.unit) == (u.Unit(unit), u.Unit(unit) ** 2)
    with fits.open(io.BytesIO(content)) as hdus:
        assert u.Unit(hdus["UNCERT"].header["BUNIT"]) == found.uncertainty.unit


def test_it_is_what_astropy_would_write():
    made, n = picture(), 1
    written = io.BytesIO()
    header = WCS(naxis=2)
    header.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    header.wcs.crval = [wcs().ra[n], wcs().dec[n]]
    header.wcs.crpix = [wcs().x[n] - CORNER[0][n] + 1, wcs().y[n] - CORNER[1][n] + 1]
    header.wcs.cd = wcs().matrix[n]
    theirs = CCDData(
        made.data[n], unit="nJy", uncertainty=VarianceUncertainty(made.variance[n].astype(np.float32)),
        mask=(made.mask[n] & ~np.uint16(MaskPlane.DETECTED)) != 0, wcs=header, psf=made.psf.astype(np.float32),
    )  # fmt: skip
    theirs.write(written, format="fits")
    again, ours = read(written.getvalue()), read(files(made)[n])
    for name in ("data", "mask", "psf", "unit"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ours, name))
    np.testing.assert_array_equal(again.uncertainty.array, ours.uncertainty.array)
    np.testing.assert_allclose(
        again.wcs.all_pix2world([[0, 0], [29, 29]], 0), ours.wcs.all_pix2world([[0, 0], [29, 29]], 0), rtol=1e-12
    )


@pytest.mark.parametrize("side", [30, 31, 102])
def test_all_sides_fill_whole_blocks(side):
    made = picture(side=side)
    assert {len(one) % 2880 for one in files(made)} == {0}
    np.testing.assert_array_equal(read(files(made)[2]).data, made.data[2])
