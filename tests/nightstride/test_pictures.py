import io
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from PIL import Image

from flows.results.page.picture import MASKED
from flows.results.pixel_piece import PixelPiece
from nightstride.pictures import WIDEST, Cutout, ccd_data
from schemas.pixels import UNUSABLE, MaskPlane
from tests.support.forced import NOISE, plain_info

INFO = plain_info(background=3.0, pixel_unit="nJy")


def piece(plane="difference", data=None, bits=None, variance=None, shape=(4, 6), info=INFO):
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) if data is None else np.asarray(data)
    bits = np.zeros(data.shape, np.uint16) if bits is None else bits
    return PixelPiece(info, plane, 11, -2, data, bits, variance)


def shades(shown):
    return np.array(Image.open(io.BytesIO(shown._repr_png_())))[::-1]


def test_pixels_that_are_not_to_be_trusted_are_masked():
    data, bits = np.ones((2, 3), np.float32), np.zeros((2, 3), np.uint16)
    data[0, 1], bits[1, 2] = np.nan, MaskPlane.SAT
    data[0, 2] = np.inf
    image = ccd_data(piece(data=data, bits=bits))
    assert image.mask.tolist() == [[False, True, True], [False, False, bool(MaskPlane.SAT & UNUSABLE)]]
    np.testing.assert_array_equal(image.flags, bits)
    assert ccd_data(piece(plane="mask", data=bits, bits=bits)).mask.sum() == 1


def test_units_and_errors_are_those_of_the_plane():
    noise = ccd_data(piece())
    assert noise.unit == u.nJy
    assert (noise.uncertainty.uncertainty_type, noise.uncertainty.array.shape) == ("std", (4, 6))
    assert (noise.uncertainty.array == np.float32(NOISE)).all()
    measured = ccd_data(piece(variance=np.full((4, 6), 9, np.float32))).uncertainty
    assert (measured.uncertainty_type, measured.unit) == ("var", u.nJy**2)
    assert ccd_data(piece("science")).uncertainty is None
    assert ccd_data(piece("mask", data=np.zeros((2, 2), np.uint16))).unit == u.dimensionless_unscaled


def test_its_facts_are_those_of_the_exposure_and_the_place():
    meta = ccd_data(piece()).meta
    assert (meta["visit"], meta["plane"], meta["y0"], meta["x0"]) == (7, "difference", 11, -2)
    assert (meta["background"], meta["noise"], meta["shape"]) == (3.0, NOISE, INFO.shape)


@pytest.mark.parametrize("variance", [None, np.full((4, 6), 9, np.float32)])
def test_an_image_is_written_as_fits_and_read_again(tmp_path, variance):
    info = INFO.model_copy(update={"source_uri": f"/data/{'😀' * 30}/é.fits", "ab_zero_point": None})
    image = ccd_data(piece(variance=variance, info=info))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image.write(tmp_path / "image.fits")
    again = CCDData.read(tmp_path / "image.fits")
    np.testing.assert_array_equal(again.data, image.data)
    np.testing.assert_array_equal(again.mask, image.mask)
    np.testing.assert_array_equal(again.uncertainty.array, image.uncertainty.array)
    assert (again.unit, again.uncertainty.uncertainty_type) == (image.unit, image.uncertainty.uncertainty_type)
    assert (again.header["VISIT"], again.header["MJDTAI"], again.header["X0"]) == (7, info.midpoint_mjd_tai, -2)
    assert again.header["SRCURI"].endswith(r"/\xe9.fits")
    image[1:3].write(tmp_path / "part.fits")
    assert CCDData.read(tmp_path / "part.fits").header["Y0"] == 12


def test_variances_have_the_square_of_the_unit_and_a_picture_of_their_own():
    data = np.random.default_rng(5).normal(900, 5, (40, 40)).astype(np.float32)
    image = ccd_data(piece("variance", data))
    assert image.unit == u.nJy**2
    assert np.ptp(shades(image)) > 100  # by the levels of the difference all would be white


def test_a_unit_that_is_not_known_stays_so():
    info = INFO.model_copy(update={"pixel_unit": "unknown"})
    image = ccd_data(piece(info=info, variance=np.ones((4, 6), np.float32)))
    assert (str(image.unit), str(image.uncertainty.unit)) == ("unknown", "unknown2")


def test_a_part_of_an_image_keeps_its_bits_and_knows_its_place():
    bits = np.arange(24, dtype=np.uint16).reshape(4, 6)
    whole = ccd_data(piece(bits=bits))
    part = whole[1:3, 2:]
    assert [(one.meta["y0"], one.meta["x0"]) for one in (whole, part, whole[2:])] == [(11, -2), (12, 0), (13, -2)]
    np.testing.assert_array_equal(part.flags, bits[1:3, 2:])
    np.testing.assert_array_equal(part.mask, (part.flags & UNUSABLE) != 0)


@pytest.mark.parametrize("plane", ["science", "template"])
def test_other_planes_have_a_sky_of_their_own(plane):
    data = np.random.default_rng(3).normal(500, 7, (80, 90)).astype(np.float32)
    bits = np.zeros(data.shape, np.uint16)
    data[:20], bits[:20] = 9000, UNUSABLE
    meta = ccd_data(piece(plane, data, bits)).meta
    assert meta["background"] == pytest.approx(500, abs=0.5)
    assert meta["noise"] == pytest.approx(7, rel=0.05)
    flat = ccd_data(piece(plane, np.ones((3, 3), np.float32))).meta
    assert flat["noise"] > 0
    nothing = ccd_data(piece(plane, np.full((3, 3), np.nan, np.float32))).meta
    assert (nothing["background"], nothing["noise"]) == (3.0, NOISE)


def test_a_picture_has_pixels_up_to_640_and_means_of_them_beyond():
    assert WIDEST == 640
    for side, size in ((640, 640), (641, 321), (1281, 427)):
        assert Image.open(io.BytesIO(ccd_data(piece(shape=(3, side)))._repr_png_())).size[0] == size
    data = np.full((40, 50), 3.0, np.float32)
    data[30, 20] = np.nan
    seen = shades(ccd_data(piece(data=data)))
    assert (seen[30, 20], len(np.unique(seen))) == (MASKED, 2)


def test_a_cutout_shows_its_planes_side_by_side_in_units_of_their_noise():
    bright = np.full((4, 4), 3.0, np.float32)
    bright[2, 1] += 6 * NOISE
    science = np.random.default_rng(1).normal(100, 1, (4, 4)).astype(np.float32)
    planes = {"difference": ccd_data(piece(data=bright)), "science": ccd_data(piece("science", science))}
    cutout = Cutout({"snr": 7.25, "reliability": 0.5, "diaSourceId": 9}, planes)
    assert (cutout.difference, cutout.science, cutout.template) == (planes["difference"], planes["science"], None)
    assert repr(cutout) == "<Cutout of 9: difference, science; 4 x 4 px; S/N 7.2, reliability 0.50>"
    seen = shades(cutout)
    assert seen.shape == (160, 400)  # each pixel 40 px; a gap of two between planes
    assert (seen[:, 160:240] == MASKED).all()
    assert not (seen[:, :160] == MASKED).any()
    np.testing.assert_array_equal(seen[80:120, 40:80], seen[80:120, 40:80].max())
    assert (seen[80:120, 40:80] > seen[0, 0]).all()
    assert len(np.unique(seen[:, :160])) == 2
    wide = {"difference": ccd_data(piece(shape=(200, 200)))}
    assert shades(Cutout(cutout.detection, wide)).shape == (200, 200)
