import numpy as np
import pyarrow as pa
import pytest
from astropy.wcs import WCS

from schemas.errors import Misconfigured
from schemas.galaxy_pictures import GALAXY, PICTURE_SIDE
from schemas.objects import SOURCE
from schemas.settings import CutPicturesSettings
from schemas.stage import Context
from stages.cut_pictures import STAGE
from tests.support.science_night import SHAPE, FakeNight, cards_of, exposure, science

XY = np.array([(60.0, 70.0), (120.0, 90.0), (2.0, 80.0), (110.0, 30.0)])
RADII = np.array([4.0, 5.0, 4.0, 4.0])  # px and arcsec; the third is at the border, the last one is faint
FLUXES = np.array([4e5, 4e5, 4e5, 2e3])
WHERE = WCS(cards_of(exposure(1, "r").wcs_header)).all_pix2world(XY, 0)
BOTH = [exposure(1, "r"), exposure(2, "g")]


def galaxies():
    columns = [range(len(XY)), WHERE[:, 0], WHERE[:, 1], RADII, RADII]
    fields = zip(columns, GALAXY.schema, strict=True)
    return pa.table([pa.array(one).cast(field.type) for one, field in fields], schema=GALAXY.schema)


@pytest.fixture(scope="module")
def fake():
    places = [(*place, flux, radius) for place, flux, radius in zip(WHERE, FLUXES, RADII, strict=True)]
    planes = {
        info.visit: {"science": science(info, places, info.visit), "mask": np.zeros(SHAPE, np.uint16)} for info in BOTH
    }
    return FakeNight(planes, BOTH)


def pictures(night, table=None, **settings):
    inputs = {"galaxy": galaxies() if table is None else table, "source": SOURCE.empty()}
    return STAGE(inputs, Context(settings=CutPicturesSettings(**settings), pixels=night)).rows


def test_bright_galaxies_within_the_image_have_a_picture(fake):
    found = pictures(fake)
    assert found.shape == (4, PICTURE_SIDE, PICTURE_SIDE, 3)
    assert found.any((1, 2, 3)).tolist() == [True, True, False, False]
    middle = found[:2, 28:36, 28:36].mean((1, 2, 3))
    assert (middle > 8 * found[:2, :4].mean((1, 2, 3))).all()
    assert pictures(fake, least_snr=0.0).any((1, 2, 3)).tolist() == [True, True, False, True]
    assert not pictures(fake, least_snr=1e4).any()


def test_two_bands_are_red_and_blue_and_one_is_grey(fake):
    both, one = pictures(fake), pictures(FakeNight(fake.planes, BOTH[:1]))
    assert (one == one[..., :1]).all()
    assert (both[0, ..., 0] != both[0, ..., 2]).any()
    assert np.array_equal(pictures(fake, bands=("g", "r"))[..., ::-1], both)
    assert not pictures(fake, bands=("z",)).any()


def test_each_exposure_is_read_once_and_none_without_galaxies(fake):
    night = FakeNight(fake.planes, BOTH)
    assert pictures(night, galaxies().slice(0, 0)).shape == (0, PICTURE_SIDE, PICTURE_SIDE, 3)
    assert night.read_of == []
    pictures(night)
    assert sorted(night.read_of) == [(visit, plane) for visit in (1, 2) for plane in ("mask", "science")]


def test_a_sharper_exposure_that_cuts_a_galaxy_off_gives_way_to_one_that_shows_it_all(fake):
    def widened(info, fwhm):
        return info.model_copy(update={"psf": info.psf.model_copy(update={"fwhm_px": fwhm})})

    cut_off = widened(exposure(3, "r", 0, (-55.0, 0.0)), 1.5)  # the first galaxy lies 5 px from its border
    near = widened(exposure(4, "r", 0, (-47.0, 0.0)), 1.5)  # 13 px of the 15 that it needs
    places = [(*place, flux, radius) for place, flux, radius in zip(WHERE, FLUXES, RADII, strict=True)]
    planes = {
        info.visit: {"science": science(info, places, info.visit), "mask": np.zeros(SHAPE, np.uint16)}
        for info in (cut_off, near)
    }
    for other in (cut_off, near):
        both = pictures(FakeNight(fake.planes | planes, [BOTH[0], other]))
        assert np.array_equal(both[0], pictures(FakeNight(fake.planes, BOTH[:1]))[0])
        assert not np.array_equal(both[1], pictures(FakeNight(fake.planes, BOTH[:1]))[1])
    assert pictures(FakeNight(planes, [near]))[0].any()
    assert not pictures(FakeNight(planes, [cut_off]))[0].any()


def test_a_picture_does_not_depend_on_the_other_galaxies(fake):
    assert np.array_equal(pictures(fake, galaxies().slice(1, 1))[0], pictures(fake)[1])


def test_what_cannot_be_is_refused():
    with pytest.raises(Misconfigured, match="pixels of a patch"):
        pictures(None)
    with pytest.raises(ValueError, match="must all be different"):
        CutPicturesSettings(bands=("g", "g"))
