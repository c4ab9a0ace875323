import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.sky.patches import Division, Patch, cover, divided, neighbours, pixels_at
from schemas.patch import COVER_ORDER
from tests.support.cards import as_text, elsewise, gnomonic

SHAPE = (200, 300)


def edge_of(order, pixel, step=3000):
    return SkyCoord(*(one.deg[0] for one in HEALPix(2**order, "nested").boundaries_lonlat([pixel], step)), unit="deg")


@pytest.mark.parametrize(("order", "pixel"), [(5, 1234), (5, 0), (7, 5), (9, 1_000_000), (9, 2**18 - 1), (9, 2**17)])
def test_holds_what_is_inside_or_within_the_margin_and_little_more(order, pixel):
    rng = np.random.default_rng(pixel)
    edge, margin = edge_of(order, pixel), 30.0
    corners = 3000 * rng.integers(0, 4, 300) + rng.integers(-2, 3, 300)
    start = edge[np.concatenate([rng.integers(0, len(edge), 300), corners % len(edge)])]
    there = start.directional_offset_by(rng.uniform(0, 360, 600) * units.deg, rng.uniform(0, 60, 600) * units.arcsec)
    inside = HEALPix(2**order, "nested").lonlat_to_healpix(there.ra, there.dec) == pixel
    away = there.match_to_catalog_sky(edge)[1].arcsec
    patch = Patch(order, pixel, margin)
    np.testing.assert_array_equal(patch.holds(there.ra.deg, there.dec.deg), inside)
    held = patch.holds(there.ra.deg, there.dec.deg, margin)
    assert held[inside | (away < margin)].all()
    assert not held[~inside & (away > 1.3 * margin)].any()
    assert (~inside & held).any()


def test_nan_lies_nowhere_and_pixels_are_those_of_astropy():
    ra, dec = np.array([10.0, np.nan, 200.0]), np.array([20.0, 3.0, np.nan])
    assert not Patch(5, 0, 10.0).holds(ra, dec, 10.0)[1:].any()
    expected = HEALPix(2**9, "nested").lonlat_to_healpix(ra[:1] * units.deg, dec[:1] * units.deg)
    np.testing.assert_array_equal(pixels_at(ra[:1], dec[:1], 9), expected)
    assert pixels_at(np.zeros(0), np.zeros(0), 5).shape == (0,)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 360), st.floats(-90, 90), st.sampled_from([0.2, 1.0, 8.0]), st.floats(0, 90), st.integers(0, 2**32))
def test_an_exposure_covers_every_pixel_that_it_touches_or_comes_near(ra, dec, scale, rotation, seed):
    wcs, rng = gnomonic([ra, dec], [150.5, 100.5], scale, rotation), np.random.default_rng(seed)
    reach = 60.0 / scale / np.sqrt(2)
    x, y = rng.uniform(-reach, SHAPE[1] + reach, 4000), rng.uniform(-reach, SHAPE[0] + reach, 4000)
    lon, lat = wcs.all_pix2world(x, y, 0)
    covered = cover(as_text(wcs), SHAPE)
    assert set(pixels_at(lon, lat, COVER_ORDER).tolist()) <= set(covered)
    assert list(covered) == sorted(set(covered))
    away = SkyCoord(*HEALPix(2**COVER_ORDER, "nested").healpix_to_lonlat(covered)).separation(
        SkyCoord(ra, dec, unit="deg")
    )
    assert away.arcmin.max() < np.hypot(*SHAPE) / 2 * scale / 60 + 7 + 7


@pytest.mark.parametrize("kind", [0, 1])
def test_what_an_exposure_covers_is_told_in_icrs(kind):
    wcs = elsewise(gnomonic([150.0, 20.0], [150.5, 100.5]))[kind]
    x, y = np.random.default_rng(5).uniform(0, 1, (2, 500)) * np.array(SHAPE[::-1])[:, None]
    sky = wcs.pixel_to_world(x, y).icrs
    covered = cover(as_text(wcs), SHAPE)
    assert set(pixels_at(sky.ra.deg, sky.dec.deg, COVER_ORDER).tolist()) <= set(covered)
    assert len(covered) < 12


def test_pixels_far_from_an_exposure_are_none_of_its():
    covered = cover(as_text(gnomonic([150.0, 20.0], [150.5, 100.5], 8.0, 10.0)), SHAPE)
    assert 40 * 26.7 / 47 < len(covered) < 70  # 26.7 x 40 arcmin, pixels of 6.9 arcmin


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, 12 * 4**COVER_ORDER - 1) | st.integers(5000, 5300), st.floats(0, 50), max_size=80),
    st.integers(0, COVER_ORDER),
    st.floats(1, 120),
)
def test_patches_hold_every_pixel_once_and_are_no_larger_or_smaller_than_need_be(load, order, most):
    pixels = np.array(sorted(load), np.int64)
    weight = np.array([load[pixel] for pixel in sorted(load)])
    found = divided(pixels, weight, order, most)
    inside = [pixels >> 2 * (COVER_ORDER - depth) == pixel for depth, pixel in found]
    assert (np.sum(inside, 0) == 1).all() if found else not load
    for (depth, pixel), mine in zip(found, inside, strict=True):
        assert depth >= order
        assert mine.any()
        assert depth == COVER_ORDER or weight[mine].sum() <= most
        if depth > order:
            parent = pixels >> 2 * (COVER_ORDER - depth + 1) == pixel >> 2
            assert weight[parent].sum() > most
    assert found == sorted(found, key=lambda one: one[1] << 2 * (COVER_ORDER - one[0]))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 12 * 4**7 - 1), st.lists(st.integers(0, 200), min_size=1, max_size=60, unique=True),
    st.integers(4, COVER_ORDER), st.integers(1, 30),
)  # fmt: skip
def test_every_place_near_the_patches_of_a_night_belongs_to_one(middle, steps, order, most):
    fine = HEALPix(2**COVER_ORDER, "nested")
    where = SkyCoord(*HEALPix(2**7, "nested").healpix_to_lonlat([middle]))[0]
    close = fine.cone_search_lonlat(where.ra, where.dec, 1 * units.deg)
    pixels = np.unique(close[np.array(steps) % len(close)])
    division = Division(tuple(divided(pixels, np.ones(len(pixels)), order, most)))
    found = [division.about(number) for number in range(len(division.patches))]
    patches = [Patch(*one, 0.0, beside) for one, (_, beside) in zip(division.patches, found, strict=True)]
    inside = np.concatenate([Patch(*one, 0.0).parts(COVER_ORDER) for one in division.patches])
    around = neighbours(inside, COVER_ORDER)
    for part, times in ((inside, 1), (around, 1), (np.setdiff1d(neighbours(np.union1d(inside, around), 9), inside), 0)):
        places = SkyCoord(*fine.healpix_to_lonlat(part))
        held = np.sum([one.holds(places.ra.deg, places.dec.deg) for one in patches], 0)
        assert (held == times).all()
    for (near, beside), patch in zip(found, patches, strict=True):
        touching = np.union1d(patch.parts(COVER_ORDER), neighbours(patch.parts(COVER_ORDER), COVER_ORDER))
        expected = {n for n, one in enumerate(division.patches) if np.isin(touching, Patch(*one, 0.0).parts(9)).any()}
        assert set(near) == expected
        assert not np.isin(beside, inside).any()


def test_a_patch_consists_of_finer_pixels_and_those_beside_it():
    assert Patch(8, 3, 0.0).parts(9).tolist() == [12, 13, 14, 15]
    assert Patch(8, 3, 0.0, (70, 69)).parts(9).tolist() == [12, 13, 14, 15, 69, 70]
    assert Patch(7, 3, 0.0, (70, 1000)).parts(8).tolist() == [12, 13, 14, 15, 17, 250]


@pytest.mark.parametrize(("order", "pixel"), [(0, 0), (0, 4), (1, 3), (5, 1234), (9, 2**18 - 1)])
def test_a_circle_holds_a_patch_and_its_margin(order, pixel):
    middle, chord = Patch(order, pixel, 0.0).circle(60.0)
    edge = edge_of(order, pixel, 100)
    out = edge.directional_offset_by(np.linspace(0, 360, len(edge)) * units.deg, 60 * units.arcsec)
    away = np.linalg.norm(out.cartesian.xyz.value.T - middle, axis=1)
    assert chord * 0.8 < away.max() <= chord


def test_neighbours_touch_and_are_none_of_those_that_they_touch():
    inside = np.array([0, 1, 2, 3, 500])
    found = neighbours(inside, 5)
    every = np.array([pixel for pixel in range(12 * 4**5) if pixel not in inside])
    with np.errstate(invalid="ignore"):  # eight pixels have seven neighbours
        of_every = HEALPix(2**5, "nested").neighbours(every)
    np.testing.assert_array_equal(found, every[np.isin(of_every, inside).any(0)])


def test_the_first_pixel_of_the_sky_is_a_neighbour_as_well():
    assert 0 in neighbours(np.array([1, 2, 3]), 5)


@pytest.mark.parametrize(("most", "order"), [(2.0, COVER_ORDER - 1), (1.9, COVER_ORDER)])
def test_a_patch_may_have_just_the_load_that_is_allowed(most, order):
    found = divided(np.array([4, 5]), np.ones(2), COVER_ORDER - 1, most)
    assert found == ([(order, 1)] if order < COVER_ORDER else [(order, 4), (order, 5)])
