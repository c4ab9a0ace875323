import numpy as np
import pytest
from astropy.wcs import WCS

from schemas.errors import Misconfigured
from schemas.objects import CENTRE, OBJECT, SIDE, SOURCE
from schemas.settings import CutCutoutsSettings
from schemas.stage import Context
from stages.cut_cutouts import STAGE
from tests.support.filled import filled
from tests.support.science_night import SHAPE, FakeNight, cards_of, exposure, science

NJY = 10 ** ((31.4 - 26) / 2.5)
XY = np.array([(60.0, 70.0), (3.0, 80.0), (120.2, 90.4), (400.0, 400.0)])
WHERE = WCS(cards_of(exposure(1, "g").wcs_header)).all_pix2world(XY, 0)


def objects():
    return filled(OBJECT.schema, len(XY), objectId=range(len(XY)), ra=WHERE[:, 0], dec=WHERE[:, 1])


def night(*infos):
    places = [(ra, dec, 2e4, 0.0) for ra, dec in WHERE]
    planes = {
        info.visit: {"science": science(info, places, info.visit), "mask": np.zeros(SHAPE, np.uint16)} for info in infos
    }
    return FakeNight(planes, list(infos))


def cutouts(fake, table=None, **settings):
    context = Context(settings=CutCutoutsSettings(**settings), pixels=fake)
    return STAGE({"object": objects() if table is None else table, "source": SOURCE.empty()}, context).rows


def fwhm(info, value):
    return info.model_copy(update={"psf": info.psf.model_copy(update={"fwhm_px": value})})


@pytest.fixture(scope="module")
def fake():
    return night(exposure(1, "g"), fwhm(exposure(2, "r"), 4.0), fwhm(exposure(3, "r", 0, (-20.0, 0.0)), 3.0))


@pytest.fixture(scope="module")
def made(fake):
    return cutouts(fake)


def test_planes_are_the_bands_and_then_their_psf(made):
    assert made.shape == (4, 8, SIDE, SIDE)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made[0, 4].sum(), 1, atol=1e-4)
    assert np.unravel_index(np.argmax(made[0, 4]), (SIDE, SIDE)) == (CENTRE, CENTRE)
    assert not np.array_equal(made[0, 4], made[0, 5])


def test_the_object_lies_on_its_pixel_in_njy_and_without_sky(made):
    assert np.unravel_index(np.argmax(made[0, 0]), (SIDE, SIDE)) == (CENTRE, CENTRE)
    assert np.median(made[0, 0]) == pytest.approx(0, abs=2.5 * NJY)
    assert made[0, 0].sum() / NJY == pytest.approx(2e4, rel=0.1)


def test_a_band_that_is_missing_is_nan_in_both_planes(made):
    assert np.isnan(made[:, [2, 3, 6, 7]]).all()
    assert np.isfinite(made[0, [0, 1, 4, 5]]).all()


def test_outside_the_image_is_nan_and_an_object_off_it_has_nothing(made):
    assert np.isnan(made[1, 0, :, : CENTRE - 3]).all()
    assert np.isfinite(made[1, 0, :, CENTRE - 3 :]).all()
    assert np.isnan(made[3]).all()


def test_the_sharpest_exposure_counts_and_before_it_one_that_shows_all(fake, made):
    # visit 3 is sharper; object 1 lies off it to the left, where visit 2 shows what there is
    sharp = cutouts(FakeNight(fake.planes, [fake.infos[2]]))
    np.testing.assert_array_equal(made[[0, 2], 1], sharp[[0, 2], 1])
    blunt = cutouts(FakeNight(fake.planes, [fake.infos[1]]))
    np.testing.assert_array_equal(made[1, 1], blunt[1, 1])
    np.testing.assert_array_equal(made[1, 5], blunt[1, 5])


def test_each_exposure_is_read_once(fake, made):
    again = FakeNight(fake.planes, fake.infos)
    np.testing.assert_array_equal(cutouts(again), made)
    assert sorted(again.read_of) == [(visit, plane) for visit in (1, 2, 3) for plane in ("mask", "science")]


def test_bands_and_their_order_are_a_setting(fake, made):
    found = cutouts(fake, bands=("r", "g"))
    np.testing.assert_array_equal(found, made[:, [1, 0, 5, 4]])
    with pytest.raises(ValueError, match="must all be different"):
        CutCutoutsSettings(bands=("g", "g"))


def test_pixels_without_a_value_are_nan(fake):
    planes = {1: {"science": fake.planes[1]["science"].copy(), "mask": fake.planes[1]["mask"]}}
    planes[1]["science"][70, 62] = np.nan
    found = cutouts(FakeNight(planes, [fake.infos[0]]))
    assert np.isnan(found[0, 0, CENTRE, CENTRE + 2])
    assert np.isnan(found[0, 0]).sum() == 1


def test_what_has_no_place_or_no_unit_is_no_exposure_and_nothing_gives_nothing(fake):
    spoilt = [fake.infos[0].model_copy(update={name: None}) for name in ("wcs_header", "zero_point")]
    assert np.isnan(cutouts(FakeNight(fake.planes, spoilt))).all()
    assert cutouts(fake, OBJECT.empty()).shape == (0, 8, SIDE, SIDE)


def star_rows(info, x, y, **changed):
    """Rows of `source`: bright stars without a flag."""
    values = {"band": info.band, "visit": info.visit, "snr": 200.0, "x": x, "y": y} | changed
    return filled(SOURCE.schema, len(x), **values)


def test_the_psf_is_that_of_the_stars_not_of_the_header():
    x, y = (one.ravel() for one in np.meshgrid(np.arange(20.0, 170, 30), np.arange(20.0, 150, 30)))
    info = exposure(1, "g")  # its stars are drawn with the FWHM of the fixture
    ra, dec = WCS(cards_of(info.wcs_header)).all_pix2world(x, y, 0)
    planes = {1: {"science": science(info, [(*at, 5e4, 0.0) for at in zip(ra, dec, strict=True)], 1)}}
    planes[1]["mask"] = np.zeros(SHAPE, np.uint16)
    wrong = fwhm(info, info.psf.fwhm_px * 1.25)
    own = cutouts(FakeNight(planes, [info]))[0, 4]

    def psf_of(source):
        context = Context(settings=CutCutoutsSettings(), pixels=FakeNight(planes, [wrong], source=source))
        return STAGE({"object": objects(), "source": SOURCE.empty()}, context).rows[0, 4]

    followed = psf_of(star_rows(wrong, x, y))
    assert followed.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(followed, own, atol=0.03 * own.max())
    for source in (star_rows(wrong, x, y, visit=2), star_rows(wrong, x, y, flags=8), star_rows(wrong, x, y, snr=20.0)):
        assert psf_of(source).max() < 0.8 * own.max()


def test_rows_are_filled_piece_by_piece(fake, made, monkeypatch):
    for rows in (1, 2, 3):
        monkeypatch.setattr("stages.cut_cutouts._ROWS", rows)
        np.testing.assert_array_equal(cutouts(fake), made)


def test_pixels_are_needed():
    with pytest.raises(Misconfigured, match="pixels of a patch"):
        cutouts(None)
