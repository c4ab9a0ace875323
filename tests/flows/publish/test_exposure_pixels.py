"""Pixels of alerts; whole alerts: test_rubin_alert.py."""

import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import mad_std

from flows.publish.exposure_pixels import ExposurePixels, _level_and_scatter, _medians, _variance, opened_pixels
from flows.publish.stamps import Stamps
from flows.storage.layout import tile_path
from kernels.measure.photometry import njy_per_unit
from schemas.alert_settings import AlertSettings
from schemas.exposure import ExposureKey
from schemas.pixels import MaskPlane
from tests.support.alert_night import FLUX, exposure_planes, info_of, put, rows_of

RNG = np.random.default_rng(2)
X, Y = np.array([40.3, 201.8]), np.array([52.1, 160.4])


def stamps_of(**planes):
    count, side = next(iter(planes.values())).shape[:2]
    blank = np.zeros(count, np.int64)
    return Stamps(np.arange(count), side, blank, blank, planes, blank)


@pytest.mark.parametrize("side", [3, 4])
def test_medians_and_scatter_are_those_of_the_pixels_with_a_value(side):
    data = RNG.normal(50, 4, (6, side, side)).astype(np.float32)
    for n in range(6):
        data[n].ravel()[RNG.permutation(side**2)[:n]] = np.nan
    np.testing.assert_allclose(_medians(data), [np.nanmedian(one) for one in data], rtol=1e-6)
    level, scatter = _level_and_scatter(data)
    np.testing.assert_allclose(level, _medians(data))
    np.testing.assert_allclose(scatter, [mad_std(one, ignore_nan=True) for one in data], rtol=1e-4)


def test_variances_are_stored_or_those_of_noise_and_light():
    flat, side = np.full((1, 2, 2), 103.0, np.float32), 2
    flat[0, 0] = [203, np.nan]
    info = info_of(0, background=3.0, noise=2.0, gain=4.0)
    own = np.full((1, side, side), 7, np.float32)
    np.testing.assert_array_equal(_variance("difference", stamps_of(difference=flat, variance=own), info), own)
    expected = [[[4 + 50, np.nan], [4 + 25, 4 + 25]]]
    np.testing.assert_allclose(_variance("difference", stamps_of(difference=flat), info), expected)
    unknown = info_of(0, background=3.0, noise=2.0, gain=None)
    np.testing.assert_allclose(_variance("difference", stamps_of(difference=flat), unknown), [[[4, np.nan], [4, 4]]])


def test_of_other_planes_the_noise_is_the_scatter_of_the_cutout():
    data = RNG.normal(500, 6, (1, 60, 60)).astype(np.float32)
    data[0, 30, 30] = 2500
    info = info_of(0, background=3.0, noise=2.0, gain=4.0)
    science, template = (_variance(name, stamps_of(**{name: data}), info)[0] for name in ("science", "template"))
    np.testing.assert_allclose(template, mad_std(data) ** 2, rtol=1e-3)  # whose gain is not that of the exposure
    assert science[30, 30] - template[30, 30] == pytest.approx(500, abs=2)
    assert (science >= template).all()


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    info = info_of(0, gain=4.0)
    put(out, info, rows_of(info, X, Y), exposure_planes(info, X, Y, 3))
    return out, info


def test_detections_have_their_fluxes_and_their_cutouts(night):
    out, info = night
    pixels = opened_pixels(out, ExposureKey(night=info.night, visit=info.visit, detector=info.detector))
    rows = rows_of(info, X, Y, bboxSize=np.array([9, 400]))
    found = list(pixels.pictured(rows, AlertSettings(cutout_min=31, cutout_max=41)))
    assert min(len(one.cutouts["cutoutScience"][0]) for one in found) % 2880 == 0
    scale = 10 ** ((31.4 - info.zero_point) / 2.5)
    seen = {}
    for part in found:
        assert set(part.cutouts) == {"cutoutDifference", "cutoutScience", "cutoutTemplate"}
        for n, flux, error in zip(part.which, part.values["scienceFlux"], part.values["scienceFluxErr"], strict=True):
            seen[int(n)] = flux
            assert flux == pytest.approx(2 * scale * FLUX, abs=4 * error)
        for flux, error in zip(part.values["templateFlux"], part.values["templateFluxErr"], strict=True):
            assert flux == pytest.approx(scale * FLUX, abs=4 * error)
    assert set(seen) == {0, 1}


def test_the_picture_of_the_psf_is_of_one_unit_of_light_and_reaches_three_fwhm(night):
    out, info = night
    image = opened_pixels(out, info)._psf_image
    assert image.shape == (2 * 7 + 1,) * 2  # of 2.2 px
    assert image.sum() == pytest.approx(1)
    assert np.unravel_index(image.argmax(), image.shape) == (7, 7)
    np.testing.assert_array_equal(image, image.T)
    assert (image[7, 8:] < image[7, 7:-1]).all()


@pytest.mark.parametrize(
    ("change", "science", "template"),
    [
        ({}, True, True), ({"flags": ()}, True, False), ({"flags": (), "pixel_unit": "nJy"}, True, True),
        ({"zero_point": None, "pixel_unit": "adu"}, False, False),
    ],
)  # fmt: skip
def test_a_plane_has_nJy_where_its_zero_point_is_known(tmp_path, change, science, template):  # noqa: N802
    info = info_of(0, **change)
    put(tmp_path, info, rows_of(info, X, Y), exposure_planes(info, X, Y, 3))
    pixels = opened_pixels(tmp_path, info)
    assert isinstance(pixels, ExposurePixels)
    scales = {name: pixels._scale(name) for name in ("difference", "science", "template")}
    assert [scales[name] is not None for name in ("difference", "science", "template")] == [science, science, template]
    if science:
        assert scales["science"] == pytest.approx(10 ** ((31.4 - info.ab_zero_point) / 2.5))


def test_pixels_that_were_removed_are_none(tmp_path):
    assert opened_pixels(tmp_path, ExposureKey(night="20260101", visit=1, detector=0)) is None
    assert not tile_path(tmp_path, ExposureKey(night="20260101", visit=1, detector=0)).exists()


@pytest.mark.parametrize("plane", ["difference", "science"])
def test_a_cutout_in_njy_has_the_signal_to_noise_of_its_pixels(night, plane):
    out, info = night
    pixels = opened_pixels(out, info)
    data = RNG.normal(30, 6, (2, 15, 15)).astype(np.float32)
    stamps = stamps_of(**{plane: data}, mask=np.zeros(data.shape, np.uint16))
    found, scale = pixels._picture(plane, stamps), 10 ** ((31.4 - info.zero_point) / 2.5)
    np.testing.assert_allclose(found.data, scale * data, rtol=1e-5)
    np.testing.assert_allclose(found.data**2 / found.variance, data**2 / _variance(plane, stamps, info), rtol=1e-5)
    assert (found.unit, scale > 1.5) == ("nJy", True)


def test_masked_pixels_are_left_out_of_fluxes_and_are_in_cutouts(tmp_path):
    info = info_of(0, gain=4.0)
    planes = exposure_planes(info, X, Y, 3)
    row, column = round(float(Y[0])), round(float(X[0]))
    planes["mask"][row, column] = MaskPlane.SAT
    planes["science"][row, column] = 5e4
    rows = rows_of(info, X, Y, bboxSize=np.array([31, 31]))
    put(tmp_path, info, rows, planes)
    pixels = opened_pixels(tmp_path, ExposureKey(night=info.night, visit=info.visit, detector=info.detector))
    (found,) = pixels.pictured(rows, AlertSettings(cutout_min=31, cutout_max=41))
    assert found.values["scienceFlux"][0] == pytest.approx(found.values["scienceFlux"][1], rel=0.5)
    with fits.open(io.BytesIO(found.cutouts["cutoutScience"][0])) as units:
        assert np.isfinite(units[0].data).all()
        assert units[0].data.max() == pytest.approx(5e4 * njy_per_unit(info.ab_zero_point), rel=1e-5)
