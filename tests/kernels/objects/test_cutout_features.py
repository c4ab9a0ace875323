import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import DEEP
from kernels.objects.cutout_features import CHANNELS, FEATURES, MOMENTS, OF_PSF, band_views, make_planes

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
