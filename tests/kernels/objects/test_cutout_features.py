import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import DEEP
from kernels.objects.cutout_features import (
    CHANNELS,
    FEATURES,
    MOMENTS,
    OF_PSF,
    _moment_features,
    _quartiles,
    band_views,
    make_planes,
)
from kernels.psf.moments import Moments, adaptive_moments
from kernels.psf.psf_contrast import psf_contrast

SIDE = 26


def cutouts(n=6, planes=2, side=SIDE, seed=0):
    """Noise with a blob in the middle; the second half of the planes are blobs alone."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - side // 2
    blob = np.exp(-(x**2 + y**2) / 8).astype(np.float32)
    made = np.broadcast_to(blob, (n, planes, side, side)).copy()
    made[:, : planes // 2] = 40 * blob + rng.normal(0, 1, (n, planes // 2, side, side))
    return made


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e5), level=st.floats(-1e3, 1e3))
def test_neither_zero_point_nor_background_matters(scale, level):
    plain = cutouts()
    changed = plain.astype(np.float64)
    changed[:, :1] = changed[:, :1] * scale + level * scale
    changed[:, 1:] *= scale
    one, other = make_planes(plain, 1, SIDE), make_planes(changed, 1, SIDE)
    np.testing.assert_allclose(one.image, other.image, atol=2e-2, rtol=1e-3)
    np.testing.assert_allclose(one.psf, other.psf, atol=1e-5)


def test_noise_becomes_one():
    planes = make_planes(np.random.default_rng(3).normal(7, 5, (200, 1, 26, 26)).astype(np.float32), 1, 26)
    assert planes.image.std() == pytest.approx(1, abs=0.06)
    assert planes.image.mean() == pytest.approx(0, abs=0.03)
    assert not planes.has_psf.any()


@pytest.mark.parametrize("side", [16, 20, 25, 26, 27, 40])
def test_the_middle_stays_the_middle(side):
    planes = make_planes(cutouts(side=side), 1, SIDE)
    assert planes.image.shape == (6, 1, SIDE, SIDE)
    peaks = [np.unravel_index(one.argmax(), one.shape) for one in planes.psf[:, 0]]
    assert set(peaks) == {(SIDE // 2, SIDE // 2)}
    assert planes.usable.all()


def test_missing_pixels_are_zero_and_missing_bands_do_not_count():
    given_ = cutouts(planes=4)
    given_[0, 0, :4] = np.nan  # a part
    given_[1, 0] = np.nan  # a band
    given_[2, 1, 13, 13] = np.inf  # in the middle
    given_[3, 0, :, :] = np.nan
    given_[3, 0, 10:17, 10:17] = 1.0  # too little left
    given_[4, 1] = 3.0  # without spread
    given_[5, 3] = np.nan  # no PSF
    planes = make_planes(given_, 2, SIDE)
    assert planes.usable.tolist() == [
        [True, True],
        [False, True],
        [True, False],
        [False, True],
        [True, False],
        [True, True],
    ]
    assert planes.has_psf[5].tolist() == [True, False]
    assert (planes.image[0, 0, :4] == 0).all()
    assert (planes.image[1, 0] == 0).all()
    assert np.isfinite(planes.image).all()
    assert np.isfinite(planes.psf).all()


def test_an_image_without_noise_stays_finite():
    planes = make_planes(cutouts()[:, 1:], 1, SIDE)
    assert planes.usable.all()
    assert 0 < planes.image.max() <= 1.01e4


def test_a_clipped_peak_does_not_count():
    given_ = cutouts()
    given_[0, 0, 12:15, 12:15] = 100.0
    assert make_planes(given_, 1, SIDE).usable[:2, 0].tolist() == [False, True]


@pytest.fixture(scope="module")
def field():
    return draw_field(DEEP, 2, 1, 60)


@pytest.fixture(scope="module")
def views(field):
    return band_views(make_planes(field.cutouts, 4, 26))


def test_are_finite_and_of_the_stated_form(views):
    assert views.pictures.shape == (60, 4, CHANNELS, 26, 26)
    assert views.features.shape == (60, 4, len(FEATURES))
    assert views.pictures.dtype == views.features.dtype == np.float32
    assert np.isfinite(views.pictures).all()
    assert np.isfinite(views.features).all()
    assert views.usable.all()
    assert views.has_psf.all()


def test_signal_is_the_ideal_one_and_stars_are_as_wide_as_the_psf(field, views):
    rows = [
        n for n, row in enumerate(field.rows) if row["label"] == "star" and not row["neighbour"] and row["iMag"] < 22
    ]
    assert len(rows) > 5
    ratio = views.features[rows, 2, FEATURES.index("size_ratio")]
    assert np.abs(ratio).max() < 0.08


def test_without_psf_its_measurements_are_zero(field):
    bare = band_views(make_planes(field.cutouts[:, :4], 4, 26))
    assert not bare.has_psf.any()
    assert (bare.features[..., OF_PSF:] == 0).all()
    assert (bare.pictures[:, :, 2:] == 0).all()


def test_a_missing_band_changes_no_other(field, views):
    holed = field.cutouts.copy()
    holed[:, [1, 5]] = np.nan
    other = band_views(make_planes(holed, 4, 26))
    assert not other.usable[:, 1].any()
    assert (other.features[:, 1] == 0).all()
    for band in (0, 2, 3):
        np.testing.assert_array_equal(other.features[:, band], views.features[:, band])
        np.testing.assert_array_equal(other.pictures[:, band], views.pictures[:, band])


def test_moments_come_first():
    assert FEATURES[: len(MOMENTS)] == MOMENTS
    assert FEATURES[OF_PSF] == "psf_size"


@settings(deadline=None)
@given(st.lists(st.one_of(st.just(np.nan), st.floats(-100, 100, width=16)), min_size=1, max_size=20))
def test_quartiles_are_those_of_numpy_of_what_is_known(values):
    median, lower = _quartiles(np.array([[values]], np.float32))
    if np.isfinite(values).any():
        assert median[0, 0] == pytest.approx(np.nanmedian(values), rel=1e-5, abs=1e-5)
        assert lower[0, 0] == pytest.approx(np.nanquantile(values, 0.25), rel=1e-5, abs=1e-5)
    else:
        assert np.isnan(median)
        assert np.isnan(lower)


def ring_of(images):
    """Pixels of the outermost 2 px of (n, bands, side, side)."""
    side = images.shape[-1]
    y, x = np.indices((side, side))
    return images[:, :, np.minimum(np.minimum(y, x), side - 1 - np.maximum(y, x)) < 2]


@pytest.mark.parametrize("side", [20, 26, 33])
def test_images_are_in_units_of_the_noise_of_their_border(side):
    given_ = cutouts(side=side, seed=4)
    given_[1, 0, :3, 5:9] = np.nan
    kept = given_[:, :1] if side <= 26 else given_[:, :1, side // 2 - 13 :, side // 2 - 13 :][..., :26, :26]
    planes = make_planes(given_, 1, SIDE)
    ring = ring_of(kept)
    level = np.nanmedian(ring, -1)[..., None, None]
    noise = (level - np.nanquantile(ring, 0.25, -1)[..., None, None]) / norm.ppf(0.75)
    first = max(0, 13 - side // 2)
    inner = planes.image[:, :, first : first + kept.shape[-2], first : first + kept.shape[-1]]
    np.testing.assert_allclose(inner, np.nan_to_num((kept - level) / noise), rtol=1e-4, atol=1e-4)
    assert np.count_nonzero(planes.image) == np.count_nonzero(inner)
    psf = planes.psf[:, :, first : first + kept.shape[-2], first : first + kept.shape[-1]]
    assert psf.max() == planes.psf.max() == 1


def test_noise_is_a_ten_thousandth_of_the_peak_at_least():
    image = np.full((1, 1, SIDE, SIDE), 5.0, np.float32)
    image[0, 0, 13, 13] = 25.0
    planes = make_planes(image, 1, SIDE)
    assert planes.image[0, 0, 13, 13] == pytest.approx(1e4, rel=1e-5)
    assert planes.usable.all()


def usable(change):
    """Whether a band counts whose pixels are changed."""
    image = np.random.default_rng(6).normal(0, 1, (1, 1, SIDE, SIDE)).astype(np.float32)
    change(image[0, 0])
    return bool(make_planes(image, 1, SIDE).usable[0, 0])


def test_half_of_the_pixels_of_a_band_are_enough():
    def hide(count):
        def change(image):
            order = np.argsort(-np.maximum(*np.abs(np.indices((SIDE, SIDE)) - 13)).ravel(), kind="stable")
            image.reshape(-1)[order[100 : 100 + count]] = np.nan  # a part of the border stays

        return change

    assert usable(hide(338))
    assert not usable(hide(339))


def test_a_dark_middle_of_a_border_without_spread_tells_no_noise():
    def change(image):
        image[9:18, 9:18] -= 50
        border = np.ones(image.shape, bool)
        border[9:18, 9:18] = False
        image[border] = 7.0

    assert not usable(change)


@pytest.mark.parametrize(("rise", "clipped"), [(1.0, True), (30.0, False)])
def test_a_clipped_peak_less_a_sky_that_rises_does_not_count(rise, clipped):
    given_ = cutouts()
    given_[0, 0, 12:15, 12:15] = 20_000.0
    given_[:, 0] -= rise * np.arange(SIDE, dtype=np.float32)  # 20 is a thousandth of the peak
    assert make_planes(given_, 1, SIDE).usable[:2, 0].tolist() == [not clipped, True]


def test_all_of_the_middle_three_by_three_must_be_known():
    for y in range(10, 17):
        for x in range(10, 17):
            inside = 12 <= y <= 14 and 12 <= x <= 14
            assert usable(lambda image, at=(y, x): image.__setitem__(at, np.nan)) == (not inside)


@pytest.mark.parametrize(
    ("places", "clipped"),
    [
        ([(13, 13), (13, 14), (14, 13), (14, 14)], True),
        ([(13, 13), (13, 14), (14, 13)], False),
        ([(9, 9), (9, 17), (17, 9), (17, 17)], True),
        ([(9, 9), (9, 17), (17, 9), (18, 17)], False),
        ([(9, 9), (9, 17), (17, 9), (17, 18)], False),
        ([(8, 9), (9, 17), (17, 9), (17, 17)], False),
        ([(9, 9), (9, 17), (17, 8), (17, 17)], False),
    ],
)
def test_four_pixels_of_the_highest_value_near_the_middle_are_clipped(places, clipped):
    def change(image):
        for place in places:
            image[place] = 50.0

    assert usable(change) == (not clipped)
    assert usable(lambda image: (change(image), image.__setitem__((2, 20), 60.0)))  # brighter ones elsewhere


def test_a_psf_is_whole_and_positive():
    given_ = cutouts(n=4)
    given_[1, 1, 3, 3] = np.nan
    given_[2, 1] = 0.0
    given_[3, 1] = -1.0
    planes = make_planes(given_, 1, SIDE)
    assert planes.has_psf[:, 0].tolist() == [True, False, False, False]
    assert not planes.psf[1:].any()


def test_some_of_the_cutouts_are_taken():
    planes = make_planes(cutouts(), 1, SIDE)
    rows = np.array([True, False, False, True, False, True])
    for part, whole in zip(planes.take(rows), planes, strict=True):
        np.testing.assert_array_equal(part, whole[rows])


def moments(**changed):
    plain = {name: np.array([0.5, 1.5], np.float32) for name in Moments._fields}
    return Moments(**(plain | {name: np.array(value, np.float32) for name, value in changed.items()}))


def test_features_of_moments_by_hand():
    source = moments(
        flux=[30.0, 500.0],
        sigma=[2.0, 3.0],
        e1=[0.3, 3.0],
        e2=[-0.4, 0.0],
        fourth=[1.5, 9.0],
        x=[0.3, -0.3],
        y=[0.4, 0],
    )
    point = moments(sigma=[1.5, 1.0], e1=[0.0, 0.5], e2=[0.1, 0.0], fourth=[0.5, -3.0])
    found = _moment_features(source, point, np.array([True, True]))
    root = np.sqrt(np.pi)
    expected = [
        [np.arcsinh(30 / (2 * root)), np.log(2), 0.5, 1.5, 0.5],
        [np.arcsinh(500 / (3 * root)), np.log(3), 2.0, 8.0, 0.3],
    ]
    both = [
        [np.log(1.5), np.log(2 / 1.5), np.hypot(0.3, 0.5), 1.0],
        [np.log(1.0), np.log(3.0), 2.0, 10.0],
    ]
    np.testing.assert_allclose(found, np.hstack([expected, both]), rtol=1e-5, atol=1e-6)
    without = _moment_features(source, point, np.array([False, True]))
    assert not without[0, OF_PSF:].any()
    np.testing.assert_array_equal(without[1], found[1])
    low = _moment_features(moments(fourth=[-5.0, -1.0]), moments(fourth=[0.0, 20.0]), np.array([True, True]))
    np.testing.assert_allclose(low[:, [3, 8]], [[-2, -2], [-1, -9]])


def test_pictures_are_brightness_in_noise_and_in_peaks_the_psf_and_what_it_leaves(field, views):
    planes = make_planes(field.cutouts, 4, 26)
    middle = planes.image[:, :, 9:17, 9:17]
    squares = sum(middle[:, :, j : j + 7, i : i + 7] for j in (0, 1) for i in (0, 1)) / 4
    peak = np.maximum(squares.max((2, 3)), 1)[..., None, None]
    np.testing.assert_allclose(views.pictures[:, :, 0], np.arcsinh(planes.image) / 4, rtol=1e-6)
    np.testing.assert_allclose(views.pictures[:, :, 1], np.clip(planes.image / peak, -1, 1.5), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(views.pictures[:, :, 2], planes.psf)
    faint = make_planes(np.random.default_rng(2).normal(0, 1, (3, 1, 26, 26)).astype(np.float32), 1, 26)
    seen = band_views(faint._replace(image=0.3 * faint.image))
    np.testing.assert_allclose(seen.pictures[:, 0, 1], np.clip(0.3 * faint.image[:, 0], -1, 1.5), rtol=1e-5)


def test_what_a_psf_leaves_is_the_residual_of_its_fit_at_the_places_of_the_moments():
    planes = make_planes(cutouts(), 1, SIDE)
    flat, psf = planes.image[:, 0].copy(), planes.psf[:, 0].copy()
    source, point = adaptive_moments(flat), adaptive_moments(psf)
    features, left = np.zeros((6, len(FEATURES) - len(MOMENTS)), np.float32), np.zeros_like(flat)
    apart = np.stack([source.x - point.x, source.y - point.y], 1)
    psf_contrast(flat, psf, apart, np.stack([source.x, source.y], 1), point.sigma, features, left)
    views = band_views(planes)
    np.testing.assert_array_equal(views.features[:, 0, len(MOMENTS) :], features)
    np.testing.assert_allclose(views.pictures[:, 0, 3], np.arcsinh(left) / 4, rtol=1e-6)
    bare = band_views(planes._replace(has_psf=np.zeros((6, 1), bool)))
    assert not bare.pictures[:, :, 2].any()
    assert not bare.has_psf.any()
