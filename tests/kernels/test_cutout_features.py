import numpy as np
import pytest

from flows.simulation.cutout_field import draw_field
from flows.simulation.cutout_survey import DEEP
from kernels.cutout_features import CHANNELS, FEATURES, MOMENTS, OF_PSF, band_views
from kernels.cutout_planes import make_planes


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
